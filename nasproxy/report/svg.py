"""Plots of single candidates, as SVG inside the page. Every mark has a tooltip that names its candidate.

Colours are the page's own (classes, not values), so that they follow it into dark mode and onto paper. Groups differ in
shape as well as in colour. Equal input gives equal text. A mark is a circle, polygon or polyline with a ``title``; the
page's script finds them by it, and ``data-id`` tells it which marks of other plots are the same candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 442, 317  # as wide as a telephone's screen
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44
RADIUS, SMALL_RADIUS = 4.5, 2.5
MANY = 300  # dots that are drawn small, or they would hide each other
LOG_RATIO = 10  # between the ends of an axis that may be logarithmic, from which on it is


@dataclass(frozen=True)
class Dot:
    """One candidate: its place, who it is, half the lengths of its bars in the plot's units; ``who`` names it."""

    x: float
    y: float
    label: str
    bar: float | None = None
    bar_x: float | None = None
    who: int | None = None


@dataclass(frozen=True)
class Line:
    """One candidate as a line, drawn as the class ``kind`` of the page's style."""

    points: Sequence[tuple[float, float]]
    label: str
    kind: str
    who: int | None = None


@dataclass(frozen=True)
class Scale:
    """One of several parallel axes: its name, and texts at places between 0 (bottom) and 1."""

    name: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Span:
    """An estimate with its interval; ``text`` says it in words. ``kind`` as in :class:`Line`."""

    value: float
    low: float | None
    high: float | None
    text: str
    kind: str = "first"


@dataclass(frozen=True)
class _Axis:
    """Values between ``low`` and ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def pixel(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def at(self, value: float) -> str:
        return f"{self.pixel(value):.1f}"

    def ticks(self) -> list[float]:
        """A few round values between the ends."""
        from matplotlib.ticker import MaxNLocator

        low, high = sorted((self.low, self.high))
        if self.log:
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for steps in ((1, 2, 5), (1, 3), (1,)):
                found = [step * 10.0**decade for decade in decades for step in steps]
                found = [tick for tick in found if low <= tick <= high]
                if len(found) <= 7:
                    break
            return found[:: max(1, len(found) // 6)]
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in ticks if low <= tick <= high]


def _as_ranks(ticks: list[float], last: float) -> list[float]:
    """Ranks go from 1 to ``last``, and there are none between two."""
    return [1.0, *(tick for tick in ticks if 2 <= tick <= last and tick == int(tick))]


SUFFIXES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from where on, unit, name


def tick_text(value: float) -> str:
    """A number in little room: ``0.5``, ``−3``, ``20k``, ``1.5M``, ``1e−5``."""
    size = abs(value)
    if value and (size >= 1e15 or size < 1e-3):
        return f"{value:.1e}".replace(".0e", "e").replace("e+0", "e").replace("e-0", "e−").replace("e+", "e")
    for least, unit, suffix in SUFFIXES:
        if size >= least:
            return f"{value / unit:g}{suffix}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def shorter(text: str, limit: int) -> str:
    """Long text is cut in the middle, where names differ least."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit - limit // 2 - 1) :]}"


def _open(width: float, height: float, title: str, kind: str = "plot", style: str = "") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}"'
        f"{style}><g aria-hidden='true'>"
    )


def _mark(tag: str, attributes: str, kind: str, label: str, who: int | None) -> str:
    own = "" if who is None else f' data-id="{who}"'
    look = "" if kind in ("first", "second") else f' class="{kind}"'  # those two are told by their shape
    return f"<{tag} {attributes}{look}{own}><title>{escape(label)}</title></{tag}>"


def _dot(x: float, y: float, kind: str, label: str, who: int | None, radius: float = RADIUS) -> str:
    """A filled circle, or for the class "second" a hollow diamond."""
    if kind != "second":
        return _mark("circle", f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"', kind, label, who)
    size = RADIUS + 0.5
    corners = f"{x:.1f},{y - size:.1f} {x + size:.1f},{y:.1f} {x:.1f},{y + size:.1f} {x - size:.1f},{y:.1f}"
    return _mark("polygon", f'points="{corners}"', kind, label, who)


def _polyline(points: Sequence[tuple[float, float]], kind: str, label: str, who: int | None) -> str:
    text = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
    return _mark("polyline", f'points="{text}"', kind, label, who)


def _frame(x: _Axis, y: _Axis, xticks: list[float], yticks: list[float], xlabel: str, ylabel: str) -> list[str]:
    """Axes with their grid, numbers and names."""
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>']
    for value in xticks:
        parts.append(f'<path class="grid" d="M{x.at(value)} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x.at(value)}" y="{HEIGHT - BOTTOM + 15}" class="mid">{tick_text(value)}</text>')
    for value in yticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y.at(value)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y.at(value)}" dy="4" class="end">{tick_text(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" class="mid name">{escape(xlabel)}</text>')
    parts.append(
        f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" class="mid name">'
        f"{escape(ylabel)}</text>"
    )
    return parts


