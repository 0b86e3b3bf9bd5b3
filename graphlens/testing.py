"""Assertions for people's own test suites."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def assert_connected(
    loss: torch.Tensor | Callable[[], Any], module: torch.nn.Module, *, ignore: Iterable[str] = ()
) -> None:
    """Assert that every parameter that requires a gradient is connected to the loss.

    Args:
        loss: the loss of a forward pass that was run; or a function without arguments that runs it,
            `lambda: criterion(model(x), y)`. A function is recorded, so that the message names the
            line where a parameter is lost, and its backward pass is run too, which finds gradients
            that are 0 by an op's nature, not finite, or cannot be computed.
        module: whose parameters are meant.
        ignore: names of parameters that need no gradient, with wildcards: "target.*".

    Raises:
        AssertionError: naming the parameters, and for a function the findings.
    """
    ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    if callable(loss):
        message = _recorded(loss, module, ignored)
    else:
        message = _captured(loss, module, ignored)
    if message:
        raise AssertionError(message)


def _captured(loss: torch.Tensor, module: torch.nn.Module, ignored: tuple[str, ...]) -> str:
    from graphlens.capture.build import capture
    from graphlens.errors import NoGraphError

    parameters = {name: item for name, item in module.named_parameters() if not _matches(name, ignored)}
    try:
        graph = capture(loss, parameters)
    except NoGraphError as error:
        return str(error)
    lost = [item.name for item in graph.inputs if item.requires_grad and item.node is None]
    if not lost:
        return ""
    names = ", ".join(lost[:20]) + (f" and {len(lost) - 20:,} more" if len(lost) > 20 else "")
    return (
        f"the loss is not connected to {names}; pass a function that runs the forward pass, "
        "assert_connected(lambda: …, module), to be told where they are lost"
    )


def _recorded(run: Callable[[], Any], module: torch.nn.Module, ignored: tuple[str, ...]) -> str:
    from graphlens.analyses.connectivity import connectivity
    from graphlens.capture.trace import observe_call
    from graphlens.views.check_report import findings_text

    found = connectivity(observe_call(run, module).observation, ignored)
    # What was not measured is so because the backward pass failed, which is an error of its own.
    fine = ("receives a gradient", "receives a gradient that is 0 for this data", "frozen", "not measured", "ignored")
    lost = [v.name for v in found.verdicts if v.verdict not in fine]
    useless = [item for item in found.findings if item.level == "error" and not _leaves(item.evidence)]
    if not lost and not useless:
        return ""
    told = [item for item in found.findings if item in useless or set(_leaves(item.evidence)) & set(lost)]
    verdicts = [f"{v.name}: {v.verdict}" for v in found.verdicts if v.name in lost]
    more = [f"… and {len(verdicts) - 20:,} more"] if len(verdicts) > 20 else []
    return "\n".join([*verdicts[:20], *more, "", findings_text(told)]).strip()


def _leaves(evidence: Any) -> list[str]:
    names = evidence.get("lost") or evidence.get("leaves") or evidence.get("gradients_not_finite") or []
    return list(names) if isinstance(names, list) else []


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
