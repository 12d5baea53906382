"""Figures of "Which architectures should I train?": how many of the proxy's first, and what the good ones are like."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from nasproxy.core.wording import compact, percent
from nasproxy.correlation import recall_at_k
from nasproxy.correlation.ranks import regret_at_k
from nasproxy.report.charts.common import MIN_CURVE, Chart, baselines, mark_text, measured_sample, numbered, truth_text
from nasproxy.report.data import CandidateRow, CorrelationReport
from nasproxy.report.matplotlib_svg import curves_svg, history_svg
from nasproxy.report.svg import Dot, dots_svg

MAX_K = 20  # of curves against k
BEST = 0.2  # the share of candidates that counts as the true best


def against_k(report: CorrelationReport) -> list[Chart]:
    """Regret, precision and recall against k for the proxy and its baselines."""
    rows = measured_sample(report)
    if len(rows) < MIN_CURVE:
        return []
    truth = np.array([row.truth for row in rows])
    columns = {score.label: np.array([row.ranking[score.name] for row in rows]) for score in baselines(report)}
    ks = list(range(1, min(MAX_K, len(rows)) + 1))
    best = max(1, round(BEST * len(rows)))

    def curves(of: Callable[[np.ndarray, int], Any]) -> list[tuple[str, list[int], list[float]]]:
        return [(label, ks, [float(of(score, k)) for k in ks]) for label, score in columns.items()]

    regrets = curves(lambda score, k: 100 * regret_at_k(score, truth, k))
    precisions = curves(lambda score, k: recall_at_k(score, truth, k, best) * best / k)
    recalls = curves(lambda score, k: recall_at_k(score, truth, k))
    precisions.append(("at random", ks, [best / len(rows)] * len(ks)))
    recalls.append(("at random", ks, [k / len(rows) for k in ks]))

    def chart(lines: list[tuple[str, list[int], list[float]]], y: str, name: str, what: str, caption: str) -> Chart:
        marks = sorted({1, min(5, ks[-1]), ks[-1]})
        words = "; ".join(
            f"{label} {', '.join(f'{values[k - 1]:.2g} at {k}' for k in marks)}" for label, _, values in lines
        )
        svg = curves_svg(
            lines, "k, candidates that are trained fully", y, name=name, title=f"{what} against k: {words}"
        )
        return Chart(svg, caption)

    return [
        chart(
            regrets,
            "regret, points",
            "regret",
            "Regret in accuracy points",
            "What is lost by training only the first k of a score fully and keeping the best of them.",
        ),
        chart(
            precisions,
            f"share of them in the best {best}",
            "precision",
            f"Share of the first k that are among the true best {best}",
            f"Precision: how many of a score's first k are among the truly best {best} of the {len(rows)}.",
        ),
        chart(
            recalls,
            "share of the true top k found",
            "recall",
            "Recall of the true top k",
            "Recall: how many of the truly best k are among a score's first k.",
        ),
    ]


def replays(report: CorrelationReport) -> Chart | None:
    """What several ways of picking lose for the same cost."""
    if not any(len(way.points) > 1 for way in report.replays):
        return None
    lines, bands, words = [], {}, []
    for way in report.replays:
        costs = [point.cost for point in way.points]
        values = [100 * (point.regret.value or 0.0) for point in way.points]
        lines.append((way.label, costs, values))
        bands[way.label] = (
            [100 * (point.regret.low or 0.0) for point in way.points],
            [100 * (point.regret.high or 0.0) for point in way.points],
        )
        told = ", ".join(f"{value:.2g} at {cost:g}" for cost, value in zip(costs, values, strict=True))
        words.append(f"{way.label} {told}")
    svg = curves_svg(
        lines,
        "cost, in full trainings",
        "regret, points",
        name="replays",
        title=f"Regret in accuracy points against cost: {'; '.join(words)}",
        bands=bands,
    )
    return Chart(
        svg,
        "What other ways of picking would have lost for the same cost. Each is replayed on random two thirds of the "
        f"sample. Shaded: 95 % intervals of the mean over {report.replays[0].points[0].regret.n} replays.",
    )


def score_axis(report: CorrelationReport) -> str:
    if report.objective == "proxy":
        return "validation accuracy on the proxy, %"
    return f"{report.objective}{', %' if report.in_percent else ''}"


def history(report: CorrelationReport) -> Chart | None:
    if not report.history:
        return None
    what = "Accuracy on the proxy" if report.objective == "proxy" else report.objective
    best = max(value for _, value in report.history)
    svg = history_svg(
        report.history,
        score_axis(report),
        percent=report.in_percent,
        title=f"{what} by the order of the search; the best of {len(report.history)} candidates has "
        f"{percent(best) if report.in_percent else compact(best)}",
    )
    return Chart(
        svg, f"The search: {len(report.history)} candidates and the best so far. {what}, which is what it sees."
    )


def fronts(report: CorrelationReport) -> list[Chart]:
    """What the search maximised against what it kept low."""
    scale = 100 if report.in_percent else 1
    ids = numbered(report)
    numbers = {json.dumps(row.params, sort_keys=True): ids[row.id] for row in report.candidates}
    found = []
    for place, name in enumerate(report.against):
        groups = [
            (
                words,
                [
                    Dot(
                        point.against[place],
                        scale * point.score,
                        f"{point.label}: {report.objective} "
                        f"{percent(point.score) if report.in_percent else compact(point.score)}, {name} "
                        f"{compact(point.against[place])}",
                        who=numbers.get(json.dumps(point.params, sort_keys=True)),
                    )
                    for point in report.front
                    if point.on_front == on_front
                ],
            )
            for words, on_front in (("beaten by another", False), ("on the front", True))
        ]
        title = f"{report.objective} against {name} of {len(report.front)} architectures"
        caption = f"Every dot is a searched architecture, by {report.objective} and {name}; diamonds are on the front."
        found.append(Chart(dots_svg(groups, name, score_axis(report), title, log=True), caption))
    return found


def size_front(report: CorrelationReport) -> Chart | None:
    """Full accuracy against the number of parameters, of the sample and the search's top."""
    rows = [row for row in report.candidates if row.truth is not None and row.scores.get("params") is not None]
    rows = list({row.id: row for row in rows}.values())
    if len(rows) < 2:
        return None
    ids = numbered(report)
    front, most = set(), -1.0
    for row in sorted(rows, key=lambda row: (row.scores["params"] or 0.0, -(row.truth or 0.0))):
        if (row.truth or 0.0) > most:
            most = row.truth or 0.0
            front.add(row.id)

    def dot(row: CandidateRow) -> Dot:
        size = row.scores["params"] or 0.0
        std = None if row.truth_std is None else 100 * row.truth_std
        label = mark_text(report, row, f"{truth_text(row)}, {size:,.0f} parameters")
        return Dot(size, 100 * (row.truth or 0.0), label, std, who=ids[row.id])

    groups = [
        (words, [dot(row) for row in rows if (row.id in front) == on_front])
        for words, on_front in (("beaten by another", False), ("on the front", True))
    ]
    title = f"Full accuracy against parameters of {len(rows)} architectures, {len(front)} of them on the Pareto front"
    return Chart(
        dots_svg(groups, "parameters", "full accuracy, %", title, log=True),
        "Everything that was trained fully, by size. Diamonds are on the Pareto front: no other is smaller and better.",
    )
