"""The shape of ``claims.json``: JSON types only, every number finite."""

from typing import Literal, NotRequired, TypedDict

Verdict = Literal["holds", "conditional", "refuted", "untestable", "pending"]
Outcome = Literal["confirmed", "violated", "error", "skipped", "not-run"]
Origin = Literal["stated", "implied", "derived"]
Rule = Literal["always", "mostly", "less", "equivalent"]
Cell = str | int | float | bool | None
Numbers = float | list[float] | list[list[float]] | list[list[list[float]]]


class Observation(TypedDict):
    """One number per trial: ``values`` holds at most 500 of ``count``, the statistics are those of all."""

    type: Literal["observation"]
    name: str
    values: list[float]
    count: int
    minimum: float
    maximum: float
    mean: float
    unit: str | None
    limit: float | None


class Comparison(TypedDict):
    """Samples of one quantity side by side: at most 500 values of each, and the medians of all of its values."""

    type: Literal["comparison"]
    name: str
    samples: dict[str, list[float]]
    medians: dict[str, float]
    unit: str | None
    limit: float | None


class Curve(TypedDict):
    """Lines over a common ``x``, at most 500 points each; ``roofs`` are what limits them, over the same ``x``."""

    type: Literal["curve"]
    name: str
    x: list[float]
    x_label: str | None
    series: dict[str, list[float]]
    roofs: NotRequired[dict[str, list[float]]]


class Figure(TypedDict):
    """A figure that a document reports beside the one measured here: a number, or an array of at most three axes."""

    type: Literal["figure"]
    name: str
    reported: Numbers
    measured: Numbers
    tolerance: float
    reproduced: bool


class Table(TypedDict):
    """Rows of cells, one for each of ``columns``."""

    type: Literal["table"]
    name: str
    columns: list[str]
    rows: list[list[Cell]]


class Image(TypedDict):
    """A PNG, base64-encoded."""

    type: Literal["image"]
    name: str
    png: str


class Decision(TypedDict):
    """A statistical decision over ``trials`` trials, as ``name`` words it.

    ``estimate`` is the share of trials that show it, ``interval`` its confidence interval and ``threshold`` the share
    to exceed (``always``: to reach). For ``equivalent`` they are those of the weaker of its two sides.
    ``fresh_seed_failure`` is the probability that a fresh set of seeds would not confirm it.
    """

    type: Literal["decision"]
    name: str
    rule: Rule
    trials: int
    estimate: float
    interval: list[float] | None
    threshold: float
    p_value: float | None
    alpha: float
    fresh_seed_failure: float | None
    confirmed: bool


Evidence = Observation | Comparison | Curve | Figure | Table | Image | Decision


class CaseRecord(TypedDict):
    """One test item of a claim: the plain function, or one of its parameter cases.

    ``measured_on`` names the machine where it was not that of the report's own run.
    """

    nodeid: str
    outcome: Literal["passed", "failed", "error", "skipped"]
    duration_s: float
    reason: str | None
    evidence: list[Evidence]
    measured_on: str | None


class ControlRecord(TypedDict):
    """An intervention: detected, not detected (the claim is vacuous), or None where it did not run or broke down.

    ``reason`` is None unless it went undetected or broke down; either makes the outcome of its claim ``error``.
    """

    name: str
    detected: bool | None
    tests: list[str]
    reason: str | None


class Otherwise(TypedDict):
    """A run that came to another outcome than the report's own, under another torch say, and the reasons it gave."""

    measured_on: str
    outcome: Outcome
    reasons: list[str]


class ClaimRecord(TypedDict):
    """One statement of a catalogue and what the claims naming it found; ``id`` is ``document/statement``.

    ``otherwise`` is there where runs that the report was merged from contradict its own.
    """

    id: str
    document: str
    section: str
    kind: str
    origin: Origin
    statement: str
    setup: str
    highlight: bool
    verdict: Verdict
    outcome: Outcome
    finding: str | None
    trials: int | None
    duration_s: float
    untestable: str | None
    tests: list[CaseRecord]
    controls: list[ControlRecord]
    no_control: str | None
    rerun: str | None
    otherwise: NotRequired[list[Otherwise]]


class DocumentRecord(TypedDict):
    """A document; ``statements`` counts those in its catalogue."""

    key: str
    title: str
    statements: int


class EnvironmentRecord(TypedDict):
    """The run: ``started`` is ISO 8601 in UTC, ``partial`` says that only part of the claims was collected."""

    python: str
    platform: str
    torch: str | None
    torchvision: str | None
    numpy: str | None
    device: str
    threads: int
    base_seed: int
    trials_scale: float
    controls: str
    started: str
    duration_s: float
    command: str
    partial: bool
    interrupted: bool


class Report(TypedDict):
    """All of ``claims.json``, claims in catalogue order; ``merged`` are other runs that it was completed by."""

    schema: Literal[2]
    environment: EnvironmentRecord
    merged: list[EnvironmentRecord]
    documents: list[DocumentRecord]
    claims: list[ClaimRecord]
