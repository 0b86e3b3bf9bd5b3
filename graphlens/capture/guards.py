"""Lines that ask a question and raise an error on one answer: they choose no other graph."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache


@lru_cache(maxsize=256)
def guarding_lines(file: str) -> frozenset[int]:
    """The lines of a file's assertions, and of the conditions under which it does nothing but raise."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # not Python, or not all of it is known
        return frozenset()
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            found.update(range(node.lineno, (node.test.end_lineno or node.lineno) + 1))
    return frozenset(found)
