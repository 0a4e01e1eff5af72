"""What the declaration of a metric says: its unit, its title, and where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

# The phases of a batch in the order of time, and those that the network itself works in.
PHASES = ("preprocess", "transfer", "vision", "projector", "prefill", "decode", "other")
COUNTED_PHASES = ("vision", "projector", "prefill", "decode")
# A number of the whole batch, and one of the whole run.
TOTAL, RUN = "total", "run"

# The unit of counts, shares and ratios.
COUNT = "1"
PER_SECOND = "1/s"
NUMBER, WHOLE, TEXT, FLAG = "number", "whole number", "text", "flag"
LOWER, HIGHER, NEITHER = "lower", "higher", "neither"
PLAIN, SHARE, RATIO = "plain", "share", "ratio"
# A summary column keeps its place for good; later ones stand behind the fixed ones.
FIXED, ADDED = "fixed", "added"

# The tables and figures of a report that choose their columns by what metrics declare.
OVERVIEW, EFFECTS, COMPUTE, ANSWERS, VARIANTS, COMPARED, GROWTH, CURVES = (
    *("overview", "effects", "compute", "answers", "variants"),
    *("compared", "growth", "curves"),
)

# Givers that are no probe and no text metric: the configuration and the outcome of a run, the loop
# that runs a point, and the report when it is read.
RECORD, EXPERIMENT, REPORT = "record", "experiment", "report"

# A name with one of these words in braces stands for one metric per value.
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "phase": COUNTED_PHASES,
    "component": ("gpu_board", "cpu_package", "dram"),
    "part": ("vision", "projector", "text_encoder", "language", "head", "other"),
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, or one per value of the placeholder in its name.

    `given_by` names the probes, text metrics or parts of a run that give it; `when` says where
    they do so if they do not always. A setting is what a run was asked for, and `phrase` says its
    value in a list of settings. `bounds` are the ends of the metric's interval, `source_column`
    keeps the source of its reading. `from_times` is true where a busy machine spoils the value,
    `is_exact` where the same point has the same value in every run.
    """

    name: str
    unit: str
    phase: str
    title: str
    better: str
    given_by: tuple[str, ...]
    when: str = ""
    kind: str = NUMBER
    column: str | None = None
    is_setting: bool = False
    in_sentences: str = ""
    phrase: str = ""
    shown_as: str = PLAIN
    bounds: tuple[str, str] | None = None
    source_column: str | None = None
    is_estimate: bool = False
    from_times: bool = False
    is_exact: bool = False
    tables: frozenset[str] = frozenset()

    @property
    def words(self) -> str:
        """What it is called in a sentence and on an axis."""
        return self.in_sentences or self.title

    @property
    def has_rows(self) -> bool:
        """Whether it stands in readings.csv, and not in the summary alone."""
        return not {RECORD, REPORT}.issuperset(self.given_by)

    @property
    def is_always_there(self) -> bool:
        """Whether every completed record has a row for it, be it with the reason for no value."""
        return self.has_rows and not self.when

    def expand(self) -> Iterator[Metric]:
        """The metric itself, or one metric per value of the placeholder in its name."""
        placeholder = self.placeholder
        if placeholder is None:
            yield self
            return
        for value in PLACEHOLDERS[placeholder]:
            words = {placeholder: value}
            yield replace(
                self,
                name=self.name.format(**words),
                phase=self.phase.format(**words),
                title=self.title.format(**{placeholder: value.replace("_", " ")}),
            )

    @property
    def placeholder(self) -> str | None:
        return next((word for word in PLACEHOLDERS if f"{{{word}}}" in self.name), None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Metrics that are explained together, in a row of the page about columns."""

    metrics: tuple[Metric, ...]
    definition: str
    method: str
    uncertainty: str
    limits: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """A section of the page about columns; `text` is paragraphs, divided by empty lines."""

    title: str
    text: str
    literature: str
    entries: tuple[Entry, ...]
