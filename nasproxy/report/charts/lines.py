"""Every candidate as a line, coloured by the fifth it is in by full accuracy: parallel coordinates, learning curves."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from nasproxy.core.wording import compact, percent
from nasproxy.correlation.parameters import MAX_VALUES
from nasproxy.report.charts.common import (
    Chart,
    is_accuracy,
    main_score,
    mark_text,
    measured_sample,
    numbered,
    ranks_from_best,
    truth_text,
)
from nasproxy.report.data import CandidateRow, CorrelationReport
from nasproxy.report.svg import Line, Scale, lines_svg, parallel_svg, shorter, tick_text

MAX_LINES = 300  # more are neither seen apart nor small

FIFTHS = ("best fifth by full accuracy", "second", "middle", "fourth", "last fifth")
KEY = tuple((f"q{place + 1}", text) for place, text in enumerate(FIFTHS))


def fifths(rows: Sequence[CandidateRow]) -> dict[str, int]:
    """For every candidate 1 to 5: the fifth it is in by full accuracy, 1 the best."""
    ranked = ranks_from_best([row.truth or 0.0 for row in rows])
    return {row.id: min(5, int(5 * (rank - 0.5) / len(rows)) + 1) for row, rank in zip(rows, ranked, strict=True)}


def thinned(rows: Sequence[CandidateRow]) -> list[CandidateRow]:
    """At most MAX_LINES of the candidates, evenly by true rank, both ends among them; the best come last."""
    ranked = sorted(rows, key=lambda row: (row.truth or 0.0, row.id))
    if len(ranked) <= MAX_LINES:
        return ranked
    return [ranked[round(place)] for place in np.linspace(0, len(ranked) - 1, MAX_LINES)]


def _only_some(shown: int, total: int) -> str:
    return f" {shown} of {total} are drawn, evenly by full accuracy." if shown < total else ""


def _in_order(rows: list[CandidateRow]) -> list[CandidateRow]:
    """In the order of drawing: the middle fifths below, the last above them, the best on top."""
    of = fifths(rows)
    return sorted(rows, key=lambda row: (3, 2, 4, 5, 1).index(of[row.id]))


def parallel(report: CorrelationReport) -> Chart | None:
    """Every candidate of the sample as a line over its parameters, its score and its full accuracy."""
    score = main_score(report)
    rows = [] if score is None else measured_sample(report, score.name)
    if score is None or len(rows) < 2:
        return None
    shown, ids, of = thinned(rows), numbered(report), fifths(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    columns = [_scale(name, [row.params.get(name) for row in shown]) for name in names]
    values = [row.scores.get(score.name) for row in shown]
    columns.append(_numbers(shorter(score.label, 16), values, percents=is_accuracy(score)))
    columns.append(_numbers("full accuracy", [row.truth for row in shown], percents=True))

    def score_text(row: CandidateRow) -> str:
        value = row.scores.get(score.name)
        return percent(value, row.stds.get(score.name)) if is_accuracy(score) else compact(value)

    lines = [
        Line(
            [(float(axis), places[place]) for axis, (_, places) in enumerate(columns)],
            mark_text(report, row, f"{score.label} {score_text(row)}, {truth_text(row)}"),
            f"q{of[row.id]}",
            ids[row.id],
        )
        for place, row in enumerate(shown)
    ]
    order = {row.id: place for place, row in enumerate(_in_order(shown))}
    lines = [line for _, line in sorted(zip(shown, lines, strict=True), key=lambda pair: order[pair[0].id])]
    svg = parallel_svg(
        [scale for scale, _ in columns],
        lines,
        f"Parallel coordinates of {len(shown)} architectures over {', '.join(names)}, score and full accuracy",
    )
    return Chart(
        svg,
        f"Every line is an architecture, coloured by its full accuracy.{_only_some(len(shown), len(rows))}",
        KEY,
    )


def _scale(name: str, values: Sequence[str | int | float | bool | None]) -> tuple[Scale, list[float]]:
    """A parameter's axis and every candidate's place on it: values evenly spaced, many numbers to scale.

    Candidates with the same value are spread around it in their order, which is that of full accuracy: without it
    lines would lie upon each other.
    """
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values) and len(set(numbers)) > MAX_VALUES:
        return _numbers(name, numbers)
    texts = ["–" if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
    distinct = sorted(set(texts), key=lambda text: _natural(text))
    step = 1 / max(1, len(distinct) - 1)
    centre = {text: place * step if len(distinct) > 1 else 0.5 for place, text in enumerate(distinct)}
    room = min(0.3 * step, 0.12)
    counts = {text: texts.count(text) for text in distinct}
    seen = dict.fromkeys(distinct, 0)
    places = []
    for text in texts:
        share = seen[text] / (counts[text] - 1) - 0.5 if counts[text] > 1 else 0.0
        seen[text] += 1
        places.append(min(1.0, max(0.0, _inside(centre[text], room) + share * room)))
    return Scale(name, [(_inside(centre[text], room), shorter(text, 13)) for text in distinct]), places


def _inside(place: float, room: float) -> float:
    """Moved in from the ends, so that what is spread around it is still on the axis."""
    return room / 2 + place * (1 - room)


def _natural(text: str) -> tuple[int, float, str]:
    """Inactive first, numbers by size, before words."""
    if text == "–":
        return 0, 0.0, text
    try:
        return 1, float(text), text
    except ValueError:
        return 2, 0.0, text


def _numbers(name: str, values: Sequence[float | None], *, percents: bool = False) -> tuple[Scale, list[float]]:
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    wide = high - low or 1.0
    places = [0.0 if value is None else (value - low) / wide if high > low else 0.5 for value in values]
    ends = [(0.0, low), (1.0, high)] if high > low else [(0.5, low)]
    return Scale(
        name, [(place, percent(end) if percents else tick_text(float(f"{end:.3g}"))) for place, end in ends]
    ), places


def curves_of_learning(report: CorrelationReport) -> Chart | None:
    rows = [row for row in measured_sample(report) if len(row.curve) > 1]
    if not rows:
        return None
    of, ids = fifths(rows), numbered(report)
    shown = thinned(rows)
    best = shown[-1]
    pick = report.pick if report.pick is not None and len(report.pick.curve) > 1 else None

    def line(row: CandidateRow, kind: str, what: str = "") -> Line:
        points = [(float(epoch), 100 * accuracy) for epoch, accuracy in row.curve]
        return Line(points, mark_text(report, row, what + truth_text(row)), kind, ids.get(row.id))

    lines = [line(row, f"q{of[row.id]}") for row in _in_order(shown) if row is not best]
    lines.append(line(best, "best", "best of the sample, "))
    key = (*KEY, ("best", "best of the sample"))
    if pick is not None:
        lines.append(line(pick, "pick", "the search's pick, "))
        key = (*key, ("pick", "the search's pick"))
    svg = lines_svg(
        lines,
        "epochs of full training",
        "validation accuracy, %",
        f"Learning curves of {len(shown)} architectures in full training; the best is {best.label}, {truth_text(best)}",
    )
    return Chart(svg, f"Full training of the sample.{_only_some(len(shown), len(rows))}", key)
