"""The saved form of a graph: versioned JSON, one record a line, read without trust.

Loading runs no code from the file: whatever it holds, the outcome is a checked graph or one
`GraphError`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from graphlens.collector import paused_collector
from graphlens.errors import GraphError
from graphlens.graph import Edge, GradGraph, Input, ModuleCall, Node, Output, SavedTensor, Source, printable

FORMAT = "graphlens/1"

_TABLES: dict[str, Any] = {
    "nodes": Node,
    "edges": Edge,
    "saved": SavedTensor,
    "inputs": Input,
    "outputs": Output,
    "sources": Source,
    "calls": ModuleCall,
}
# Files of earlier versions lack these; and rows lack the fields that were added at their ends.
_LATER = ("sources", "calls")
_MOST_NESTING = 16
_ROW_TYPES = {str, int, bool, type(None), list}


def dumps(graph: GradGraph) -> bytes:
    """The graph as UTF-8 JSON; equal graphs give equal bytes.

    Raises:
        GraphError: `meta` holds something that JSON or a report cannot show.
    """
    _check_fact(graph.meta)
    # Mappings are equal whatever the order of their keys, and so must be their text.
    meta = json.dumps(graph.meta, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    parts = [f'{{\n"format": {_text(FORMAT)},\n"meta": {meta}']
    for name, record in _TABLES.items():
        rows = ",\n".join(map(_text, getattr(graph, name)))
        parts.append(f'"{name}": {{"fields": {_text(record._fields)}, "rows": [\n{rows}\n]}}')
    return (",\n".join(parts) + "\n}\n").encode()


def loads(data: bytes) -> GradGraph:
    """Read what `dumps` wrote, and check it.

    Raises:
        GraphError: the data is not such a file, is damaged, or breaks an invariant of the model.
    """
    # What is read lives on, and JSON makes no cycles.
    with paused_collector(lasting=True):
        return _read(data)


def _read(data: bytes) -> GradGraph:
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise GraphError("not a saved graph: the JSON is nested too deeply") from error
    except MemoryError as error:
        raise GraphError("not a saved graph: the JSON does not fit in memory") from error
    except ValueError as error:
        raise GraphError(f"not a saved graph, or a damaged one: {str(error)[:120]}") from error
    if not isinstance(document, dict):
        raise GraphError("not a saved graph: the JSON is no object")
    version = document.get("format")
    if version != FORMAT:
        found = "no format" if version is None else f"format {str(version)[:40]!r}"
        raise GraphError(f"not a saved graph of this version: it has {found}, expected {FORMAT!r}")
    meta = document.get("meta")
    if not isinstance(meta, dict):
        raise GraphError("damaged saved graph: meta is no object")
    _check_fact(meta)
    tables = {
        name: _table(document.get(name), name, record)
        for name, record in _TABLES.items()
        if name in document or name not in _LATER
    }
    return GradGraph(meta=meta, **tables).check()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _check_fact(value: object, nesting: int = _MOST_NESTING) -> None:
    """Refuse facts that could not be saved again, or that could play tricks on a terminal."""
    if nesting == 0:
        raise GraphError(f"meta is nested more than {_MOST_NESTING} deep")
    if isinstance(value, str):
        if printable(value) != value:
            raise GraphError(f"meta holds a text with a control character: {value!a:.40}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_fact(item, nesting - 1)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise GraphError(f"a key of meta is of type {type(key).__name__}, not a text")
            _check_fact(key, nesting - 1)
            _check_fact(item, nesting - 1)
    elif isinstance(value, (int, float)):
        if not abs(value) <= sys.float_info.max:
            raise GraphError("meta holds a number that is not finite, or huge")
    elif value is not None:
        raise GraphError(f"meta holds a value of type {type(value).__name__}, which JSON cannot hold")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")


def _table(table: Any, name: str, record: Any) -> list[Any]:
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise GraphError(f"damaged saved graph: {name} has no rows")
    fields, known = table.get("fields"), list(record._fields)
    required = len(known) - len(record._field_defaults)
    if type(fields) is not list or fields != known[: len(fields)] or len(fields) < required:
        raise GraphError(f"damaged saved graph: the fields of {name} are not {', '.join(known)}")
    rows = table["rows"]
    if not rows:
        return []
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(fields)}:
        raise GraphError(f"damaged saved graph: a row of {name} does not have {len(fields)} fields")
    # Column by column, as the loops are then left to C: there are 10⁶ rows in a saved graph of 300,000 nodes.
    columns = [_column(column, name) for column in zip(*rows, strict=True)]
    defaults = list(record._field_defaults.values())[len(fields) - required :]
    return list(map(record._make, zip(*columns, *map(itertools.repeat, defaults), strict=False)))


def _column(values: Sequence[Any], name: str) -> Sequence[Any]:
    """One field of all rows; its lists become tuples, of which equal ones are one object."""
    # `check` compares by value, where 1 == 1.0 == True: types are settled here.
    types = set(map(type, values))
    if not types <= _ROW_TYPES:
        raise GraphError(f"damaged saved graph: a row of {name} holds an object or a fraction")
    if list not in types:
        return values
    lists = [value for value in values if type(value) is list]
    if not {int}.issuperset(map(type, itertools.chain.from_iterable(lists))):
        raise GraphError(f"damaged saved graph: a list in {name} holds something other than whole numbers")
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    tuples = (known.setdefault(made, made) for made in map(tuple, lists))
    return [next(tuples) if type(value) is list else value for value in values]
