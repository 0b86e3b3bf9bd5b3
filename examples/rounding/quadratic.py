"""The small root of x² + b x + 1 = 0 for b = 10⁸: the formula of the textbook, and the one that keeps its digits.

    graphlens explain examples/rounding/quadratic.py:naive --only rounding

−b + √(b² − 4) subtracts two nearly equal numbers. The large root does not, and the product of both
roots is known (Higham 2002, section 1.8).
"""

import torch

import graphlens


def coefficient(b: float) -> torch.Tensor:
    return torch.tensor(b, dtype=torch.float64, requires_grad=True)


def naive(b: float = 1e8) -> graphlens.Subject:
    def run(b):
        root = torch.sqrt(b * b - 4)
        return (root - b) / 2

    return graphlens.Subject(run, [coefficient(b)], name="textbook formula", output_names=["root"])


def stable(b: float = 1e8) -> graphlens.Subject:
    def run(b):
        root = torch.sqrt(b * b - 4)
        return -2 / (b + root)

    return graphlens.Subject(run, [coefficient(b)], name="by the large root", output_names=["root"])


def main() -> None:
    for factory in (naive, stable):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
