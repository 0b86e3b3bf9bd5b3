"""The report that `graphlens check` prints, and the page on one code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from graphlens.analyses.catalogue import Page
from graphlens.analyses.connectivity import WORDS, Connectivity, Verdict
from graphlens.analyses.connectivity.facts import MOST_ENTRIES
from graphlens.analyses.findings import Finding
from graphlens.graph import GradGraph, printable
from graphlens.units import count_text
from graphlens.views.opening import next_steps, opening
from graphlens.views.table import heading, paragraph, table, to_text

_FEW_LEAVES = 16
_INDENT = "    "
_MOST_LINES = 4  # of a paragraph on a page
_SENTENCE = re.compile(r"(?<=[.)]) (?=[A-Z]\w* )")


def check_report(
    title: str,
    graph: GradGraph | None,
    found: Connectivity,
    *,
    notes: Sequence[str] = (),
    width: int = 80,
    colour: bool = False,
    steps: Sequence[str] = (),
) -> str:
    """The verdicts on inputs and parameters, then the findings, the most serious first; then what to type next."""
    parts = [*_parts(title, graph, found, notes, width), *next_steps(steps, width)]
    return to_text(parts, width=width, colour=colour)


def findings_text(findings: Sequence[Finding], *, width: int = 80) -> str:
    """The findings alone, one below the other."""
    parts = [part for finding in findings for part in (*_finding(finding, width), Text(""))]
    return to_text(parts, width=width).rstrip()


def page_report(code: str, page: Page, *, width: int = 80, colour: bool = False) -> str:
    """The page on one code."""
    parts: list[RenderableType] = [
        heading(f"{code}  {page.title}", width=width),
        Text(f"level: {page.level}\n"),
        *_explained(page.text, width),
        *([Text(""), paragraph(f"Known pairs: {', '.join(page.cases)}.", width=width)] if page.cases else []),
        Text(f"\n  instead of   {page.before}\n  write        {page.after}"),
    ]
    return to_text(parts, width=width, colour=colour)


def _explained(words: str, width: int) -> Iterator[RenderableType]:
    """The text of a page in paragraphs of a few lines; a long sentence that enumerates is a list."""
    most = _MOST_LINES * width
    sentences = _SENTENCE.split(words)
    while sentences:
        text = sentences.pop(0)
        while sentences and len(text) + 1 + len(sentences[0]) <= most:
            text += f" {sentences.pop(0)}"
        head, colon, rest = text.partition(": ")
        items = rest.split("; ") if len(text) > most else []
        if len(items) > 1:
            yield paragraph(f"{head}{colon}", width=width)
            last = len(items) - 1
            for number, item in enumerate(items):
                end = "" if number == last else ";"
                yield paragraph(f"{item}{end}", width=width, first="  · ", indent=_INDENT)
        else:
            yield paragraph(text, width=width)
        if sentences:
            yield Text("")


def _parts(
    title: str, graph: GradGraph | None, found: Connectivity, notes: Sequence[str], width: int
) -> Iterator[RenderableType]:
    yield from opening(title, graph, None, width)
    for note in notes:
        yield paragraph(printable(note), width=width)
    yield Text("")
    yield from _verdicts(found.verdicts, width)
    for finding in found.findings:
        yield Text("")
        yield from _finding(finding, width)
    yield Text("")
    yield Text(_summary(found.findings))


def _verdicts(verdicts: Sequence[Verdict], width: int) -> Iterator[RenderableType]:
    if not verdicts:
        yield Text("No input and no parameter to receive a gradient.")
    elif len(verdicts) <= _FEW_LEAVES:
        rows = [(printable(verdict.name), verdict.role, verdict.words) for verdict in verdicts]
        yield table(("name", "role", "gradient"), rows, left=3)
    else:
        counts = Counter(verdict.words for verdict in verdicts)
        yield table(("leaves", "gradient"), [(f"{counts[v]:,}", v) for v in WORDS if counts[v]], left=2)
        for what in WORDS[1:]:
            names = [printable(verdict.name) for verdict in verdicts if verdict.words == what]
            if names:
                more = f" and {count_text(len(names) - 8)} more" if len(names) > 8 else ""
                yield paragraph(f"{', '.join(names[:8])}{more}", width=width, indent=_INDENT, first=f"{what}: ")


def _finding(finding: Finding, width: int) -> Iterator[RenderableType]:
    first = f"{finding.level:8}{finding.code}  "
    yield paragraph(printable(finding.claim), width=width, indent=_INDENT, first=first)
    if finding.where.source:
        module = f"  in {finding.where.module}" if finding.where.module else ""
        yield paragraph(printable(f"{finding.where.source}{module}"), width=width, indent=_INDENT, first=_INDENT)
        if finding.where.text:
            yield Text(_cut(f"{_INDENT}    {printable(finding.where.text)}", width))
        for caller in finding.where.callers:
            yield paragraph(printable(caller), width=width, indent=_INDENT, first=f"{_INDENT}called from ")
    for sentence in _evidence(finding):
        yield paragraph(printable(sentence), width=width, indent=_INDENT, first=_INDENT)
    if finding.fix:
        yield paragraph(printable(finding.fix), width=width, indent=f"{_INDENT}     ", first=f"{_INDENT}fix: ")


def _evidence(finding: Finding) -> Iterator[str]:
    """The parts of the evidence that the claim does not say already, as sentences."""
    evidence = finding.evidence
    names = evidence.get("still_connected_by_other_paths")
    if isinstance(names, list) and names and not evidence.get("derivative_is_0"):
        one = len(names) == 1
        yield (
            f"{_names(names)} {'loses' if one else 'lose'} a path here too, and {'receives' if one else 'receive'} "
            "a gradient by another: it is not the whole one."
        )
    back = evidence.get("comes_back_at")
    if isinstance(back, list) and back:
        yield f"The value comes back, without history, through {_names(back)}."
    yield from _changes(evidence)
    saved = evidence.get("saved_at")
    if isinstance(saved, str) and saved:
        yield f"It was saved at {saved}."


def _changes(evidence: Mapping[str, object]) -> Iterator[str]:
    """What changed when the program was run again with other values: one sentence for leaves of one effect."""
    changed = evidence.get("outputs_that_change_with_it")
    if not isinstance(changed, dict):
        return
    together = evidence.get("changed_together")
    groups = [set(group) for group in together] if isinstance(together, list) else []
    by_effect: dict[tuple[str, int | None], list[str]] = {}
    for name, outputs in changed.items():
        where = ", ".join(f"{output}{_entries(numbers)}" for output, numbers in outputs.items())
        group = next((number for number, group in enumerate(groups) if name in group), None)
        by_effect.setdefault((where, group), []).append(name)
    for (where, group), names in by_effect.items():
        way = ", one at a time" if group is None else ", all at once"
        values = "another value" if len(names) == 1 else "other values"
        yield f"Run again with {values} of {_names(names)}{way if len(names) > 1 else ''}, these change: {where}."


def _entries(numbers: Sequence[int]) -> str:
    more = len(numbers) > MOST_ENTRIES
    numbers = numbers[:MOST_ENTRIES]
    if len(numbers) == 1:
        return f"[{numbers[0]}]" if numbers[0] else ""
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f" (entries {numbers[0]} … {numbers[-1]}{' and more' if more else ''})"
    return f" (entries {', '.join(map(str, numbers[:8]))}{', …' if len(numbers) > 8 else ''})"


def _names(names: Sequence[object], most: int = 6) -> str:
    texts = [str(name) for name in names]
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most:,} more"
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _summary(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing found."
    counts = Counter(finding.level for finding in findings)
    parts = [
        f"{counts[level]} {name}{'s' if counts[level] != 1 and level != 'info' else ''}"
        for level, name in (("error", "error"), ("warning", "warning"), ("info", "info"))
        if counts[level]
    ]
    return f"Found: {', '.join(parts)}."
