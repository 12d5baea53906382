"""What all figures of the page are made of: charts, the sample, the numbers and words of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.core.wording import percent
from nasproxy.correlation import Estimate
from nasproxy.report.data import CandidateRow, CorrelationReport, ScoreSummary
from nasproxy.report.svg import Span
from nasproxy.report.verdict import TRAINED
from nasproxy.report.wording import rho_text

MIN_CURVE = 8  # candidates of a curve over k or n
MANY = 300  # candidates: the names of more stand once in the page, and not with every mark of every figure


@dataclass(frozen=True)
class Chart:
    """A figure: its SVG, what it says, and the classes of its lines with what they mean. ``name`` heads small ones."""

    svg: str
    caption: str = ""
    key: tuple[tuple[str, str], ...] = ()
    name: str = ""


def numbered(report: CorrelationReport) -> dict[str, int]:
    """Candidates by id as small numbers, by which the page's script finds one in all figures and in the table."""
    return {name: number for number, name in enumerate(dict.fromkeys(row.id for row in report.candidates))}


def main_score(report: CorrelationReport) -> ScoreSummary | None:
    """What the page is about: the proxy; in a report without one its first score."""
    return report.score("proxy") or next(iter(report.scores), None)


def ranks_from_best(values: Sequence[float]) -> list[float]:
    """Average ranks, 1 the highest."""
    from scipy.stats import rankdata

    return [float(rank) for rank in rankdata([-value for value in values])]


def measured_sample(report: CorrelationReport, name: str | None = None) -> list[CandidateRow]:
    """The uniform sample without what failed, and with ``name`` only what that score ranks."""
    rows = [row for row in report.candidates if row.group == "sample" and row.truth is not None and row.ranking]
    return [row for row in rows if name is None or name in row.ranking]


def is_accuracy(score: ScoreSummary) -> bool:
    return score.trained or score.name in TRAINED  # old reports do not say


def mark_text(report: CorrelationReport, row: CandidateRow, words: str) -> str:
    """What a mark says: who it is and ``words``. Of many candidates the page's script adds the name."""
    return words if len(report.candidates) > MANY else f"{row.label}: {words}"


def truth_text(row: CandidateRow) -> str:
    return f"full accuracy {percent(row.truth, row.truth_std)}"


def baselines(report: CorrelationReport) -> list[ScoreSummary]:
    """The proxy, its baselines, and what was searched by."""
    names = ("proxy", "random_subset", "kmeans_subset", "early_stop", report.objective, "params")
    return [score for name in dict.fromkeys(names) for score in report.scores if score.name == name]


def spans_of(estimate: Estimate, name: str, kind: str = "") -> list[Span]:
    """Coloured where the interval leaves out 0."""
    if estimate.value is None:
        return []
    known = estimate.low is not None and estimate.high is not None and not estimate.low <= 0 <= estimate.high
    return [
        Span(
            estimate.value,
            estimate.low,
            estimate.high,
            f"{name}: {rho_text(estimate)}, n = {estimate.n}",
            kind or ("first" if known else "plain"),
        )
    ]
