"""Cross-entropy of float32 logits around 100: NaN spelt out, infinite by log(softmax), right by log_softmax.

    graphlens explain examples/rounding/softmax.py:spelt_out --only rounding

exp(100) is 2.7·10⁴³ and float32 ends at 3.4·10³⁸. torch.softmax takes the largest logit out first, but
its result 10⁻⁵² is 0 in float32, and the logarithm of that is infinite.
"""

import torch

import graphlens


def logits() -> torch.Tensor:
    return torch.tensor([[120.0, 0.5, 100.0]], requires_grad=True)


def spelt_out() -> graphlens.Subject:
    def run(logits):
        powers = torch.exp(logits)
        return -torch.log(powers / powers.sum())[0, 1]

    return graphlens.Subject(run, [logits()], name="exp and log", output_names=["loss"])


def log_of_softmax() -> graphlens.Subject:
    def run(logits):
        shares = torch.softmax(logits, 1)
        return -torch.log(shares)[0, 1]

    return graphlens.Subject(run, [logits()], name="log of softmax", output_names=["loss"])


def log_softmax() -> graphlens.Subject:
    def run(logits):
        return -torch.log_softmax(logits, 1)[0, 1]

    return graphlens.Subject(run, [logits()], name="log_softmax", output_names=["loss"])


def main() -> None:
    for factory in (spelt_out, log_of_softmax, log_softmax):
        print(f"{factory.__name__}\n{graphlens.explain(factory(), topics=['rounding'])}\n")


if __name__ == "__main__":
    main()
