"""Figures of "Is the truth long enough?": every score against full training of several lengths, and longer training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.core.wording import epochs_text, percent, signed
from nasproxy.correlation import Estimate
from nasproxy.report.charts.common import Chart, is_accuracy, main_score, mark_text, numbered
from nasproxy.report.data import CorrelationReport, ScoreSummary
from nasproxy.report.matplotlib_svg import curves_svg
from nasproxy.report.svg import Dot, dots_svg

SHOWN = ("random_subset", "early_stop")  # beside the proxy and the best score that trains nothing
MAX_COLUMNS = 6  # of the table


def against_length(report: CorrelationReport) -> Chart | None:
    """ρ of the main scores with the accuracy after more and more epochs of full training."""
    shown = _shown(report)
    if not shown or len(shown[0].lengths) < 2:
        return None
    lines, words = [], []
    for score in shown:
        points = [point for point in score.lengths if point.spearman.value is not None]
        if points:
            values = [point.spearman.value or 0.0 for point in points]
            lines.append((score.label, [point.epochs for point in points], values))
            words.append(f"{score.label} {signed(values[0])} after {points[0].epochs}, {signed(values[-1])} at the end")
    stopped = [(one.epoch, one.final.value) for one in report.epochs if one.final.value is not None]
    if len(stopped) > 1:
        lines.append(("full training, stopped there", [e for e, _ in stopped], [v or 0.0 for _, v in stopped]))
    if not lines:
        return None
    svg = curves_svg(
        lines,
        "epochs of full training",
        "Spearman ρ",
        name="against-length",
        title=f"Spearman ρ of scores with full training of more and more epochs. {'; '.join(words)}",
        log=True,
    )
    ends = [point for point in shown[0].lengths if not point.within]
    longer = ""
    if len(ends) > 1:
        longer = (
            f" The last point is of the {ends[-1].spearman.n} candidates that were trained for "
            f"{epochs_text(ends[-1].epochs)}; its interval is wide."
        )
    return Chart(
        svg,
        "ρ of scores with the accuracy after so many epochs. A line that falls belongs to a score that ranks what "
        "learns fast. Before the end the learning rate is still high, and accuracies are lower than those of trainings "
        f"that end there.{longer}",
    )


def _shown(report: CorrelationReport) -> list[ScoreSummary]:
    """The proxy, its plainest rivals, and the best score that trains nothing."""
    proxy = main_score(report)
    free = [s for s in report.scores if not is_accuracy(s) and s.agreement.spearman.value is not None]
    best = max(free, key=lambda s: s.agreement.spearman.value or 0.0, default=None)
    found = [proxy, *(report.score(name) for name in SHOWN), best, report.score("params")]
    return list({score.name: score for score in found if score is not None}.values())


@dataclass(frozen=True)
class LengthTable:
    """``heads`` are lengths of training in words; every row is a score's label with its ρ after each."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Estimate, ...]], ...]


def length_table(report: CorrelationReport) -> LengthTable | None:
    """ρ of every score with trainings of several lengths."""
    known = [score for score in report.scores if len(score.lengths) > 1]
    if not known:
        return None
    points = known[0].lengths
    places = _some([place for place, point in enumerate(points) if point.within], MAX_COLUMNS - 2)
    places += [place for place, point in enumerate(points) if not point.within]
    heads = tuple(f"{epochs_text(points[place].epochs)}, n = {points[place].spearman.n}" for place in places)
    rows = tuple((score.label, tuple(score.lengths[place].spearman for place in places)) for score in known)
    return LengthTable(heads, rows)


def _some(places: Sequence[int], num: int) -> list[int]:
    """At most ``num`` of ``places``, evenly spread, the first and the last among them."""
    if len(places) <= num:
        return list(places)
    return [places[round(part * (len(places) - 1) / (num - 1))] for part in range(num)]


def longer_training(report: CorrelationReport) -> Chart | None:
    """Full accuracy against that after longer training, of the candidates that were trained longer."""
    length = report.length
    rows = [row for row in report.candidates if row.group == "sample" and row.long_truth is not None]
    rows = [row for row in rows if row.truth is not None]
    if length is None or length.long_epochs is None or length.agreement is None or len(rows) < 2:
        return None
    ids = numbered(report)
    short, long = epochs_text(length.epochs), epochs_text(length.long_epochs)
    dots = [
        Dot(
            100 * (row.truth or 0.0),
            100 * (row.long_truth or 0.0),
            mark_text(report, row, f"{percent(row.truth)} after {short}, {percent(row.long_truth)} after {long}"),
            who=ids[row.id],
        )
        for row in rows
    ]
    svg = dots_svg(
        [("", dots)],
        f"accuracy after {short}, %",
        f"after {long}, %",
        f"Accuracy after {short} against accuracy after {long} of {len(rows)} architectures",
    )
    return Chart(
        svg,
        f"Candidates that were trained for {long} as well. If {short} were long enough, their order would be the same "
        "on both axes.",
    )
