"""The best polynomial through moments: with the powers of x a Hilbert matrix, with Legendre's polynomials a diagonal.

    graphlens explain examples/rounding/hilbert.py:monomials --set n=10 --only rounding

The Hilbert matrix, with entries 1 ÷ (i + j + 1), has a condition number that grows like 33.97ⁿ ÷ √n
(Higham 2002, section 28.1): every row more costs 1.5 digits.
"""

import torch

import graphlens

DOUBLE = torch.float64


def right_side(n: int) -> torch.Tensor:
    return (1 / (torch.arange(n, dtype=DOUBLE) + 2)).requires_grad_()


def monomials(n: int = 8) -> graphlens.Subject:
    i = torch.arange(n, dtype=DOUBLE)
    gram = (1 / (i[:, None] + i + 1)).requires_grad_()

    def run(gram, moments):
        return torch.linalg.solve(gram, moments)

    return graphlens.Subject(run, [gram, right_side(n)], name="powers of x", output_names=["coefficients"])


def legendre(n: int = 8) -> graphlens.Subject:
    gram = torch.diag(1 / (2 * torch.arange(n, dtype=DOUBLE) + 1)).requires_grad_()

    def run(gram, moments):
        return torch.linalg.solve(gram, moments)

    return graphlens.Subject(run, [gram, right_side(n)], name="Legendre", output_names=["coefficients"])


def main() -> None:
    for factory in (monomials, legendre):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
