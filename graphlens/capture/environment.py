"""Facts about the run that belong to its record."""

from __future__ import annotations

import datetime
import os
import platform

import torch

import graphlens


def describe_environment() -> dict[str, object]:
    """Versions, date and thread count.

    The date is the day only, and `SOURCE_DATE_EPOCH` overrides it, so that two captures of one
    program are equal byte for byte.
    """
    return {
        "graphlens": graphlens.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "date": _today().isoformat(),
        "threads": torch.get_num_threads(),
    }


def _today() -> datetime.date:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():
        return datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc).date()
    return datetime.datetime.now(datetime.timezone.utc).date()
