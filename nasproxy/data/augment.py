"""Augmentation in two steps: parameters are sampled, and then applied to any batch. Mathematics only.

Both steps run on the images' device; nothing is read back from it, and no branch depends on what was drawn. Images are
normalised floats, so that zero padding is the mean pixel. Applying is differentiable in the images, to any order.

``dsa`` applies one of six families to an image: colour, crop, cutout, scale, rotate, flip. ``dsa_no_flip``, for digits,
applies one of the first five. Each row of parameters has those of all families; the families that were not drawn have
parameters that change nothing. The other policies shift an image, mirror it, and cut a box out of it, as their names
say. ``alternate`` mirrors an image in every other epoch instead of at random, so that two epochs show both views.

References: [DSA] Zhao, Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021, and the
implementation published with it. [cutout] DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks
with Cutout", 2017. [alternate] Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, section 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

SHIFT_FRACTION = 1 / 8  # of the side, each way: the crop padding of 4 pixels at 32 × 32

# [DSA]: the ranges of the published implementation.
FAMILIES = ("colour", "crop", "cutout", "scale", "rotate", "flip")
NUM_FAMILIES = {"dsa": 6, "dsa_no_flip": 5}  # how many of FAMILIES are drawn from, each as often as the others
BRIGHTNESS = (-0.5, 0.5)  # added; in standard deviations of the data, since images are normalised
SATURATION = (0.0, 2.0)  # times the difference to the pixel's mean over channels
CONTRAST = (0.5, 1.5)  # times the difference to the image's mean
CROP_FRACTION = 1 / 8  # of the side, rounded: the largest shift, each way
CUTOUT_FRACTION = 1 / 2  # of the side, rounded: the side of the box; [cutout] takes the same on CIFAR-10
SCALE = (1 / 1.2, 1.2)  # the window's side over the image's, drawn for each axis: above 1 the image shrinks
ROTATION = (-pi / 12, pi / 12)  # radians: 15° each way
FLIP_PROBABILITY = 0.5

# Policies that shift, mirror and cut out.
SHIFTS = ("shift", "flip_shift", "shift_cutout", "alternate_shift", "alternate_shift_cutout")


@dataclass(frozen=True)
class ShiftParams:
    """Parameters of the policies that shift; one row per image or class.

    Attributes:
        flip: whether to mirror, bool ``(rows,)``; None: never.
        dy, dx: the shift down and to the right, integer pixels ``(rows,)``.
        box: as in :class:`DsaParams`; None: nothing is cut out.
    """

    flip: Tensor | None
    dy: Tensor
    dx: Tensor
    box: Tensor | None = None

    def take(self, index: Tensor) -> ShiftParams:
        """The rows ``index`` ``(n,)``, int64 on the parameters' device: one for each of n images."""
        flip, box = (None if own is None else own.index_select(0, index) for own in (self.flip, self.box))
        return ShiftParams(flip, self.dy.index_select(0, index), self.dx.index_select(0, index), box)


@dataclass(frozen=True)
class DsaParams:
    """Parameters of ``dsa``; one row per image or class.

    Attributes:
        theta: ``(rows, 2, 3)``, an affine map from an output pixel to where it is read, in coordinates (x, y) from −1
            to 1, edge to edge. The identity is ``[[1, 0, 0], [0, 1, 0]]``.
        colour: ``(rows, 3)``, brightness, saturation and contrast. The identity is ``(0, 1, 1)``.
        box: int64 ``(rows, 4)``, top, bottom, left and right of the cutout in pixels; bottom and right are excluded. It
            may reach over the border. The identity is ``(0, 0, 0, 0)``.
    """

    theta: Tensor
    colour: Tensor
    box: Tensor

    def take(self, index: Tensor) -> DsaParams:
        """The rows ``index`` ``(n,)``, int64 on the parameters' device: one for each of n images."""
        return DsaParams(*(rows.index_select(0, index) for rows in (self.theta, self.colour, self.box)))


AugmentParams: TypeAlias = ShiftParams | DsaParams


def mirrored_first(num_images: int, generator: torch.Generator) -> Tensor:
    """Which images an alternating policy mirrors in the first epoch and not in the second: bool ``(num_images,)``."""
    return torch.rand(num_images, generator=generator, device=generator.device) < FLIP_PROBABILITY


