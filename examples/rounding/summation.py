"""A large number and many small ones: a running sum loses them all, Kahan's sum keeps them.

    graphlens explain examples/rounding/summation.py:naive --only rounding

In float32 (u = 6e-8) 1 + 5.5e-8 is 1, however often it is done. Kahan's algorithm carries what each
addition lost to the next one: N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
2nd ed. 2002, section 4.3.
"""

import torch

import graphlens


def terms(n: int) -> torch.Tensor:
    return torch.cat([torch.ones(1), torch.full((n,), 5.5e-8)]).requires_grad_()


def naive(n: int = 1500) -> graphlens.Subject:
    def run(x):
        total = x[0]
        for term in x[1:]:
            total = total + term
        return total

    return graphlens.Subject(run, [terms(n)], name="naive sum", output_names=["total"])


def compensated(n: int = 1500) -> graphlens.Subject:
    def run(x):
        total, lost = x[0], torch.zeros(())
        for term in x[1:]:
            wanted = term - lost
            larger = total + wanted
            lost = (larger - total) - wanted
            total = larger
        return total

    return graphlens.Subject(run, [terms(n)], name="compensated sum", output_names=["total"])


def main() -> None:
    for factory in (naive, compensated):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
