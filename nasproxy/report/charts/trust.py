"""Figures of "Can I trust this proxy?": its agreement with full accuracy, over candidates, n, epochs and parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nasproxy.core.wording import percent, signed
from nasproxy.correlation import Estimate, spearman
from nasproxy.report.charts.common import (
    MIN_CURVE,
    Chart,
    is_accuracy,
    main_score,
    mark_text,
    measured_sample,
    numbered,
    ranks_from_best,
    spans_of,
    truth_text,
)
from nasproxy.report.data import CandidateRow, CorrelationReport, ScoreSummary
from nasproxy.report.forest import ForestRow, forest_svg
from nasproxy.report.matplotlib_svg import curves_svg
from nasproxy.report.svg import Dot, dots_svg, spans_svg, tick_text
from nasproxy.report.wording import rho_text

NUM_SUBSETS = 200  # of a size, in the curve of ρ against n


@dataclass(frozen=True)
class Pair:
    """A score against the truth twice: as values, and as ranks."""

    label: str
    charts: tuple[Chart, Chart]


def forest(report: CorrelationReport) -> Chart | None:
    if not report.scores:
        return None
    rows = [
        ForestRow(score.label, (("other" if number else "proxy", score.agreement.spearman),))
        for number, score in enumerate(report.scores)
    ]
    return Chart(
        forest_svg(rows, "Spearman ρ, 95 % interval", "Spearman ρ of every score with full accuracy"),
        f"Spearman ρ of every score with full accuracy, n = {report.scores[0].agreement.n}. "
        "A score whose interval includes 0 is not shown to rank.",
    )


def pairs(report: CorrelationReport) -> list[Pair]:
    """Scatter and rank–rank plots of every trained score, the proxy's first."""
    return [
        Pair(score.label, (_scatter(report, score, rows), _ranks(report, score, rows)))
        for score in report.scores
        if is_accuracy(score) and (rows := measured_sample(report, score.name))
    ]


def _scatter(report: CorrelationReport, score: ScoreSummary, rows: list[CandidateRow]) -> Chart:
    top = [row for row in report.candidates if row.group == "top" and row.truth is not None]
    special = [row for row in top if row.scores.get(score.name) is not None]
    ids = numbered(report)

    def dot(row: CandidateRow) -> Dot:
        value, std = row.scores.get(score.name) or 0.0, row.stds.get(score.name)
        label = mark_text(report, row, f"score {percent(value, std)}, {truth_text(row)}")
        bar, bar_x = (None if each is None else 100 * each for each in (row.truth_std, std))
        return Dot(100 * value, 100 * (row.truth or 0.0), label, bar, bar_x, ids[row.id])

    bars = any(row.truth_std is not None or score.name in row.stds for row in rows)
    svg = dots_svg(
        [("uniform sample", [dot(row) for row in rows]), ("search's top", [dot(row) for row in special])],
        "score: validation accuracy, %",
        "full accuracy, %",
        f"{score.label}: score against full accuracy of {len(rows)} architectures, ρ = "
        f"{rho_text(score.agreement.spearman)}",
    )
    top_words = f"; diamonds are the top {len(special)} of the search, not counted" if special else ""
    caption = (
        f"Every dot is an architecture of the sample{top_words}. ρ = {rho_text(score.agreement.spearman)}, "
        f"n = {score.agreement.n}.{' Bars are standard deviations over seeds.' if bars else ''}"
    )
    return Chart(svg, caption)


def _ranks(report: CorrelationReport, score: ScoreSummary, rows: list[CandidateRow]) -> Chart:
    ids = numbered(report)
    places = zip(
        rows,
        ranks_from_best([row.ranking[score.name] for row in rows]),
        ranks_from_best([row.truth or 0.0 for row in rows]),
        strict=True,
    )
    dots = [
        Dot(a, b, mark_text(report, row, f"rank {a:g} by the score, {b:g} by full accuracy"), who=ids[row.id])
        for row, a, b in places
    ]
    svg = dots_svg(
        [("", dots)],
        "rank by the score (1 is best)",
        "rank by full accuracy",
        f"{score.label}: rank by the score against rank by full accuracy of {len(rows)} architectures",
        ranks=True,
    )
    return Chart(svg, f"The same n = {len(rows)} as ranks; on the line both agree. The best stand at the top right.")


def against_n(report: CorrelationReport) -> Chart | None:
    score = main_score(report)
    if score is None or score.agreement.spearman.value is None:
        return None
    rows = measured_sample(report, score.name)
    if len(rows) < MIN_CURVE:
        return None
    own, truth = np.array([row.ranking[score.name] for row in rows]), np.array([row.truth for row in rows])
    rng = np.random.default_rng(0)
    sizes = sorted({int(n) for n in np.linspace(MIN_CURVE, len(rows), 12)})
    bands = []
    for n in sizes:
        chosen = np.argsort(rng.random((NUM_SUBSETS, len(rows))), axis=1)[:, :n]
        bands.append(np.nanquantile(spearman(own[chosen], truth[chosen]), [0.025, 0.5, 0.975]))
    low, middle, high = (np.array(bands)[:, place].tolist() for place in range(3))
    svg = curves_svg(
        [("median; shaded: 95 % of them", sizes, middle)],
        "candidates drawn from the sample",
        "Spearman ρ",
        name="against-n",
        title=f"Spearman ρ of {score.label} on random parts of the sample: with {sizes[0]} candidates {signed(low[0])} "
        f"to {signed(high[0])}, with all {sizes[-1]} {signed(middle[-1])}",
        bands={"median; shaded: 95 % of them": (low, high)},
    )
    return Chart(
        svg,
        f"ρ of the proxy had fewer been trained: {NUM_SUBSETS} random parts of each size. The band closes at the whole "
        "sample because it is one sample, not because it is known exactly.",
    )


