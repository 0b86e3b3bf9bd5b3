"""Reruns of a recorded program in other arithmetic: the exact reference and the rounding error of each op."""
