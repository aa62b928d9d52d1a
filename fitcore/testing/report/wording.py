"""Numbers, durations and decisions in the words of the report."""

import math
from collections.abc import Iterator
from datetime import datetime

from fitcore.testing.report.schema import Cell, ClaimRecord, Decision, Numbers, Observation, Outcome, Verdict

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

VERDICTS: dict[Verdict, str] = {
    "holds": "true as the statement says it",
    "conditional": "true under some conditions and false under others; both are shown",
    "refuted": "shown to be false; what is true instead is shown as well",
    "untestable": "no fair experiment exists; the reason is given",
    "pending": "not put to the test yet",
}
OUTCOMES: dict[Outcome, str] = {
    "confirmed": "this run measured what the verdict says",
    "violated": "this run contradicts the verdict",
    "error": "a test or a control broke down, or a control went undetected",
    "skipped": "a requirement was missing, such as a GPU",
    "not-run": "no test of it was part of this run",
}
CONTROLS = ("detected", "not detected", "not run", "none")
_CONFIRMED: dict[Verdict, str] = {
    "holds": "This run confirmed that the statement holds.",
    "conditional": "This run confirmed that the statement holds under some conditions and fails under others.",
    "refuted": "This run confirmed that the statement is false as it stands.",
}


def number(value: float, digits: int = 4) -> str:
    """Write a number to so many significant digits: ``0.0123``, ``10,000``, ``1.2 × 10⁻⁹``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    sign = "−" if value < 0 else ""
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    if isinstance(value, int) or -4 < power < 6:
        return sign + _stripped(f"{abs(value):,.{max(0, digits - 1 - power)}f}")
    mantissa = _stripped(mantissa)
    factor = "" if mantissa == "1" else f"{mantissa} × "
    return f"{sign}{factor}10{str(power).translate(SUPERSCRIPTS)}"


def _stripped(decimals: str) -> str:
    return decimals.rstrip("0").rstrip(".") if "." in decimals else decimals


def cell(value: Cell | Numbers) -> str:
    """Write a value of a table or a reported figure: numbers to six digits, lists with commas."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value, digits=6)


def duration(seconds: float) -> str:
    """Write a duration: ``34 ms``, ``2.1 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def moment(iso: str) -> str:
    """Write an ISO 8601 time: ``21 November 2025, 09:17 UTC``."""
    time = datetime.fromisoformat(iso)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def count(amount: int, noun: str) -> str:
    """Write an amount of things: ``1 claim``, ``1,192 statements``."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def observed(record: Observation) -> str:
    """Say what was observed: ``80 values from 0.1 to 3 m, mean 0.9, limit 4``; ``7, all 80 values``."""
    unit = f" {record['unit']}" if record["unit"] else ""
    limit = "" if record["limit"] is None else f", limit {number(record['limit'])}"
    values, low, high = count(record["count"], "value"), number(record["minimum"]), number(record["maximum"])
    if record["minimum"] == record["maximum"]:
        return f"{low}{unit}{f', all {values}' if record['count'] > 1 else ''}{limit}"
    drawn = len(record["values"])
    few = f"; {drawn} drawn" if drawn < record["count"] else ""
    return f"{values} from {low} to {high}{unit}, mean {number(record['mean'])}{limit}{few}"


def decision(record: Decision) -> str:
    """Say in plain words in how many trials it was so, and how sure that is."""
    side = "weaker side: " if record["rule"] == "equivalent" else ""
    found = f"{side}{round(record['estimate'] * record['trials']):,} of {count(record['trials'], 'trial')}"
    return found + "".join(_certainty(record)) + _fresh_seeds(record["fresh_seed_failure"])


def _certainty(record: Decision) -> Iterator[str]:
    if record["interval"] is not None and record["rule"] != "always":
        low, high = (number(bound, 3) for bound in record["interval"])
        yield f", a share between {low} and {high} where above {number(record['threshold'], 3)} is needed"
    if record["p_value"] is not None:
        yield f"; p = {number(record['p_value'], 2)}, α = {number(record['alpha'], 2)}"


def _fresh_seeds(failure: float | None) -> str:
    if failure is None:
        return ""
    probability = "below 10⁻⁶" if failure < 1e-6 else f"about {number(failure, 2)}"
    return f"; a fresh set of seeds would fail with probability {probability}"


def conclusion(claim: ClaimRecord) -> str:
    """Say what this run means for the verdict of a statement."""
    verdict = claim["verdict"]
    if verdict == "untestable":
        return f"Untestable: {claim['untestable']}"
    if verdict == "pending":
        return "No claim tests this statement yet."
    return {
        "confirmed": _CONFIRMED[verdict],
        "violated": f"This run contradicts the verdict “{verdict}”.",
        "error": "This run could not decide.",
        "skipped": "The tests of this statement were skipped in this run.",
        "not-run": "The tests of this statement were not part of this run.",
    }[claim["outcome"]]
