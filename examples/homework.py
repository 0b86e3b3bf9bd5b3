"""The exercise, tasks A to F, done right, with its reference values.

    python examples/homework.py [FOLDER]     # plots go to FOLDER, by default a new temporary one

g_T(x, A; M) = M⁻¹ f_T((A⁻¹A)ⁿ M x), with component-wise soft-thresholding f_T and n = 10,000.
Each task ends with a sentence on what a well-known published solution does differently.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from pathlib import Path

import numpy
import torch

import graphlens
from graphlens.capture.curve import sample_curve
from graphlens.lessons.soft_threshold import soft_threshold, soft_threshold_scalar
from graphlens.records import Curve
from graphlens.views.curve_plot import plot_curve

T, N = 3.14, 10_000

# Exact arithmetic on the float64 data, rounded.
G = (-0.63275396618493594, 6.8930119416639228, -0.51796373375723684, 1.2437710649865224, -0.68157579585812585)
PHI = 14.068826814584303887
DPHI_DX = (20.204528364450969, -1.6788291194069425, -5.3507087371350766, 13.740343014597729, -6.5955547609308216)


def say(text: str) -> None:
    """Print a sentence or two in lines of at most 80 columns."""
    print(textwrap.fill(text, 80, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False))


def task_a() -> None:
    """Soft-thresholding of a scalar, and of each component."""
    print("A  f_T of a scalar, T = 3.14")
    for y in (-10.0, -T, 0.0, T, 10.0):
        scalar = soft_threshold_scalar(torch.tensor(y, dtype=torch.float64), T)
        vectorised = soft_threshold(torch.tensor([y], dtype=torch.float64), T)
        assert scalar.item() == vectorised.item()
        print(f"   f_T({y:6.2f}) = {scalar.item():6.2f}")


def task_b(folder: Path) -> Curve:
    """The derivative as PyTorch returns it, `None` included, and the plot of both."""
    curve = sample_curve(graphlens.lesson("soft-threshold", T=T), -10.0, 10.0, 2001)
    flat = [y for y, slope in zip(curve.points, curve.derivatives, strict=True) if slope is None]
    path = folder / "soft-threshold.svg"
    path.write_bytes(plot_curve(curve, "svg", title=f"Soft-thresholding, T = {T}"))
    print(f"B  The plot of f_T and its derivative: {path}")
    say(
        f"f_T′ is 1 outside [−T, T]; inside autograd returns None for {len(flat)} of {len(curve.points)} points. "
        "None says that the output does not depend on the input; it stands for 0, at y = ±T too."
    )
    say(
        "The published solution returns zeros_like(y, requires_grad=True) there: a new leaf that nobody owns, so "
        "that a gradient flows into a tensor without a name."
    )
    return curve


def task_c_d() -> graphlens.Trace:
    """The module with M as its parameter, evaluated at the given data."""
    trace = graphlens.trace(graphlens.lesson("wasteful", n=N, T=T), repeats=3)
    g = trace.outputs["g"].numpy()
    print(f"D  g = {numpy.array2string(g, precision=10)}")
    print(f"   largest distance from the exact value: {numpy.abs(g - G).max():.1e}")
    print("   The published solution's printed g agrees with it in all of its digits.")
    return trace


def task_e(trace: graphlens.Trace) -> None:
    """Gradients of φ = ‖x − g‖² with respect to x, A and M, forward and backward timed apart."""
    forward, backward = trace.timings.forward, trace.timings.backward
    assert forward is not None
    assert backward is not None
    print(f"E  φ = {trace.loss:.12f}, exact {PHI:.12f}")
    for name, gradient in trace.gradients.items():
        assert gradient is not None
        print(f"   dφ/d{name}: largest entry {gradient.abs().max().item():.4g}")
    print(f"   forward {forward.median * 1e3:.0f} ms, backward {backward.median * 1e3:.0f} ms")
    severed = graphlens.trace(graphlens.lesson("severed", n=N, T=T), repeats=3)
    wrong = severed.gradients["x"]
    assert wrong is not None
    assert severed.timings.backward is not None
    say(
        f"The published solution's dφ/dx is {numpy.array2string(wrong.numpy(), precision=4)}: wrong. "
        "torch.tensor([...]) copies values out of the graph, so that no gradient reaches the chain; its backward "
        f"pass takes {severed.timings.backward.median * 1e3:.2f} ms because it skips the chain, and M, which is a "
        "parameter, is left out of its gradients altogether."
    )


def task_f(wasteful: graphlens.Trace) -> graphlens.Comparison:
    """The efficient module, and why the two differ."""
    efficient = graphlens.trace(graphlens.lesson("efficient", n=N, T=T), repeats=3)
    gradient = efficient.gradients["x"]
    assert gradient is not None
    assert numpy.allclose(gradient.numpy(), DPHI_DX, rtol=1e-12)
    comparison = graphlens.compare(wasteful, efficient)
    print("F")
    print(comparison)
    say(
        "The published solution says that I is computed as AᵀA; it is A⁻¹A. And it finds no big difference between "
        "the gradients because it compares two graphs that were both cut at the same place.",
    )
    return comparison


def main(folder: Path) -> None:
    task_a()
    task_b(folder)
    trace = task_c_d()
    task_e(trace)
    task_f(trace)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="homework-")))
