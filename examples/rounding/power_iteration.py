"""Power iteration forgets its rounding errors, and lives on the first one.

    graphlens explain examples/rounding/power_iteration.py:first_step --only rounding

The starting vector (1, 1, 1) belongs to an eigenvalue that is 0 but for the rounding of A's entries:
A x is nothing but rounding, and not one digit of it is right. It has a part along the dominant
eigenvector all the same, and 60 steps later the result is right to the last digit (Higham 2002,
section 1.16, "Beneficial effects of rounding errors").
"""

import torch

import graphlens


def matrix() -> torch.Tensor:
    rows = [[0.4, -0.6, 0.2], [-0.3, 0.7, -0.4], [-0.1, -0.4, 0.5]]
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def iterated(steps: int = 60) -> graphlens.Subject:
    def run(a):
        x = torch.ones(3, dtype=torch.float64)
        for _ in range(steps):
            y = a @ x
            x = y / torch.sqrt(y @ y)
        return x, x @ a @ x

    return graphlens.Subject(run, [matrix()], name=f"{steps} steps", output_names=["vector", "eigenvalue"])


def first_step() -> graphlens.Subject:
    return iterated(1)


def main() -> None:
    for factory in (first_step, iterated):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
