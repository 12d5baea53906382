"""Multi-formation: one stored image holds several smaller ones, which are enlarged for a net. Mathematics only.

References: [IDC] Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def decode(images: Tensor, formation: int) -> Tensor:
    """The images that a net trains on; it is differentiable in ``images``. See [IDC].

    A stored image is a grid of ``formation`` × ``formation`` tiles. Each tile is enlarged to h × w by bilinear
    interpolation. Sides that ``formation`` does not divide are first padded with zeros, the mean pixel, at the bottom
    and at the right.

    Args:
        images: stored images ``(n, c, h, w)``.
        formation: tiles per side; 1 returns ``images``.

    Returns:
        ``(n · formation², c, h, w)``: the tiles of each stored image one after the other, row by row.
    """
    if formation == 1:
        return images
    n, c, h, w = images.shape
    rows, columns = -(-h // formation), -(-w // formation)
    padded = functional.pad(images, (0, formation * columns - w, 0, formation * rows - h))
    tiles = padded.reshape(n, c, formation, rows, formation, columns).permute(0, 2, 4, 1, 3, 5)
    return functional.interpolate(tiles.reshape(-1, c, rows, columns), size=(h, w), mode="bilinear")


def encode(images: Tensor, formation: int) -> Tensor:
    """The stored images from which :func:`decode` makes something like ``images``.

    Each image is shrunk to a tile by averaging. Pixels of a tile beyond the side of the stored image are cut off.

    Args:
        images: ``(n · formation², c, h, w)``, ordered as :func:`decode` orders them.
        formation: tiles per side; 1 returns ``images``.

    Returns:
        ``(n, c, h, w)``.
    """
    if formation == 1:
        return images
    _, c, h, w = images.shape
    rows, columns = -(-h // formation), -(-w // formation)
    tiles = functional.adaptive_avg_pool2d(images, (rows, columns))
    grid = tiles.reshape(-1, formation, formation, c, rows, columns).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, c, formation * rows, formation * columns)[:, :, :h, :w].contiguous()
