"""Pictures: plain data in, SVG text or PNG bytes out. Equal input gives equal bytes.

Colours are those of Okabe and Ito, told apart with every common kind of colour blindness; groups also differ in shape.
Figures are as wide as a telephone's screen, so that their text is readable there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8A8F98", "#1F2328"

SIZE = (4.6, 3.3)  # inches; at 96 dots per inch 442 × 317 pixels

MAX_PICTURE_SIDE = 640  # pixels that a row of small images is magnified to, by a whole factor


def _figure(height: float = SIZE[1]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _plain(text: str, limit: int = 34) -> str:
    """Text as it is: matplotlib would read $ as mathematics; long names are cut in the middle."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"
    return text.replace("$", r"\$")


def forest_svg(rows: Sequence[tuple[str, float | None, float | None, float | None]], xlabel: str) -> str:
    """One line per ``(label, value, low, high)``, the first on top; an undefined one is written as such."""
    figure, axes = _figure(0.9 + 0.42 * max(1, len(rows)))
    for place, (_, value, low, high) in enumerate(rows):
        colour = BLUE if place == 0 else INK
        if value is None:
            axes.text(0, place, "undefined", ha="center", va="center", fontsize=9, color=GREY)
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([value], [place], marker="o" if place == 0 else "s", markersize=7, color=colour)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_xlim(-1.02, 1.02)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_plain(label) for label, *_ in rows])
    axes.set_xlabel(xlabel, fontsize=9)
    return _svg(figure, "forest")


def curves_svg(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], xlabel: str, ylabel: str, *, name: str
) -> str:
    """Lines ``(label, x, y)``, the first one thick; one without a label is drawn as the one before it."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure()
    styles = ((BLUE, "-"), (ORANGE, "--"), (INK, ":"), (GREY, "-."), ("#009E73", "-"), ("#CC79A7", "--"))
    style = styles[0]
    number = 0
    for label, x, y in lines:
        if label:
            style = styles[number % len(styles)]
            number += 1
        colour, dashes = style
        width = 2.2 if number == 1 else 1.4
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=width, label=_plain(label, 44) or "_nolegend_")
    axes.legend(fontsize=7.5, frameon=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # k and n are counts
    axes.set_xlabel(_plain(xlabel, 60), fontsize=9)
    axes.set_ylabel(_plain(ylabel, 60), fontsize=9)
    return _svg(figure, name)


def history_svg(history: Sequence[tuple[int, float]], ylabel: str, *, percent: bool = True) -> str:
    """The score of each candidate in the order of the search, and the best so far; with ``percent`` of fractions."""
    figure, axes = _figure()
    x = [number for number, _ in history]
    y = [100 * score if percent else score for _, score in history]
    axes.scatter(x, y, s=14, color=GREY, label="candidate")
    axes.step(x, np.maximum.accumulate(y) if y else y, where="post", color=BLUE, linewidth=1.8, label="best so far")
    axes.set_xlabel("candidates evaluated", fontsize=9)
    axes.set_ylabel(_plain(ylabel, 48), fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _svg(figure, "history")


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 ``(n, c, h, w)`` → ``(n, h, w, 3)``: three channels as they are, any other number as their mean in grey."""
    if pixels.shape[1] != 3:
        pixels = np.rint(pixels.astype(float).mean(axis=1, keepdims=True)).astype(np.uint8).repeat(3, axis=1)
    return pixels.transpose(0, 2, 3, 1)


def _strip(rows: Sequence[np.ndarray], factor: int) -> bytes:
    """PNG of rows of ``(h, w, 3)`` images, magnified by ``factor``, with a gap between them."""
    from PIL import Image

    gap = max(1, factor // 2)
    height, width = (side * factor for side in rows[0].shape[1:3])
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = large
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, format="PNG", optimize=True)
    return out.getvalue()


def image_grid_png(pixels: np.ndarray, labels: np.ndarray, num_classes: int) -> bytes:
    """PNG with one row of images per class, or one column where classes are many and their images few.

    ``pixels`` uint8 ``(n, c, h, w)``, ``labels`` ``(n,)``.
    """
    images = _rgb(pixels)
    blank = np.full((1, *images.shape[1:]), 255, np.uint8)
    longest = max(int((labels == label).sum()) for label in range(num_classes))
    grid = []
    for label in range(num_classes):
        own = images[labels == label]
        grid.append(np.concatenate([own, blank.repeat(longest - len(own), axis=0)]))
    if 3 * longest <= num_classes:
        grid = [np.stack([row[place] for row in grid]) for place in range(longest)]
    factor = max(1, MAX_PICTURE_SIDE // (len(grid[0]) * images.shape[2]))
    return _strip(grid, min(factor, 8))


def class_strips(
    pixels: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, max_classes: int, max_images: int
) -> list[tuple[str, bytes]]:
    """``(class name, PNG)`` of the first ``max_images`` images of each of the first ``max_classes`` classes."""
    images = _rgb(pixels)
    strips = []
    for label, name in enumerate(class_names[:max_classes]):
        own = images[labels == label][:max_images]
        if len(own):
            strips.append((name, _strip([own], max(1, min(6, 192 // images.shape[1])))))
    return strips
