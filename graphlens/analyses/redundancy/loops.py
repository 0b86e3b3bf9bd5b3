"""GL205: a Python loop over the entries of a tensor that ops on the whole tensor would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphlens.analyses.findings import Finding
from graphlens.analyses.listing import Listing, Step
from graphlens.analyses.redundancy.telling import Telling, nodes_of

_FEWEST = 4  # parts
_MOST = 64  # steps between a part and its place in the result

_PARTS = frozenset(("unbind", "select", "slice", "split", "split_with_sizes"))
_NAMES = """
    add sub rsub mul div neg abs reciprocal sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan tanh sigmoid
    erf pow square relu clamp clamp_min clamp_max maximum minimum where sign sgn zeros_like ones_like full_like
    zeros ones full threshold gelu silu elu softplus softshrink hardtanh masked_fill gt lt ge le eq ne clone _to_copy
    view unsqueeze squeeze reshape expand logical_and logical_or logical_not floor ceil round scalar_tensor
"""
_ELEMENTWISE = frozenset(_NAMES.split())


def loop_findings(alive: Sequence[Step], listing: Listing, telling: Telling) -> Iterator[Finding]:
    """Where the parts of one tensor, each treated by itself, are put together again."""
    made_by = {value: step for step in alive for value in step.outputs if value is not None}
    for step in alive:
        if step.op not in ("stack", "cat") or len(step.inputs) < _FEWEST or step.node is None:
            continue
        found = _treated_alone(step, made_by)
        if found is None:
            continue
        base, between = found
        work = [each for each in between if each.node is not None and each.op not in _PARTS]
        if len(work) >= _FEWEST // 2 and base is not None:
            yield _finding(step, base, between, listing, telling)


def _treated_alone(step: Step, made_by: Mapping[int, Step]) -> tuple[int | None, list[Step]] | None:
    """The tensor whose parts arrive, and the steps on the way; None if the parts meet, or come from several."""
    base: int | None = None
    between: dict[int, Step] = {}
    taken: set[tuple[int, object]] = set()
    for value in step.inputs:
        own: set[tuple[int, object]] = set()
        waiting = [value]
        steps = 0
        while waiting:
            number = waiting.pop()
            maker = made_by.get(number)
            if maker is None:
                continue  # a leaf or a constant that all may share
            if maker.op in _PARTS:
                part = (maker.inputs[0], maker.outputs.index(number) if maker.op == "unbind" else maker.attributes)
                if base is not None and maker.inputs[0] != base:
                    return None
                base = maker.inputs[0]
                own.add(part)
                between[id(maker)] = maker
                continue
            steps += 1
            if maker.op not in _ELEMENTWISE or steps > _MOST:
                return None
            between[id(maker)] = maker
            waiting.extend(maker.inputs)
        if len(own) > 1 or own & taken:
            return None
        taken |= own
    return base, list(between.values())


def _finding(step: Step, base: int, between: list[Step], listing: Listing, telling: Telling) -> Finding:
    nodes = nodes_of([*between, step])
    work = [each for each in between if each.op not in _PARTS and each.node is not None]
    shape = list(listing.values[base].shape)
    saving = telling.savings.of(nodes)
    return Finding(
        "GL205",
        "info",
        f"{len(step.inputs):,} parts of one tensor of shape {shape} are treated one by one, by {len(work):,} ops, "
        f"and put together again: {saving.sentence()}. Ops on the whole tensor take a few nodes, however many parts "
        "there are.",
        telling.where(work[0] if work else step, nodes),
        {
            "parts": len(step.inputs),
            "ops": len(work),
            "lines": [line for line in dict.fromkeys(map(telling.line, [*between, step])) if line],
            **saving.evidence,
        },
        "work on the whole tensor, e.g. torch.where(condition, a, b) in place of an if for each entry",
    )
