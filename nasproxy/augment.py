"""Augmentation in two steps: sample parameters once, apply them to any batch of the same size. Mathematics only.

Both steps run on the images' device without a read-back; images are float, normalised, so that zero padding is the
mean pixel. Applying is differentiable in the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SHIFT_FRACTION = 1 / 8  # of the side, each way: the crop padding of 4 pixels at 32 × 32


@dataclass(frozen=True)
class AugmentParams:
    """One row per image: ``flip`` bool ``(n,)`` or None; ``dy``, ``dx`` integer pixels ``(n,)``."""

    flip: Tensor | None
    dy: Tensor
    dx: Tensor

    def take(self, index: Tensor) -> AugmentParams:
        """The rows ``index`` ``(n,)``."""
        return AugmentParams(None if self.flip is None else self.flip[index], self.dy[index], self.dx[index])


def sample_augmentation(policy: str, shape: torch.Size, generator: torch.Generator) -> AugmentParams | None:
    """Parameters for a batch of ``shape`` ``(n, c, h, w)``, drawn on the generator's device; None for ``none``."""
    if policy == "none":
        return None
    n, _, height, width = shape

    def draw(side: int) -> Tensor:
        reach = int(side * SHIFT_FRACTION)
        return torch.randint(-reach, reach + 1, (n,), generator=generator, device=generator.device)

    dy, dx = draw(height), draw(width)
    flip = None
    if policy == "flip_shift":
        flip = torch.rand(n, generator=generator, device=generator.device) < 0.5
    return AugmentParams(flip, dy, dx)


def apply_augmentation(images: Tensor, params: AugmentParams | None) -> Tensor:
    """``images`` ``(n, c, h, w)`` float, mirrored where ``params.flip`` and moved by ``(dy, dx)``, zeros moving in."""
    if params is None:
        return images
    if params.flip is not None:
        images = torch.where(params.flip[:, None, None, None], images.flip(3), images)
    n, _, height, width = images.shape
    pad_y, pad_x = int(height * SHIFT_FRACTION), int(width * SHIFT_FRACTION)
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    rows = torch.arange(height, device=images.device)[None, :] + (pad_y - params.dy)[:, None]  # (n, h)
    cols = torch.arange(width, device=images.device)[None, :] + (pad_x - params.dx)[:, None]  # (n, w)
    index = torch.arange(n, device=images.device)[:, None, None]
    # Indexing around the channel axis puts it last; back to (n, c, h, w).
    return padded[index, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


def sample_siamese(
    policy: str, num_rows: int, input_shape: tuple[int, ...], generator: torch.Generator
) -> AugmentParams | None:
    """Parameters of ``num_rows`` classes, one row each."""
    return sample_augmentation(policy, torch.Size((num_rows, *input_shape)), generator)
