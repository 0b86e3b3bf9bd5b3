"""(1 − cos x) ÷ x² near 0: the difference keeps no digit, though every single op is right to the last one.

    graphlens explain examples/rounding/cosine.py:naive --only rounding

The true value lies between 0 and 1/2; float64 gives 0.77 (Higham 2002, section 1.7). The mended value
is right to the last digit. Its derivative, −x/12, is so small beside the terms that make it that no
digit of that is right in either form: the function is flat there.
"""

import torch

import graphlens


def argument(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def naive(x: float = 1.2e-8) -> graphlens.Subject:
    def run(x):
        difference = 1 - torch.cos(x)
        return difference / x**2

    return graphlens.Subject(run, [argument(x)], name="(1 - cos x) / x^2", output_names=["value"])


def stable(x: float = 1.2e-8) -> graphlens.Subject:
    def run(x):
        return (torch.sin(x / 2) / (x / 2)) ** 2 / 2

    return graphlens.Subject(run, [argument(x)], name="sin^2(x/2) / (x^2/2)", output_names=["value"])


def main() -> None:
    for factory in (naive, stable):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
