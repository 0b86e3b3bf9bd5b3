"""What was measured about the rounding of a run, as tables and findings."""

from __future__ import annotations

from graphlens.accuracy import Accuracy
from graphlens.analyses.findings import Finding, most_serious_first
from graphlens.analyses.rounding.growth import growth_findings
from graphlens.analyses.rounding.losses import losses
from graphlens.analyses.rounding.noise import noise_findings
from graphlens.analyses.rounding.repeating import differences


def rounding_findings(accuracy: Accuracy) -> tuple[Finding, ...]:
    """GL301 to GL308, the most serious first."""
    found: list[Finding] = [
        *growth_findings(accuracy), *noise_findings(accuracy), *losses(accuracy), *differences(accuracy)
    ]  # fmt: skip
    return most_serious_first(found)