def dots_svg(
    groups: Sequence[tuple[str, Sequence[Dot]]],
    xlabel: str,
    ylabel: str,
    title: str,
    *,
    ranks: bool = False,
    log: bool = False,
    level: float | None = None,
) -> str:
    """Up to two groups of dots: filled circles, then hollow diamonds. ``title`` is what a screen reader says.

    With ``ranks`` 1 is the best and stands at the top right, and a line shows perfect agreement. With ``log`` the x
    axis is logarithmic where that helps. A line marks the y of ``level``.
    """
    dots = [dot for _, members in groups for dot in members]
    xs = [end for dot in dots for end in (dot.x - (dot.bar_x or 0), dot.x + (dot.bar_x or 0))] or [0.0, 1.0]
    ys = [end for dot in dots for end in (dot.y - (dot.bar or 0), dot.y + (dot.bar or 0))] or [0.0, 1.0]
    log = log and min(xs) > 0 and max(xs) >= LOG_RATIO * min(xs)
    (left, right), (bottom, top) = _ends(xs, log=log), _ends(ys if level is None else [*ys, level])
    if ranks:
        left, right, bottom, top = right, left, top, bottom
    x, y = _Axis(left, right, LEFT, WIDTH - RIGHT, log), _Axis(bottom, top, HEIGHT - BOTTOM, TOP)
    xticks, yticks = x.ticks(), y.ticks()
    if ranks:
        xticks, yticks = _as_ranks(xticks, max(xs)), _as_ranks(yticks, max(ys))
    parts = [_open(WIDTH, HEIGHT, title), *_frame(x, y, xticks, yticks, xlabel, ylabel)]
    if ranks:
        last = max(*xs, *ys)
        parts.append(f'<path class="line" d="M{x.at(last)} {y.at(last)}L{x.at(1)} {y.at(1)}"/>')
    if level is not None:
        parts.append(f'<path class="line" d="M{LEFT} {y.at(level)}H{WIDTH - RIGHT}"/>')
    bars = [f"M{x.at(dot.x)} {y.at(dot.y - dot.bar)}V{y.at(dot.y + dot.bar)}" for dot in dots if dot.bar]
    bars += [f"M{x.at(dot.x - dot.bar_x)} {y.at(dot.y)}H{x.at(dot.x + dot.bar_x)}" for dot in dots if dot.bar_x]
    if bars:
        parts.append(f'<path class="bar" d="{"".join(bars)}"/>')
    radius = RADIUS if len(dots) <= MANY else SMALL_RADIUS
    for kind, (_, members) in zip(("first", "second"), groups, strict=False):
        parts += [_dot(x.pixel(dot.x), y.pixel(dot.y), kind, dot.label, dot.who, radius) for dot in members]
    return "".join([*parts, "</g></svg>"])


def _ends(values: Sequence[float], *, log: bool = False) -> tuple[float, float]:
    """The least and the greatest value with a little room around them."""
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.05
        return low / room, high * room
    room = 0.05 * (high - low) or abs(high) * 0.05 or 0.5
    return low - room, high + room


