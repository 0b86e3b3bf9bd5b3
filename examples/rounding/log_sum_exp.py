"""log Σ exp(x): infinite for x = 1000, unless the largest x is taken out first.

    graphlens explain examples/rounding/log_sum_exp.py:naive --only rounding

exp(1000) is 2·10⁴³⁴ and float64 ends at 1.8·10³⁰⁸, though the result is a harmless 1001.3.
"""

import torch

import graphlens


def numbers() -> torch.Tensor:
    return torch.tensor([1000.0, 1001.0], dtype=torch.float64, requires_grad=True)


def naive() -> graphlens.Subject:
    def run(x):
        powers = torch.exp(x)
        return torch.log(powers.sum())

    return graphlens.Subject(run, [numbers()], name="log of the sum", output_names=["value"])


def shifted() -> graphlens.Subject:
    def run(x):
        largest = x.max()
        return largest + torch.log(torch.exp(x - largest).sum())

    return graphlens.Subject(run, [numbers()], name="largest taken out", output_names=["value"])


def main() -> None:
    for factory in (naive, shifted):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