def sample_augmentation(
    policy: str,
    shape: tuple[int, ...] | torch.Size,
    generator: torch.Generator,
    *,
    mirrored: Tensor | None = None,
) -> AugmentParams | None:
    """Draws the parameters for a batch, a row per image.

    ``dsa`` draws one family for the batch and parameters for each image, as the implementation of [DSA] does when a net
    is trained on a set.

    Args:
        policy: "none", one of ``SHIFTS``, or one of ``NUM_FAMILIES``.
        shape: ``(n, c, h, w)`` of the batch.
        generator: the parameters are on its device.
        mirrored: which images an alternating policy mirrors now, bool ``(n,)``. None: it mirrors at random, where
            there are no epochs.

    Returns:
        None for the policy "none".

    Raises:
        ValueError: for an unknown policy.
    """
    if policy == "none":
        return None
    n, _, height, width = shape
    if policy in NUM_FAMILIES:
        family = torch.randint(NUM_FAMILIES[policy], (1,), generator=generator, device=generator.device)
        return _sample_dsa(family.expand(n), height, width, generator)
    if policy not in SHIFTS:
        known = ", ".join(("none", *SHIFTS, *NUM_FAMILIES))
        raise ValueError(f"`policy` must be one of {known}, but got '{policy}'.")

    def draw(side: int) -> Tensor:
        reach = int(side * SHIFT_FRACTION)
        return torch.randint(-reach, reach + 1, (n,), generator=generator, device=generator.device)

    dy, dx = draw(height), draw(width)
    flip = None
    if policy.startswith("alternate"):
        flip = mirrored_first(n, generator) if mirrored is None else mirrored
    elif policy.startswith("flip"):
        flip = mirrored_first(n, generator)
    box = None
    if policy.endswith("cutout"):
        box = torch.stack((*_sample_cut(height, n, generator), *_sample_cut(width, n, generator)), 1)
    return ShiftParams(flip, dy, dx, box)


