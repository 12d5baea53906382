"""Forest plots: one interval below another, as SVG inside the page, in the page's colours."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate
from nasproxy.report.wording import rho_text, value_and_interval

WIDTH, SIDE = 400, 12  # of a forest plot; a telephone shows it in its own size
TITLE, LINE, GAP, AXIS = 20, 16, 8, 36  # heights
LETTERS, LABEL_LINE = 30, 15  # a row's name: its letters in a line, and the height of a line


@dataclass(frozen=True)
class ForestRow:
    """One row of a forest plot.

    Args:
        label: stands above the intervals.
        intervals: pairs of a kind, which is a class of the style sheet, and an estimate.
    """

    label: str
    intervals: tuple[tuple[str, Estimate], ...]


def forest_svg(rows: Sequence[ForestRow], xlabel: str, title: str) -> str:
    """The plot as SVG: for each row its label, the first value in numbers, and all its intervals.

    Args:
        xlabel: the name of the axis.
        title: what a screen reader says first; all numbers follow.
    """
    ends = [0.0]
    for row in rows:
        for _, e in row.intervals:
            ends += [end for end in (e.value, e.low, e.high) if end is not None]
    step = 0.25 if max(ends) - min(ends) <= 1.25 else 0.5
    low, high = step * math.floor(min(ends) / step), step * math.ceil(max(ends) / step)
    low, high = (low - step, high + step) if low == high else (low, high)

    def at(value: float) -> str:
        return f"{SIDE + (value - low) / (high - low) * (WIDTH - 2 * SIDE):.1f}"

    labels = [textwrap.wrap(row.label, LETTERS) or [""] for row in rows]
    titles = [TITLE + LABEL_LINE * (len(label) - 1) for label in labels]
    heights = [own + LINE * len(row.intervals) + GAP for own, row in zip(titles, rows, strict=True)]
    bottom = sum(heights)
    spoken = "; ".join(
        f"{row.label}: " + ", ".join(f"{kind} {rho_text(estimate)}" for kind, estimate in row.intervals) for row in rows
    )
    parts = [
        f'<svg class="forest" viewBox="0 0 {WIDTH} {bottom + AXIS}" role="img" '
        f'aria-label="{escape(f"{title}. {spoken}.")}">'
    ]
    last = round((high - low) / step)
    for number in range(last + 1):
        tick = low + number * step
        line = "zero" if tick == 0 else "grid"
        anchor = "mid" if 0 < number < last else "end" if number else "start"
        parts.append(f'<path class="{line}" d="M{at(tick)} 0V{bottom}"/>')
        parts.append(f'<text class="{anchor}" x="{at(tick)}" y="{bottom + 14}">{signed(tick)}</text>')
    parts.append(f'<text class="mid name" x="{WIDTH / 2:g}" y="{bottom + 31}">{escape(xlabel)}</text>')
    top = 0
    for row, label, title_height, height in zip(rows, labels, titles, heights, strict=True):
        lines = "".join(
            f'<tspan x="{SIDE}" dy="{LABEL_LINE if number else 0}">{escape(line)}</tspan>'
            for number, line in enumerate(label)
        )
        parts.append(f'<text class="name" y="{top + 15}">{lines}</text>')
        numbers = value_and_interval(row.intervals[0][1])
        parts.append(f'<text class="name end" x="{WIDTH - SIDE}" y="{top + 15}">{numbers}</text>')
        for place, (kind, e) in enumerate(row.intervals):
            y = top + title_height + LINE * place + LINE // 2
            if e.low is not None and e.high is not None:
                parts.append(f'<path class="{kind}" d="M{at(e.low)} {y}H{at(e.high)}"/>')
            if e.value is not None and place == 0 and kind != "unpaired":
                parts.append(f'<circle class="{kind}" cx="{at(e.value)}" cy="{y}" r="5"/>')
            elif e.value is not None:
                parts.append(f'<path class="{kind} mark" d="M{at(e.value)} {y - 6}l5 6l-5 6l-5-6z"/>')
        top += height
    return "".join([*parts, "</svg>"])
