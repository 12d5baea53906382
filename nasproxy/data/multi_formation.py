"""Multi-formation: one stored image holds several smaller ones, which a net sees enlarged. Mathematics only.

References: [IDC] Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def decode(images: Tensor, formation: int) -> Tensor:
    """``(n, c, h, w)`` stored images → ``(n · formation², c, h, w)``, those of one stored image next to each other.

    The tiles of a ``formation`` × ``formation`` grid, row by row, each enlarged to h × w by bilinear interpolation.
    Sides that ``formation`` does not divide are first padded with zeros, the mean pixel, below and to the right.
    Differentiable in the images; ``formation`` of 1 returns them as they are.
    """
    if formation == 1:
        return images
    n, c, h, w = images.shape
    rows, columns = -(-h // formation), -(-w // formation)
    padded = functional.pad(images, (0, formation * columns - w, 0, formation * rows - h))
    tiles = padded.reshape(n, c, formation, rows, formation, columns).permute(0, 2, 4, 1, 3, 5)
    return functional.interpolate(tiles.reshape(-1, c, rows, columns), size=(h, w), mode="bilinear")


def encode(images: Tensor, formation: int) -> Tensor:
    """``(n · formation², c, h, w)`` → ``(n, c, h, w)`` stored images that hold them, shrunk to tiles by averaging.

    What :func:`decode` puts next to each other comes from one stored image. Pixels of a tile beyond the image's side
    are cut off.
    """
    if formation == 1:
        return images
    _, c, h, w = images.shape
    rows, columns = -(-h // formation), -(-w // formation)
    tiles = functional.adaptive_avg_pool2d(images, (rows, columns))
    grid = tiles.reshape(-1, formation, formation, c, rows, columns).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, c, formation * rows, formation * columns)[:, :, :h, :w].contiguous()
