"""The click group; each verb's file is imported only when that verb is called."""

from __future__ import annotations

import importlib

import click

import graphlens

_VERBS = {
    "run": ("running", "Run a target: outputs, gradients, times."),
    "stats": ("counting", "Count the nodes of its backward graph and what they keep."),
    "explain": ("explaining", "Say why its gradients are slow, heavy, inexact or missing."),
    "check": ("checking", "Find gradients that are missing, and say where they were lost."),
    "compare": ("comparing", "Two targets side by side, and why they differ."),
    "sweep": ("sweeping", "Run it at many values of an option, and see how it grows."),
    "render": ("drawing", "Draw its backward graph."),
    "memory": ("holding", "What it keeps in memory for backward, and when that is freed."),
    "timeline": ("timing", "Draw the time of its backward pass, or trace both."),
    "save": ("saving", "Save its backward graph for later and for other tools."),
    "lessons": ("lessons", "List the built-in lessons and their options."),
}


class LazyGroup(click.Group):
    """A group that knows its verbs' names and summaries before it imports them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which one meets them."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"graphlens.cli.{_VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The summaries from the table above, so that help imports no verb."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(graphlens.__version__, message="graphlens %(version)s")
def app() -> None:
    """See, count and explain PyTorch's backward graph.

    A TARGET is a lesson (see `graphlens lessons`), package.module:factory, file.py:factory, or a
    saved graph.json. A factory returns a loss, (module, args), (module, args, kwargs) or a
    graphlens.Subject.
    """
