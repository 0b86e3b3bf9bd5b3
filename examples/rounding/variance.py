"""The sample variance of 10000, 10001, 10002 in float32: 1 in two passes, 0 in one.

    graphlens explain examples/rounding/variance.py:one_pass --only rounding

Σx² and (Σx)² ÷ n have some 9 digits each, of which float32 keeps 7; their difference is what was
lost (Higham 2002, section 1.9).
"""

import torch

import graphlens


def sample() -> torch.Tensor:
    return torch.tensor([10000.0, 10001.0, 10002.0], requires_grad=True)


def one_pass() -> graphlens.Subject:
    def run(x):
        squares, total = (x * x).sum(), x.sum()
        return (squares - total * total / len(x)) / (len(x) - 1)

    return graphlens.Subject(run, [sample()], name="one pass", output_names=["variance"])


def two_passes() -> graphlens.Subject:
    def run(x):
        deviations = x - x.mean()
        return (deviations * deviations).sum() / (len(x) - 1)

    return graphlens.Subject(run, [sample()], name="two passes", output_names=["variance"])


def main() -> None:
    for factory in (one_pass, two_passes):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
