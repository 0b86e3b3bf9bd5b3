"""Muller's recurrence: in exact arithmetic it tends to 5, on every computer to 100.

    graphlens explain examples/rounding/muller.py:recurrence --only rounding

x₀ = 4, x₁ = 17/4, xₙ₊₁ = 108 − (815 − 1500 ÷ xₙ₋₁) ÷ xₙ. All numbers are exact in float64, and no op
loses more than one rounding; but 100 attracts what 5 repels, and each step makes the error some 20
times larger (J.-M. Muller, "Handbook of Floating-Point Arithmetic", 2nd ed. 2018, section 1.3.2).
"""

import torch

import graphlens


def recurrence(n: int = 25) -> graphlens.Subject:
    def run(older, newer):
        for _ in range(n - 1):
            older, newer = newer, 108 - (815 - 1500 / older) / newer
        return newer

    start = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (4.0, 4.25)]
    return graphlens.Subject(run, start, name=f"x_{n}", output_names=["x"])


def few_steps() -> graphlens.Subject:
    return recurrence(3)


def main() -> None:
    for factory in (few_steps, recurrence):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
