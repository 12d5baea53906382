"""Figures of "Where is it wrong?": misjudgement by parameter and by candidate, importance for truth and for proxy."""

from __future__ import annotations

from dataclasses import dataclass

from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate
from nasproxy.report.charts.common import (
    Chart,
    main_score,
    mark_text,
    measured_sample,
    numbered,
    ranks_from_best,
    spans_of,
)
from nasproxy.report.data import CandidateRow, CorrelationReport
from nasproxy.report.svg import Dot, Span, dots_svg, shorter, spans_svg

SMALL = 310  # pixels, of a figure of which three stand side by side
MAX_VALUE = 16  # characters of a parameter's value there
MAX_OUTLIERS = 5  # to either side


@dataclass(frozen=True)
class Outlier:
    """A candidate that the proxy misjudges: its ranks, 1 the best, and how many places the proxy has it too high."""

    row: CandidateRow
    score_rank: float
    true_rank: float

    @property
    def places(self) -> float:
        return self.true_rank - self.score_rank


def bias_charts(report: CorrelationReport) -> list[Chart]:
    """For every parameter, how far the proxy ranks the candidates with each of its values too high or too low."""
    score = main_score(report)
    if score is None:
        return []
    values = [
        100 * value
        for bias in score.biases
        for value in (bias.mean.value, bias.mean.low, bias.mean.high)
        if value is not None
    ]
    if not values:
        return []
    end = 1.05 * max(map(abs, values)) or 1.0
    found = []
    for name in dict.fromkeys(bias.parameter for bias in score.biases):
        own = [bias for bias in score.biases if bias.parameter == name]
        if all(bias.mean.value is None for bias in own):
            continue
        rows = [(shorter(bias.value, MAX_VALUE), _bias_spans(bias.mean, f"{name} = {bias.value}")) for bias in own]
        words = "; ".join(f"{bias.value} {places_text(bias.mean)}" for bias in own if bias.mean.value is not None)
        svg = spans_svg(
            rows,
            "← ranked too low · too high →",
            f"Mean misjudgement by {name}: {words}",
            ends=(-end, end),
            width=SMALL,
            characters=min(MAX_VALUE, max(len(bias.value) for bias in score.biases)),
        )
        found.append(Chart(svg, name=name))
    return found


def _bias_spans(mean: Estimate, name: str) -> list[Span]:
    value, low, high = (None if end is None else 100 * end for end in (mean.value, mean.low, mean.high))
    scaled = Estimate(value, low, high, mean.n, mean.undefined)
    return [
        Span(span.value, span.low, span.high, f"{name}: {places_text(mean)}, n = {mean.n}", span.kind)
        for span in spans_of(scaled, name)
    ]


def places_text(mean: Estimate) -> str:
    """A mean residual in places of a hundred, with its interval."""
    if mean.value is None:
        return f"unknown ({mean.undefined})"
    if mean.low is None or mean.high is None:
        return signed(100 * mean.value, 0)
    return f"{signed(100 * mean.value, 0)} ({signed(100 * mean.low, 0)} to {signed(100 * mean.high, 0)})"


def misjudged(report: CorrelationReport) -> str:
    """The values that the proxy misjudges most, in a sentence; empty where nothing is known."""
    score = main_score(report)
    known = [] if score is None else [bias for bias in score.biases if bias.mean.low is not None]
    if not known:
        return ""
    clear = [bias for bias in known if not (bias.mean.low or 0.0) <= 0 <= (bias.mean.high or 0.0)]
    if not clear:
        return (
            f"For none of the {len(known)} values of the parameters a misjudgement is shown: every interval includes 0."
        )
    strongest = sorted(clear, key=lambda bias: -abs(bias.mean.value or 0.0))[:3]
    words = [
        f"{bias.parameter} = {bias.value} too {'high' if (bias.mean.value or 0.0) > 0 else 'low'}, by "
        f"{abs(100 * (bias.mean.value or 0.0)):.0f}"
        for bias in strongest
    ]
    return (
        f"It ranks {'; '.join(words)} places in a hundred, on average. "
        f"The interval excludes 0 for {len(clear)} of {len(known)} values; one in twenty does so by chance."
    )