def lines_svg(lines: Sequence[Line], xlabel: str, ylabel: str, title: str) -> str:
    """Lines over counts, such as epochs; the last stand above the others."""
    xs = [x for line in lines for x, _ in line.points] or [0.0, 1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    x = _Axis(*(_ends(xs) if min(xs) == max(xs) else (min(xs), max(xs))), LEFT, WIDTH - RIGHT)
    y = _Axis(*_ends(ys), HEIGHT - BOTTOM, TOP)
    counts = [tick for tick in x.ticks() if tick == int(tick)]
    parts = [_open(WIDTH, HEIGHT, title, "plot lines"), *_frame(x, y, counts, y.ticks(), xlabel, ylabel)]
    for line in lines:
        points = [(x.pixel(a), y.pixel(b)) for a, b in line.points]
        parts.append(_polyline(points, line.kind, line.label, line.who))
    return "".join([*parts, "</g></svg>"])


AXIS_GAP = 120  # between parallel axes: the names of two neighbours fit


def parallel_svg(scales: Sequence[Scale], lines: Sequence[Line], title: str) -> str:
    """Parallel coordinates: ``x`` of a line's points is the number of an axis, ``y`` its place on it, 0 to 1.

    As wide as its axes need; the page scrolls it sideways where the screen is narrower.
    """
    width = max(WIDTH, AXIS_GAP * len(scales))
    gap = width / max(1, len(scales))
    top, bottom = 34, HEIGHT - 12

    def place(x: float, y: float) -> tuple[float, float]:
        return gap * (x + 0.5), bottom - y * (bottom - top)

    parts = [_open(width, HEIGHT, title, "plot lines wide", f' style="min-width:{0.86 * width:.0f}px"')]
    for line in lines:
        parts.append(_polyline([place(x, y) for x, y in line.points], line.kind, line.label, line.who))
    for number, scale in enumerate(scales):  # above the lines, or nobody could read them
        x, _ = place(number, 0)
        parts.append(f'<path class="axis" d="M{x:.0f} {top}V{bottom}"/>')
        name = escape(shorter(scale.name, 16))
        parts.append(f'<text x="{x:.0f}" y="16" class="mid name">{name}</text>')
        for y, text in scale.ticks:
            parts.append(
                f'<text x="{x + 5:.0f}" y="{place(number, y)[1]:.1f}" dy="4" class="halo">{escape(text)}</text>'
            )
    return "".join([*parts, "</g></svg>"])


ROW_HEIGHT = 22
LABEL_CHARACTERS = 26  # of a row
CHARACTER = 6.8  # pixels, at 11 px


def spans_svg(
    rows: Sequence[tuple[str, Sequence[Span]]],
    xlabel: str,
    title: str,
    *,
    ends: tuple[float, float] | None = None,
    width: int = WIDTH,
    characters: int = 0,
) -> str:
    """A row for every label, with one or two estimates and their intervals; a row without any says "unknown".

    ``ends`` of the axis and least room for ``characters`` of labels, where several plots are to be compared; a line
    marks 0.
    """
    values = [value for _, spans in rows for s in spans for value in (s.value, s.low, s.high) if value is not None]
    low, high = ends or _ends([0.0, *values])
    longest = min(LABEL_CHARACTERS, max([characters, *(len(label) for label, _ in rows)]))
    left, height = 14 + CHARACTER * longest, 8 + ROW_HEIGHT * len(rows) + BOTTOM - 6
    x = _Axis(low, high, left, width - RIGHT)
    foot = height - BOTTOM + 2
    parts = [_open(width, height, title)]
    for value in x.ticks():
        parts.append(f'<path class="grid" d="M{x.at(value)} 6V{foot}"/>')
        parts.append(f'<text x="{x.at(value)}" y="{foot + 15:g}" class="mid">{tick_text(value)}</text>')
    parts.append(f'<path class="line" d="M{x.at(0)} 6V{foot}"/>')
    parts.append(
        f'<text x="{(left + width - RIGHT) / 2:.0f}" y="{height - 8:g}" class="mid name">{escape(xlabel)}</text>'
    )
    for number, (label, spans) in enumerate(rows):
        middle = 8 + ROW_HEIGHT * (number + 0.5)
        text = escape(shorter(label, LABEL_CHARACTERS))
        parts.append(f'<text x="{left - 8:.0f}" y="{middle:g}" dy="4" class="end row">{text}</text>')
        if not spans:
            parts.append(f'<text x="{x.pixel(0) + 5:.1f}" y="{middle:g}" dy="4">unknown</text>')
        for place, span in enumerate(spans):
            y = middle + (place - (len(spans) - 1) / 2) * 9
            if span.low is not None and span.high is not None:
                parts.append(f'<path class="span {span.kind}" d="M{x.at(span.low)} {y:.1f}H{x.at(span.high)}"/>')
            parts.append(_dot(x.pixel(span.value), y, span.kind, span.text, None))
    return "".join([*parts, "</g></svg>"])
