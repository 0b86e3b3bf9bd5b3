"""How property tests choose their examples: the same ones in every run, or others each time.

A suite that decides whether a change may go in must not fail by chance on what the change did not
touch. `make explore` looks for what the repeatable examples do not show.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
