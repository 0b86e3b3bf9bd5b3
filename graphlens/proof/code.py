"""A list of aten calls as Python that a person can read."""

from __future__ import annotations

import keyword
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphlens.capture.tape import Call, Ref
from graphlens.graph import GradGraph
from graphlens.proof.simplify import Simplified

aten = torch.ops.aten
_FEW_NUMBERS = 32  # a constant with more becomes an argument
_WIDTH = 120


@dataclass(frozen=True)
class Code:
    """A simplified program as the text of a module with one function.

    Attributes:
        function: its name. It takes the leaves, then the constants, and returns the outputs, then
            the scalars that are differentiated.
        leaves, constants: its arguments: the values of the run by the argument's name.
        results: the names of what it returns, each with its value.
        values: the value of each output and root.
    """

    text: str
    function: str
    leaves: Mapping[str, int]
    constants: Mapping[str, int]
    results: Mapping[str, int]
    values: Mapping[str, int]


def write_code(simplified: Simplified, graph: GradGraph, name: str) -> Code:
    """Write the calls that are left as a Python module."""
    return _Writer(simplified, graph, name).code()


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "mv": "@", "mm": "@", "dot": "@",
          "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}  # fmt: skip
_METHODS = frozenset(
    ("t", "transpose", "permute", "view", "reshape", "expand", "sum", "mean", "detach", "clone", "unsqueeze", "squeeze",
     "select", "unbind", "flip", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "contiguous")
)  # fmt: skip
_FILLING = {"normal_functional": "normal_"} | {
    name: f"{name}_" for name in ("bernoulli", "uniform", "random", "exponential", "geometric", "cauchy", "log_normal")
}
_CALLED = {"_unsafe_view": "view", "linalg_vector_norm": "torch.linalg.vector_norm"}
_NAMES = {"linalg_inv_ex": "inverse", "mv": "product", "mm": "product", "bmm": "product", "linalg_vector_norm": "norm"}