def outliers(report: CorrelationReport) -> tuple[list[Outlier], list[Outlier]]:
    """The most overrated and the most underrated candidates of the sample."""
    score = main_score(report)
    rows = [] if score is None else measured_sample(report, score.name)
    if score is None or len(rows) < 2:
        return [], []
    found = [
        Outlier(row, a, b)
        for row, a, b in zip(
            rows,
            ranks_from_best([row.ranking[score.name] for row in rows]),
            ranks_from_best([row.truth or 0.0 for row in rows]),
            strict=True,
        )
    ]
    found.sort(key=lambda one: (-one.places, one.row.id))
    over = [one for one in found[:MAX_OUTLIERS] if one.places > 0]
    under = [one for one in reversed(found[-MAX_OUTLIERS:]) if one.places < 0]
    return over, under


def residuals(report: CorrelationReport) -> Chart | None:
    """By how many places the proxy misjudges every candidate, against its size."""
    score = main_score(report)
    rows = [] if score is None else measured_sample(report, score.name)
    rows = [row for row in rows if row.scores.get("params") is not None]
    if score is None or len(rows) < 4:
        return None
    ids = numbered(report)
    named = {one.row.id for side in outliers(report) for one in side}
    ranked = ranks_from_best([row.ranking[score.name] for row in rows])
    true = ranks_from_best([row.truth or 0.0 for row in rows])
    groups: list[tuple[str, list[Dot]]] = [("the others", []), ("named", [])]
    for row, a, b in zip(rows, ranked, true, strict=True):
        words = f"rank {a:g} by the score, {b:g} by full accuracy, {row.scores['params'] or 0:,.0f} parameters"
        label = mark_text(report, row, words)
        groups[row.id in named][1].append(Dot(row.scores["params"] or 0.0, b - a, label, who=ids[row.id]))
    svg = dots_svg(
        groups,
        "parameters",
        "places ranked too high",
        f"Places by which {score.label} ranks {len(rows)} architectures too high or too low, against their size",
        log=True,
        level=0.0,
    )
    return Chart(
        svg,
        "Above the line the proxy ranks an architecture too high, below too low. A slope would mean that it misjudges "
        "size; diamonds are the outliers in the tables.",
    )


def importances(report: CorrelationReport) -> list[tuple[str, list[tuple[str, Estimate]]]]:
    """For every parameter how much of the ranking it explains, of full accuracy and of the proxy; the largest first."""
    score = main_score(report)
    if score is None or not report.effects or not score.effects:
        return []
    own = {effect.parameter: effect.share for effect in score.effects}
    unknown = Estimate(None, None, None, 0, "not measured")
    ordered = sorted(report.effects, key=lambda effect: -(effect.share.value if effect.share.value is not None else -9))
    return [
        (one.parameter, [("full accuracy", one.share), (score.label, own.get(one.parameter, unknown))])
        for one in ordered
    ]


def importance(report: CorrelationReport) -> Chart | None:
    """How much of the ranking each parameter explains, for full accuracy and for the proxy."""
    found = importances(report)
    if not found:
        return None
    kinds = ("first", "second")
    rows, words = [], []
    for parameter, shares in found:
        spans = [
            span
            for kind, (what, share) in zip(kinds, shares, strict=True)
            for span in _shares(share, f"{parameter}, {what}", kind)
        ]
        rows.append((parameter, spans))
        words.append(f"{parameter} {' and '.join(share_text(share) for _, share in shares)}")
    names = [name for name, _ in found[0][1]]
    svg = spans_svg(
        rows,
        "share of the ranking that it explains, %",
        f"Importance of parameters for {' and for '.join(names)}: {'; '.join(words)}",
    )
    return Chart(
        svg,
        "How much of the variance of ranks lies between a parameter's values (ε²; slightly below 0 means nothing), "
        "with 95 % intervals. Where the two differ, the proxy sees something else than full training does.",
        tuple((f"dot {kind}", name) for kind, name in zip(kinds, names, strict=True)),
    )


def _shares(estimate: Estimate, name: str, kind: str) -> list[Span]:
    if estimate.value is None:
        return []
    low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
    return [Span(100 * estimate.value, low, high, f"{name}: {share_text(estimate)}", kind)]


def share_text(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return f"unknown ({estimate.undefined})" if estimate is not None and estimate.undefined else "unknown"
    if estimate.low is None or estimate.high is None:
        return f"{signed(100 * estimate.value, 0)} %"
    return f"{signed(100 * estimate.value, 0)} % ({signed(100 * estimate.low, 0)} to {signed(100 * estimate.high, 0)})"
