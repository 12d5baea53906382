"""Plots of single candidates, as SVG that stands in the page itself: a dot says under the pointer who it is.

Colours are the page's own (classes, not values), so that they follow it into dark mode and onto paper. Equal input
gives equal text. Groups differ in shape as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 442, 317  # as wide as a telephone's screen
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44
RADIUS = 4.5


@dataclass(frozen=True)
class Dot:
    """One candidate: its place, who it is, and half the height of its bar in the plot's unit, None for none."""

    x: float
    y: float
    label: str
    bar: float | None = None


@dataclass(frozen=True)
class _Axis:
    """Values between ``low`` and ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{self.start + share * (self.end - self.start):.1f}"

    def ticks(self) -> list[float]:
        """A few round values between the ends."""
        from matplotlib.ticker import MaxNLocator

        low, high = sorted((self.low, self.high))
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in ticks if low <= tick <= high]


def _as_ranks(ticks: list[float], last: float) -> list[float]:
    """Ranks go from 1 to ``last``, and there are none between two."""
    return [1.0, *(tick for tick in ticks if 2 <= tick <= last and tick == int(tick))]


def _text_of(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e−").replace("e+", "e")
    return f"{value:g}".replace("-", "−")


def dots_svg(
    groups: Sequence[tuple[str, Sequence[Dot]]],
    xlabel: str,
    ylabel: str,
    title: str,
    *,
    ranks: bool = False,
) -> str:
    """Up to two groups of dots: filled circles, then hollow diamonds. ``title`` is what a screen reader says.

    With ``ranks`` 1 is the best and stands at the top right, and a line shows perfect agreement.
    """
    dots = [dot for _, members in groups for dot in members]
    xs = [dot.x for dot in dots] or [0.0, 1.0]
    ys = [end for dot in dots for end in (dot.y - (dot.bar or 0), dot.y + (dot.bar or 0))] or [0.0, 1.0]
    (left, right), (bottom, top) = _ends(xs), _ends(ys)
    if ranks:
        left, right, bottom, top = right, left, top, bottom
    x, y = _Axis(left, right, LEFT, WIDTH - RIGHT), _Axis(bottom, top, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>',
    ]
    for value in _as_ranks(x.ticks(), max(xs)) if ranks else x.ticks():
        parts.append(f'<path class="grid" d="M{x.at(value)} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x.at(value)}" y="{HEIGHT - BOTTOM + 15}" class="mid">{_text_of(value)}</text>')
    for value in _as_ranks(y.ticks(), max(ys)) if ranks else y.ticks():
        parts.append(f'<path class="grid" d="M{LEFT} {y.at(value)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y.at(value)}" dy="4" class="end">{_text_of(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" class="mid name">{escape(xlabel)}</text>')
    parts.append(
        f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" class="mid name">'
        f"{escape(ylabel)}</text>"
    )
    if ranks:
        last = max(max(xs), max(ys))
        parts.append(f'<path class="line" d="M{x.at(last)} {y.at(last)}L{x.at(1)} {y.at(1)}"/>')
    for kind, (_, members) in zip(("first", "second"), groups, strict=False):
        for dot in members:
            place = f"M{x.at(dot.x)} {y.at(dot.y)}"
            if dot.bar:
                parts.append(f'<path class="bar" d="M{x.at(dot.x)} {y.at(dot.y - dot.bar)}V{y.at(dot.y + dot.bar)}"/>')
            shape = (
                f'<circle cx="{x.at(dot.x)}" cy="{y.at(dot.y)}" r="{RADIUS}" class="{kind}">'
                if kind == "first"
                else f'<path d="{place}m0-{RADIUS + 1}l{RADIUS} {RADIUS + 1}l-{RADIUS} {RADIUS + 1}'
                f'l-{RADIUS}-{RADIUS + 1}z" class="{kind}">'
            )
            tag = "circle" if kind == "first" else "path"
            parts.append(f"{shape}<title>{escape(dot.label)}</title></{tag}>")
    return "".join([*parts, "</svg>"])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value with a little room around them."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or abs(high) * 0.05 or 0.5
    return low - room, high + room