class _Writer:
    def __init__(self, simplified: Simplified, graph: GradGraph, name: str) -> None:
        self.simplified = simplified
        self.tape = simplified.tape
        self.graph = graph
        self.title = name
        self.names: dict[int, str] = {}
        self.taken: Counter[str] = Counter()
        self.constants: dict[str, int] = {}
        self.written_constants: list[str] = []
        self.reads = Counter(value for call in simplified.calls for value in call.inputs)
        self.used = set(self.reads)
        self.used.update(simplified.outputs.values(), simplified.roots.values())

    def code(self) -> Code:
        function = _identifier(f"simplified_{self.title.rpartition(':')[2]}")
        for word in ("torch", function):
            self.taken[word] += 1
        leaves = {}
        for leaf, value in self.simplified.leaves.items():
            if value not in self.names:  # two names of one tensor are one argument
                leaves[self._name(value, _identifier(leaf))] = value
        results: dict[str, int] = {}
        for output, value in (*self.simplified.outputs.items(), *self.simplified.roots.items()):
            if value not in results.values():
                results[output] = value
        wished = {value: _identifier(output) for output, value in results.items()}
        for value in self._sources():
            self._constant(value)
        body = list(self._body(wished))
        lines = [*self._head(), "", "", *self._helper(), *_signature(function, [*leaves, *self.constants])]
        lines += [f"    {line}" if line else "" for line in (*self._said(results, leaves), *body)]
        lines.append(f"    return {', '.join(self.names[value] for value in results.values())}")
        return Code("\n".join(lines) + "\n", function, leaves, dict(self.constants), results,
                    {**self.simplified.outputs, **self.simplified.roots})  # fmt: skip

    # Parts of the module

    def _head(self) -> Iterator[str]:
        cheaper = ", and by cheaper ways to the same" if self.simplified.changed else ""
        yield f'"""The forward pass of {self.title}, without what it computed twice or undid again{cheaper}."""'
        yield ""
        yield "import torch"
        if self.written_constants:
            yield ""
            yield from self.written_constants

    def _helper(self) -> Iterator[str]:
        if not self.simplified.guards:
            return
        yield "def same_way(seen, recorded):"
        yield '    """The program chose its way by a value; this is the way that the recorded run took."""'
        yield "    if seen.item() != recorded:"
        yield '        raise ValueError("for these inputs the original program takes another way")'
        yield ""
        yield ""

    def _said(self, results: Mapping[str, int], leaves: Mapping[str, int]) -> Iterator[str]:
        yield f'"""Returns {", ".join(results)}.'
        yield ""
        yield "Args:"
        for name, value in (*leaves.items(), *self.constants.items()):
            tensor = self.tape.tensors[value]
            what = "" if name in leaves else ", constant"
            yield f"    {name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}{what}"
        yield '"""'

    def _body(self, wished: Mapping[int, str]) -> Iterator[str]:
        place = None
        free = False  # within torch.no_grad()
        gradient = self.tape.requiring
        for call in self.simplified.calls:
            if self._is_looked_at_only(call):
                base = call.function._schema.name.rpartition("::")[2]
                self.names[call.outputs[0] or 0] = self._expression(call, base)[0]
                continue
            source = self._source(call)
            if source and source != place:
                place = source
                yield f"# {source}"
            is_free = not call.tracked and any(value in gradient for value in call.inputs)
            if is_free and not free:
                yield "with torch.no_grad():"
            free = is_free
            for line in self._statement(call, wished):
                yield f"    {line}" if is_free else line

    def _is_looked_at_only(self, call: Call) -> bool:
        """Whether its result is a condition that only the choice of a way reads."""
        value = call.outputs[0] if len(call.outputs) == 1 else None
        if value is None or self.reads[value] != 1:
            return False
        return value in self.simplified.guards and call.function._schema.name[6:] in _INFIX

    def _source(self, call: Call) -> str:
        node = self.graph.nodes[call.node] if call.node is not None else None
        return str(self.graph.sources[node.source]) if node is not None and node.source is not None else ""

    def _statement(self, call: Call, wished: Mapping[int, str]) -> Iterator[str]:
        if call.function is aten._local_scalar_dense.default:
            value = call.inputs[0]
            yield f"same_way({self.names[value]}, {self.simplified.guards[value]!r})"
            return
        base = call.function._schema.name.rpartition("::")[2]
        named = [value for value in call.outputs if value is not None]
        expression, takes_one = self._expression(call, base)
        returns_one = len(call.outputs) == 1 and str(call.function._schema.returns[0].type) == "Tensor"
        if takes_one or returns_one:
            yield f"{self._output(named[0], base, wished)} = {expression}"
        else:
            targets = [
                self._output(value, base, wished) if value is not None and value in self.used else "_"
                for value in call.outputs
            ]
            yield f"{', '.join(targets)}{',' if len(targets) == 1 else ''} = {expression}"

    def _output(self, value: int, base: str, wished: Mapping[int, str]) -> str:
        return self._name(value, wished.get(value) or _identifier(_NAMES.get(base, base).strip("_")))

    # Expressions

    def _expression(self, call: Call, base: str) -> tuple[str, bool]:
        """The call as Python, and whether that gives the first output alone."""
        first = [value for value in call.outputs if value is not None and value in self.used] == [call.outputs[0]]
        args = [self._text(value) for value in call.args]
        kwargs = {key: value for key, value in call.kwargs.items() if not _is_default(call, key, value)}
        if base == "linalg_inv_ex" and first and len(args) == 1:
            return f"torch.linalg.inv({args[0]})", True
        if base == "_linalg_solve_ex" and first and len(args) == 2:
            side = ", left=False" if "left" in kwargs else ""
            return f"torch.linalg.solve({args[0]}, {args[1]}{side})", True
        if call.random and base in _FILLING:
            # In place, because the numbers fall into memory in its order, which another call would not keep.
            return f"{args[0]}.clone().{_FILLING[base]}({', '.join(args[1:])})", False
        if base in _INFIX and len(args) == 2 and not kwargs and not _keeps_no_number(call):
            return f"{args[0]} {_INFIX[base]} {args[1]}", False
        if base == "neg":
            return f"-{args[0]}", False
        if base == "slice" and (text := _slice(call, args)) is not None:
            return text, False
        named = [f"{key}={self._text(value)}" for key, value in kwargs.items()]
        if base in _METHODS or (base in _CALLED and "." not in _CALLED[base]):
            return f"{args[0]}.{_CALLED.get(base, base)}({', '.join([*args[1:], *named])})", False
        if base in _CALLED:
            return f"{_CALLED[base]}({', '.join([*args, *named])})", False
        is_common = call.function.namespace == "aten" and callable(getattr(torch, base, None))
        if is_common and not _keeps_no_number(call):
            return f"torch.{base}({', '.join([*args, *named])})", False
        overload = call.function._overloadname
        return f"torch.ops.{call.function.namespace}.{base}.{overload}({', '.join([*args, *named])})", False

    def _text(self, value: Any) -> str:
        if isinstance(value, Ref):
            return self.names[value.value]
        if isinstance(value, (list, tuple)):
            inside = ", ".join(map(self._text, value))
            return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        return repr(value)

    # Names

    def _name(self, value: int, wish: str) -> str:
        self.taken[wish] += 1
        name = wish if self.taken[wish] == 1 else f"{wish}_{self.taken[wish]}"
        while name != wish and name in self.taken:
            self.taken[wish] += 1
            name = f"{wish}_{self.taken[wish]}"
        self.taken[name] += name != wish
        self.names[value] = name
        return name

    def _sources(self) -> list[int]:
        """What is read and neither made by a call nor a leaf, in the order of its use."""
        made = {value for call in self.simplified.calls for value in call.outputs}
        every = [value for call in self.simplified.calls for value in call.inputs]
        every += [*self.simplified.outputs.values(), *self.simplified.roots.values()]
        return [value for value in dict.fromkeys(every) if value not in made and value not in self.names]

    def _constant(self, value: int) -> None:
        tensor = self.tape.tensors[value]
        if tensor.numel() > _FEW_NUMBERS or tensor.is_complex():
            self.constants[self._name(value, "constant")] = value
            return
        numbers = re.sub(r"\b(nan|inf)\b", r'float("\1")', repr(tensor.tolist()))
        self.written_constants.append(
            f"{self._name(value, 'CONSTANT')} = torch.tensor({numbers}, dtype={tensor.dtype})"
        )