def _sample_cut(side: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Start and end ``(n,)`` of boxes along a side, in pixels; they may reach over its ends.

    The centre of an odd box is any pixel. The centre of an even box is between two pixels or at an end of the side.
    """
    size = int(side * CUTOUT_FRACTION + 0.5)
    centre = torch.randint(0, side - size % 2 + 1, (n,), generator=generator, device=generator.device)
    start = centre - size // 2
    return start, start + size


def sample_siamese(
    policy: str, num_rows: int, input_shape: tuple[int, int, int], generator: torch.Generator
) -> AugmentParams | None:
    """Draws parameters for classes, a row per class, each with its own family.

    ``apply_augmentation(images, params.take(class_of_image))`` then gives all images of a class the same augmentation,
    real and synthetic ones, as in [DSA].

    Args:
        policy: as in :func:`sample_augmentation`.
        num_rows: how many classes.
        input_shape: ``(c, h, w)`` of the images.
        generator: the parameters are on its device.

    Returns:
        None for the policy "none".

    Raises:
        ValueError: for an unknown policy.
    """
    if policy in NUM_FAMILIES:
        family = torch.randint(NUM_FAMILIES[policy], (num_rows,), generator=generator, device=generator.device)
        return _sample_dsa(family, *input_shape[1:], generator)
    return sample_augmentation(policy, (num_rows, *input_shape), generator)


def _sample_dsa(family: Tensor, height: int, width: int, generator: torch.Generator) -> DsaParams:
    """Parameters whose row i changes nothing but by the family ``family[i]``, an index into ``FAMILIES``."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(family), generator=generator, device=generator.device)

    def integer(low: int, high: int) -> Tensor:  # both ends included
        return torch.randint(low, high + 1, (len(family),), generator=generator, device=generator.device)

    def only(name: str, drawn: Tensor, identity: float) -> Tensor:
        return torch.where(family == FAMILIES.index(name), drawn, identity)

    def cut(side: int) -> tuple[Tensor, Tensor]:
        start, end = _sample_cut(side, len(family), generator)
        return only("cutout", start, 0), only("cutout", end, 0)

    def shift(side: int) -> Tensor:
        reach = int(side * CROP_FRACTION + 0.5)
        return only("crop", integer(-reach, reach) * (2 / side), 0)  # the image is 2 wide in the units of theta

    angle = only("rotate", uniform(*ROTATION), 0)
    mirrored = only("flip", torch.where(uniform(0, 1) < FLIP_PROBABILITY, -1.0, 1.0), 1)
    scale_x, scale_y = only("scale", uniform(*SCALE), 1), only("scale", uniform(*SCALE), 1)
    # At most one of these is not the identity, so that the order of the factors does not matter.
    theta_x = torch.stack((angle.cos() * mirrored * scale_x, -angle.sin(), shift(width)), 1)
    theta_y = torch.stack((angle.sin(), angle.cos() * scale_y, shift(height)), 1)
    colour = (
        only("colour", uniform(*BRIGHTNESS), 0),
        only("colour", uniform(*SATURATION), 1),
        only("colour", uniform(*CONTRAST), 1),
    )
    return DsaParams(
        torch.stack((theta_x, theta_y), 1), torch.stack(colour, 1), torch.stack(cut(height) + cut(width), 1)
    )


def apply_augmentation(images: Tensor, params: AugmentParams | None) -> Tensor:
    """Applies row i of ``params`` to image i; pixels from outside an image are zero.

    Shifting and mirroring by ``ShiftParams`` is exact. By ``DsaParams`` it is exact where the sides are powers of two;
    else the error is that of rounding pixel coordinates, in float32 below 1e-7 × side × the difference of neighbouring
    pixels.

    Args:
        images: ``(n, c, h, w)`` float, normalised.
        params: None changes nothing.

    Returns:
        ``(n, c, h, w)``.
    """
    if params is None:
        return images
    return _apply_shift(images, params) if isinstance(params, ShiftParams) else _apply_dsa(images, params)


def _apply_shift(images: Tensor, params: ShiftParams) -> Tensor:
    """``images``, mirrored where ``params.flip``, then shifted by ``(dy, dx)``, and zero within ``params.box``."""
    if params.flip is not None:
        images = torch.where(params.flip[:, None, None, None], images.flip(3), images)
    n, _, height, width = images.shape
    pad_y, pad_x = int(height * SHIFT_FRACTION), int(width * SHIFT_FRACTION)
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    rows = torch.arange(height, device=images.device)[None, :] + (pad_y - params.dy)[:, None]  # (n, h)
    cols = torch.arange(width, device=images.device)[None, :] + (pad_x - params.dx)[:, None]  # (n, w)
    index = torch.arange(n, device=images.device)[:, None, None]
    # Indexing around the channel axis puts it last. It is put back in memory, too, because convolutions on a CPU keep
    # the layout of their input, and norms are several times slower with channels last (benchmarks/LOG.md).
    moved = padded[index, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2).contiguous()
    return moved if params.box is None else _cut_out(moved, params.box)


def _apply_dsa(images: Tensor, params: DsaParams) -> Tensor:
    """``images``, read at the places of ``params.theta``, recoloured, and zero within ``params.box``."""
    n, _, height, width = images.shape
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    # Pixel centres for align_corners=False: −1 and 1 are the outer edges. affine_grid would round more.
    across = (2 * x + 1 - width).to(images.dtype) / width
    down = (2 * y + 1 - height).to(images.dtype)[:, None] / height
    theta = params.theta.to(images.dtype).view(n, 2, 3, 1, 1)
    grid = theta[:, :, 0] * across + theta[:, :, 1] * down + theta[:, :, 2]  # (n, 2, h, w)
    images = functional.grid_sample(
        images, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )

    # x → x + b, then m + s (x − m) about the pixel's mean over channels m, then M + k (x − M) about the image's mean M.
    # Together: k s x + k (1 − s) m + (1 − k) M + b, with the means of the image before; only the first term has c
    # channels.
    b, s, k = params.colour.to(images.dtype).view(n, 3, 1, 1, 1).unbind(1)
    pixel_mean = images.mean(1, keepdim=True)
    image_mean = pixel_mean.mean((2, 3), keepdim=True)
    images = k * s * images + (k * (1 - s) * pixel_mean + (1 - k) * image_mean + b)

    return _cut_out(images, params.box)


def _cut_out(images: Tensor, box: Tensor) -> Tensor:
    """``images`` ``(n, c, h, w)`` with zeros within ``box`` ``(n, 4)``."""
    y, x = (torch.arange(side, device=images.device) for side in images.shape[2:])
    top, bottom, left, right = box[:, :, None].unbind(1)
    cut_y, cut_x = (y >= top) & (y < bottom), (x >= left) & (x < right)  # (n, h), (n, w)
    return images.masked_fill((cut_y[:, :, None] & cut_x[:, None, :])[:, None], 0.0)
