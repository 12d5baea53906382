"""PNG pictures of image grids and strips."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

MAX_PICTURE_SIDE = 640  # pixels that a row of small images is magnified to, by a whole factor


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
    """``(class name, PNG)`` of the first ``max_images`` images of each of the first ``max_classes`` classes.

    One pixel is one pixel: the page magnifies them, which keeps it small.
    """
    images = _rgb(pixels)
    strips = []
    for label, name in enumerate(class_names[:max_classes]):
        own = images[labels == label][:max_images]
        if len(own):
            strips.append((name, _strip([own], 1)))
    return strips
