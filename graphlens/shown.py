"""Records that print as their report, in a terminal and in a notebook."""

from __future__ import annotations


class Report:
    """A record whose text is the report that the command line prints.

    The records know no view; what they show is looked up when somebody asks.
    """

    def __str__(self) -> str:
        return report_text(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(report_text(self))}</pre>"


def report_text(record: object) -> str:
    """The report of a `Trace`, a `Stats` or a `Comparison`, 80 columns wide and without colour."""
    from graphlens.analyses.comparison import Comparison
    from graphlens.analyses.counts import Stats
    from graphlens.analyses.explanation import Explanation

    if isinstance(record, Explanation):
        from graphlens.views.explain_report import explain_report

        return explain_report(record)
    if isinstance(record, Comparison):
        from graphlens.views.comparison_report import comparison_report

        return comparison_report(record)
    if isinstance(record, Stats):
        from graphlens.views.stats_report import stats_report

        return stats_report("Backward graph", None, record)
    from graphlens.capture.trace import Trace
    from graphlens.views.run_report import run_report

    if isinstance(record, Trace):
        return run_report(record.record())
    return repr(record)
