"""The claim machinery: tests that measure statements, leave evidence and return a verdict.

Write a catalogue, write claims, and run pytest with ``fitcore.testing.plugin``.
"""

from fitcore.testing.claim import CONDITIONAL, HOLDS, REFUTED, Verdict, claim, parameter
from fitcore.testing.controls import no_control, override, replace
from fitcore.testing.errors import ClaimError
from fitcore.testing.outcomes import error_of

__all__ = [
    "CONDITIONAL",
    "HOLDS",
    "REFUTED",
    "ClaimError",
    "Verdict",
    "claim",
    "error_of",
    "no_control",
    "override",
    "parameter",
    "replace",
]
