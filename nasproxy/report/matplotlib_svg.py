"""Pictures: plain data in, SVG text or PNG bytes out. Equal input gives equal bytes.

Colours are those of Okabe and Ito, told apart with every common kind of colour blindness; groups also differ in shape.
Figures are as wide as a telephone's screen, so that their text is readable there. Their SVG stands in the page itself:
colours are the page's variables, with these as what a file of its own falls back to, and text is in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8F98", "#1F2328"
LINE = "#D9DEE4"  # of the grid

# What the page's style calls them, there in a light and a dark shade.
VARIABLES = {
    BLUE: "--accent",
    ORANGE: "--second",
    GREEN: "--third",
    PINK: "--fourth",
    GREY: "--soft",
    INK: "--ink",
    LINE: "--line",
}

SIZE = (4.6, 3.3)  # inches; at 96 dots per inch 442 × 317 pixels

LEGEND_ROW = 0.17  # inches
LABEL_LETTERS = 31  # of a line of a row's name; it may take three
ROW, ROW_LINE = 0.11, 0.15  # inches that a row takes, and each line of its name more


def _figure(height: float = SIZE[1]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(GREY)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=GREY, labelcolor=GREY)
    return figure, axes


def _svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element of a page; ``title`` is what a screen reader says, ``name`` makes its ids its own."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    return _inlined(out.getvalue(), name, title)


_METADATA = ("Date", "Creator", "Format", "Type")


def _inlined(svg: str, name: str, title: str) -> str:
    """matplotlib's document without what holds for a whole page: its style, its ids, its colours, its fonts."""
    body = svg[svg.index("<svg") :]
    size = re.search(r'viewBox="[^"]*"', body)
    assert size is not None
    body = body[body.index(">") + 1 :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", body, flags=re.DOTALL
    )
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{slug}-", body).replace("xlink:href", "href")
    body = re.sub(r" font-family: [^;]*;| transform=\"rotate\(-0 [^)]*\)\"", "", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour.lower(), f"var({variable}, {colour})")
    body = re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s*\n\s*", " ", body))  # of a pixel
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size[0]} role="img" '
        f'aria-label="{escape(title)}" stroke-linejoin="round">{body}'.strip()
    )


def _plain(text: str, limit: int = 34) -> str:
    """Escaped text: matplotlib would read $ as mathematics; long names are cut in the middle."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"
    return text.replace("$", r"\$")


def curves_svg(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    *,
    name: str,
    title: str = "",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    log: bool = False,
) -> str:
    """Lines ``(label, x, y)``, the first one thick; ``bands`` are what lies between low and high around a line.

    ``name`` must be its own among the figures of a page. ``log``: x is on a logarithmic scale, marked at 1, 3, 10, ….
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    columns = 2 if all(len(label) <= 28 for label, *_ in lines) else 1
    figure, axes = _figure(SIZE[1] + LEGEND_ROW * -(-len(lines) // columns))
    styles = ((BLUE, "-"), (ORANGE, "--"), (INK, ":"), (GREEN, "-."), (PINK, "-"), (GREY, "--"))
    for number, (label, x, y) in enumerate(lines):
        colour, dashes = styles[number % len(styles)]
        if bands and label in bands:
            axes.fill_between(x, *bands[label], color=colour, alpha=0.15, linewidth=0)
        width = 2.2 if number == 0 else 1.5
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=width, label=_plain(label, 44))
    # Above the axes: inside, it would lie on some line.
    figure.legend(loc="outside upper left", ncols=columns, fontsize=8, frameon=False, labelcolor=INK, borderpad=0)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300, 1000]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # k and n are counts
    axes.set_xlabel(_plain(xlabel, 60), fontsize=9, color=INK)
    axes.set_ylabel(_plain(ylabel, 60), fontsize=9, color=INK)
    return _svg(figure, name, title or f"{ylabel} against {xlabel}")


def history_svg(history: Sequence[tuple[int, float]], ylabel: str, *, percent: bool = True, title: str = "") -> str:
    """The score of each candidate in the order of the search, and the best so far; with ``percent`` of fractions."""
    figure, axes = _figure(SIZE[1] + LEGEND_ROW)
    x = [number for number, _ in history]
    y = [100 * score if percent else score for _, score in history]
    axes.scatter(x, y, s=14, color=GREY, linewidths=0, label="candidate")
    axes.step(x, np.maximum.accumulate(y) if y else y, where="post", color=BLUE, linewidth=1.8, label="best so far")
    axes.set_xlabel("candidates evaluated", fontsize=9, color=INK)
    axes.set_ylabel(_plain(ylabel, 48), fontsize=9, color=INK)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False, labelcolor=INK, borderpad=0)
    return _svg(figure, "history", title or f"{ylabel} by the order of the search")