def against_epochs(report: CorrelationReport) -> Chart | None:
    """How far the proxy, and full training stopped there, agree with what full training ends with."""
    if len(report.epochs) < 2:
        return None
    kinds: tuple[tuple[str, Callable[[int], Estimate]], ...] = (
        ("proxy with accuracy after so many epochs", lambda place: report.epochs[place].proxy),
        ("that accuracy with the final one", lambda place: report.epochs[place].final),
    )
    lines, bands, words = [], {}, []
    for label, of in kinds:
        found = [(one.epoch, of(place)) for place, one in enumerate(report.epochs) if of(place).value is not None]
        if not found:
            continue
        epochs = [epoch for epoch, _ in found]
        values = [estimate.value or 0.0 for _, estimate in found]
        lines.append((label, epochs, values))
        words.append(f"{label}: {signed(values[0])} after epoch {epochs[0]}, {signed(values[-1])} after {epochs[-1]}")
        if all(estimate.low is not None for _, estimate in found):
            bands[label] = ([e.low or 0.0 for _, e in found], [e.high or 0.0 for _, e in found])
    if not lines:
        return None
    svg = curves_svg(
        lines,
        "epochs of full training",
        "Spearman ρ",
        name="against-epochs",
        title=f"Spearman ρ against epochs of full training. {'; '.join(words)}",
        bands=bands,
    )
    return Chart(
        svg,
        "Accuracies that agree early with the final ones do not show that longer training ranks alike. On the way they "
        "are lower than those of a training that ends there, for the learning rate is still high. Shaded: 95 % "
        "intervals.",
    )


def parts_chart(report: CorrelationReport) -> Chart | None:
    score = main_score(report)
    if score is None or not any(part.spearman.value is not None for part in score.parts):
        return None
    rows = [("all candidates", spans_of(score.agreement.spearman, "all candidates"))]
    for part in score.parts:
        name = part_name(part.kind, part.name)
        if part.kind == "size":
            name = re.sub(r"\d[\d,]*", lambda found: tick_text(float(f"{float(found[0].replace(',', '')):.3g}")), name)
        if part.name.startswith("within") or part.kind in WHOLE:  # the single values are in the table
            rows.append((name, spans_of(part.spearman, name)))
    svg = spans_svg(
        rows, "Spearman ρ with 95 % interval", f"Spearman ρ of {score.label} within parts of the sample", ends=(-1, 1)
    )
    return Chart(
        svg,
        f"{score.label}: ρ within parts of the sample; “equal” is among candidates with the same value of a parameter, "
        "on average over its values. Grey: the interval includes 0.",
    )


CUT = ("proxy", "random_subset", "kmeans_subset", "early_stop")


def cutoffs_chart(report: CorrelationReport) -> Chart | None:
    """ρ of the proxy and of its baselines among the truly best, for several cutoffs."""
    shown = [score for name in CUT for score in report.scores if score.name == name and len(score.cutoffs) > 1]
    if not shown:
        return None
    lines = []
    for score in shown:
        known = [one for one in score.cutoffs if one.spearman.value is not None]
        lines.append((score.label, [100 * one.share for one in known], [one.spearman.value or 0.0 for one in known]))
    own = [one for one in shown[0].cutoffs if one.restricted is not None]
    restricted = "left by the restriction alone"
    lines.append((restricted, [100 * one.share for one in own], [one.restricted or 0.0 for one in own]))
    smallest = shown[0].cutoffs[0]
    words = "; ".join(
        f"{score.label} {rho_text(score.cutoffs[0].spearman)} among the best {100 * score.cutoffs[0].share:.0f} %"
        for score in shown
    )
    svg = curves_svg(
        lines,
        "the truly best, % of the sample",
        "Spearman ρ among them",
        name="cutoffs",
        title=f"Spearman ρ among the truly best: {words}",
        bands={restricted: ([one.low or 0.0 for one in own], [one.high or 0.0 for one in own])},
    )
    left = (
        ""
        if smallest.restricted is None
        else (
            f" Of {shown[0].label}'s ρ, the restriction alone would leave {signed(smallest.restricted)} there "
            f"({signed(smallest.low or 0.0)} to {signed(smallest.high or 0.0)} in 95 % of samples)."
        )
    )
    return Chart(
        svg,
        f"Among the best {100 * smallest.share:.0f} % (n = {smallest.n}): {words}.{left} Fewer candidates with closer "
        "truths lower every ρ, whether a score is worse there or not.",
    )


WHOLE = ("top", "size", "beyond size")  # kinds of parts that are no parameter


def part_name(kind: str, name: str) -> str:
    if name.startswith("within"):
        return f"equal {kind}"
    return name if kind in WHOLE else f"{kind} = {name}"