def _keeps_no_number(call: Call) -> bool:
    """Whether it is of the forms that C++ calls: Python's own keep the number for backward, as a tensor."""
    return call.function in (aten.add.Scalar, aten.sub.Scalar, aten.mul.Scalar, aten.div.Scalar)


def _is_default(call: Call, name: str, value: Any) -> bool:
    if value is False:
        return not any(item.name == name and item.default_value is True for item in call.function._schema.arguments)
    return value is None or value is torch.strided or value == torch.device("cpu")


def _signature(function: str, names: list[str]) -> list[str]:
    line = f"def {function}({', '.join(names)}):"
    if len(line) <= _WIDTH:
        return [line]
    return [f"def {function}(", *textwrap.wrap(", ".join(names), _WIDTH - 4, initial_indent="    ",
                                               subsequent_indent="    "), "):"]  # fmt: skip


def _slice(call: Call, args: list[str]) -> str | None:
    """A slice of the first dimension, as Python writes it."""
    positions = [*call.args[1:], *[0, None, None, 1][len(call.args) - 1 :]]
    dimension, start, end, step = positions
    if dimension != 0 or step != 1:
        return None
    return f"{args[0]}[{start if start else ''}:{'' if end is None or end > 2**62 else end}]"


def _identifier(name: str) -> str:
    """The name as Python takes it: "h.0.weight" as "h_0_weight"."""
    text = re.sub(r"\W+", "_", name).strip("_") or "value"
    if text[0].isdigit() or keyword.iskeyword(text):
        text = f"_{text}"
    return text
