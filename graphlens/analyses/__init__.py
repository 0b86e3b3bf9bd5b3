"""Model in, frozen records out; no torch."""
