"""Numbers that leave the range of their format, saturate, or are rounded to a narrower one."""

import torch

from tests.losses.registry import Pair, faulty, leaf, wanted

DOUBLE = torch.float64


@faulty("GL306", gains=10, level="error")
def softmax_spelt_out():
    def bad(x):
        powers = torch.exp(x)  # <- fault
        return powers / powers.sum()

    def good(x):
        return torch.softmax(x, 0)

    return Pair(bad, good, [leaf(1000.0, 1001.0, 999.5)])


@faulty("GL306", gains=10, level="error")
def logarithm_of_softmax():
    def bad(x):
        shares = torch.softmax(x, 0)  # <- fault
        return -torch.log(shares)[1]

    def good(x):
        return -torch.log_softmax(x, 0)[1]

    return Pair(bad, good, [leaf(1000.0, 1.0, -4.0)])


@faulty("GL306", gains=5, level="error")
def logarithm_of_softmax_in_single():
    def bad(x):
        shares = torch.softmax(x, 0)  # <- fault
        return -torch.log(shares)[1]

    def good(x):
        return -torch.log_softmax(x, 0)[1]

    return Pair(bad, good, [leaf(150.0, 1.0, -4.0, dtype=torch.float32)])


@faulty("GL306", gains=10, level="error")
def likelihood_as_a_product():
    def bad(p):
        whole = p.prod()  # <- fault
        return torch.log(whole)

    def good(p):
        return torch.log(p).sum()

    return Pair(bad, good, [wanted(torch.rand(700, dtype=DOUBLE) / 2 + 0.01)])


@faulty("GL306", gains=10, level="error")
def log_of_a_sum_of_large_exponentials():
    def bad(x):
        powers = x.exp()  # <- fault
        return powers.sum().log()

    def good(x):
        return torch.logsumexp(x, 0)

    return Pair(bad, good, [leaf(800.0, 799.0)])


@faulty("GL306", gains=10, level="error")
def log_of_a_sum_of_small_exponentials():
    def bad(x):
        powers = x.exp()  # <- fault
        return powers.sum().log()

    def good(x):
        return torch.logsumexp(x, 0)

    return Pair(bad, good, [leaf(-800.0, -799.0)])


@faulty("GL306", gains=10, level="error")
def length_of_a_huge_vector():
    def bad(x):
        squares = x * x  # <- fault
        return torch.sqrt(squares.sum())

    def good(x):
        largest = x.detach().abs().max()
        return largest * torch.sqrt(((x / largest) ** 2).sum())

    return Pair(bad, good, [leaf(3e200, 4e200)])


@faulty("GL306", gains=2, level="error")
def squares_in_half_precision():
    def bad(x):
        squares = x * x  # <- fault
        return squares.mean().sqrt()

    def good(x):
        wide = x.float()
        return (wide * wide).mean().sqrt().to(x.dtype)

    return Pair(bad, good, [leaf(300.0, 200.0, dtype=torch.float16)])


@faulty("GL306", gains=10, level="error")
def complement_of_a_saturated_sigmoid():
    def bad(x):
        share = torch.sigmoid(x)  # <- fault
        return torch.log(1 - share)

    def good(x):
        return -torch.nn.functional.softplus(x)

    return Pair(bad, good, [leaf(40.0)])


@faulty("GL306", gains=10, level="error")
def gradient_of_a_saturated_sigmoid():
    def bad(x):
        return torch.sigmoid(x).square()  # <- fault

    def good(x):
        return torch.exp(-2 * torch.nn.functional.softplus(-x))

    return Pair(bad, good, [leaf(40.0)])


@faulty("GL306", gains=4)
def subnormal_on_the_way():
    def bad(x):
        tiny = x * 1e-20 * 1e-22  # <- fault
        return tiny * 1e30

    def good(x):
        return x * 1e-12

    return Pair(bad, good, [leaf(0.3, 0.7, dtype=torch.float32)])


@faulty("GL306", gains=10, level="error")
def probability_of_many_failures():
    def bad(p):
        chance = (1 - p) ** 500  # <- fault
        return -torch.log(chance)

    def good(p):
        return -500 * torch.log(1 - p)

    return Pair(bad, good, [leaf(0.9, 0.8)])


# Casts


@faulty("GL307", gains=7)
def a_detour_through_single():
    def bad(x):
        narrow = x.float()  # <- fault
        return torch.sin(narrow.double()) * x

    def good(x):
        return torch.sin(x) * x

    return Pair(bad, good, [leaf(0.3, 0.7, 1.9)])


@faulty("GL307", gains=7)
def weights_converted_to_single():
    def bad(w, x):
        return (w.to(torch.float32) * 1.0).to(torch.float64) @ x  # <- fault

    def good(w, x):
        return (w * 1.0) @ x

    return Pair(bad, good, [wanted(torch.rand(3, 4, dtype=DOUBLE)), wanted(torch.rand(4, dtype=DOUBLE))])


@faulty("GL307", gains=3, level="info")
def an_activation_stored_in_bfloat16():
    def bad(w, x):
        kept = torch.tanh(w @ x).bfloat16()  # <- fault
        return kept.float().sum()

    def good(w, x):
        return torch.tanh(w @ x).sum()

    return Pair(bad, good, [wanted(torch.rand(6, 4)), wanted(torch.rand(4))])
