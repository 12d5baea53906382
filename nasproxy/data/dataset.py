"""A data set: three splits of uint8 images, their normalisation and a fingerprint."""

from __future__ import annotations

import hashlib
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import generator

VAL_SHARE = 0.1
SPLITS = ("train", "val", "test")

# The errors that numpy and zipfile raise on files that are cut, altered or of another kind.
BROKEN_ARRAYS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """``images`` ``(n, c, h, w)`` uint8, possibly memory-mapped, and ``labels`` ``(n,)`` int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def by_class(self, num_classes: int) -> list[Tensor]:
        """The indices of each class 0 … ``num_classes`` − 1, ascending; int64 ``(n_c,)`` each."""
        order = torch.argsort(self.labels, stable=True)
        return list(order.split(torch.bincount(self.labels, minlength=num_classes).tolist()))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits and what is needed to train on them.

    Attributes:
        name: the data set's name for people.
        train, val, test: the splits. ``val`` comes from the source, or is taken from its training images; ``test`` is
            for the final numbers of a report alone.
        class_names: C names.
        mean, std: per channel of ``train``, for pixels in [0, 1].
        fingerprint: SHA-256 (hex) of the pixels and labels of all three splits and of the class names.
        flip: a mirrored image keeps its meaning.
        notes: what was left out when it was read, in sentences for people.
    """

    name: str
    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    flip: bool
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    def normalize(self, images: Tensor) -> Tensor:
        """:func:`normalize` with the data set's own mean and std."""
        return normalize(images, self.mean, self.std)


def shared_images(dataset: Dataset) -> dict[str, int]:
    """How many images of "val" and of "test" are also in "train", or in "val", pixel for pixel.

    Returns:
        By "val in train", "test in train" and "test in val"; only what is not zero. An accuracy on such images is too
        high, because the nets have seen them.
    """
    known = {
        split: [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in data.images.numpy()]
        for split, data in (("train", dataset.train), ("val", dataset.val), ("test", dataset.test))
    }
    sets = {split: set(digests) for split, digests in known.items()}
    found = {
        f"{own} in {other}": sum(digest in sets[other] for digest in known[own])
        for own, other in (("val", "train"), ("test", "train"), ("test", "val"))
    }
    return {pair: number for pair, number in found.items() if number}


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(x / 255 − mean) / std`` of uint8 images.

    Args:
        images: ``(n, c, h, w)`` uint8, on any device.
        mean, std: one value per channel, for pixels in [0, 1].

    Returns:
        ``(n, c, h, w)`` float32, on the same device.

    Raises:
        NasproxyError: when ``images`` have another number of channels.
    """
    _check_channels(images, mean)
    _check_channels(images, std)
    shift, scale = _constants(tuple(mean), tuple(std), images.device)
    # One multiply-add per pixel, because every batch pays for the memory traffic of this line.
    return torch.addcmul(shift, images.to(torch.float32), scale)


@lru_cache(maxsize=64)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """``−mean / std`` and ``1 / (255 std)`` on ``device``; kept there, because making them waits for a GPU."""
    mean_c, std_c = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
    return (-mean_c / std_c).to(device), (1 / (255 * std_c)).to(device)


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The inverse of :func:`normalize`, rounded and clamped to uint8; exact on images that came from uint8."""
    pixels = images * _per_channel(images, std) + _per_channel(images, mean)
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def _per_channel(images: Tensor, values: Sequence[float]) -> Tensor:
    _check_channels(images, values)
    return torch.tensor(values, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)


def _check_channels(images: Tensor, values: Sequence[float]) -> None:
    if images.ndim != 4 or images.shape[1] != len(values):
        raise NasproxyError(
            f"`images` must be (n, {len(values)}, h, w) for {len(values)} channel means, but got {tuple(images.shape)}."
        )


def assemble(name: str, splits: Mapping[str, LabeledImages], class_names: Sequence[str], *, flip: bool) -> Dataset:
    """Makes a :class:`Dataset` from the splits of a source.

    Args:
        splits: "train", "test" and maybe "val". Without it, a tenth of each class of ``train`` becomes ``val``.
        class_names: C names.
        flip: a mirrored image keeps its meaning.

    Raises:
        NasproxyError: when the splits do not fit each other or the class names; see :func:`check_labels`.
    """
    check_labels(name, {split: data.labels.numpy() for split, data in splits.items()}, class_names)
    shape = splits["train"].images.shape[1:]
    for split, data in splits.items():
        if len(data.images) != len(data.labels):
            raise NasproxyError(
                f"'{name}' needs one label per image, but {split} has {len(data.images)} images and {len(data)} labels."
            )
        if data.images.shape[1:] != shape:
            raise NasproxyError(
                f"All splits of '{name}' must hold images of one size, but train has (c, h, w) = {tuple(shape)} and "
                f"{split} {tuple(data.images.shape[1:])}."
            )
    if not all(shape):
        raise NasproxyError(f"Images of '{name}' must have at least one pixel, but are (c, h, w) = {tuple(shape)}.")
    train = splits["train"]
    if "val" in splits:
        val = splits["val"]
    else:
        is_val = torch.from_numpy(val_mask(name, train.labels.numpy(), len(class_names)))
        train, val = (LabeledImages(train.images[mask], train.labels[mask]) for mask in (~is_val, is_val))
    mean, std = _mean_and_std(train.images.numpy())
    parts = {"train": train, "val": val, "test": splits["test"]}
    fingerprint = _fingerprint(parts, class_names)
    return Dataset(name, train, val, splits["test"], tuple(class_names), mean, std, fingerprint, flip)


def check_labels(name: str, labels: Mapping[str, np.ndarray], class_names: Sequence[str]) -> None:
    """Checks that there are train and test images and two classes, and that all classes have training images.

    Args:
        name: the data set's name, for messages.
        labels: split → classes ``(n,)`` int64.
        class_names: C names.

    Raises:
        NasproxyError: for a missing or empty split, fewer than two classes, a label that is no class, or a class
            without training images: the first of these.
    """
    for split in ("train", "test"):
        if split not in labels:
            raise NasproxyError(f"'{name}' needs a train and a test split, but has {_words(labels)}: add {split}.")
    if len(class_names) < 2:
        raise NasproxyError(f"A data set needs at least 2 classes, but '{name}' has {len(class_names)}.")
    for split, values in labels.items():
        if not len(values):
            raise NasproxyError(f"Every split of '{name}' needs images, but {split} is empty.")
        wrong = values[(values < 0) | (values >= len(class_names))]
        if len(wrong):
            raise NasproxyError(
                f"Labels of '{name}' must be 0 … {len(class_names) - 1} (it has {len(class_names)} classes), but "
                f"{split} has {wrong[0]}."
            )
    untrained = np.flatnonzero(np.bincount(labels["train"], minlength=len(class_names)) == 0)
    if len(untrained):
        label = untrained[0]
        elsewhere = [split for split, values in labels.items() if (values == label).any()]
        raise NasproxyError(
            f"Every class needs training images, but '{name}' has none of class {label} ('{class_names[label]}')"
            f"{', which is in ' + _words(elsewhere) if elsewhere else ''}: add some, or remove the class."
        )


def numbered_classes(name: str, labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The class names "0" … "C−1", for labels that have no names.

    Raises:
        NasproxyError: when the labels are not 0 … C−1, each of them used.
    """
    used = np.unique(np.concatenate(list(labels.values())))
    if len(used) and (used[0] != 0 or used[-1] != len(used) - 1):
        first = used[0] if used[0] != 0 else used[np.flatnonzero(used != np.arange(len(used)))[0]]
        raise NasproxyError(
            f"Labels of '{name}' must be the integers 0 … {len(used) - 1} (it uses {len(used)} different ones), but "
            f"{first} is there: renumber them."
        )
    return tuple(str(label) for label in used)


def held_out(labels: np.ndarray, num_classes: int, share: float, stream: str) -> np.ndarray:
    """Draws a share of each class.

    The draw depends on the labels and on ``stream`` alone, not on the user's seed. A class of two or more images gives
    at least one and keeps at least one.

    Args:
        labels: ``(n,)`` int64.
        share: how much of each class, in [0, 1].
        stream: the name of the random stream.

    Returns:
        A boolean mask ``(n,)``.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label, indices in enumerate(LabeledImages(torch.empty(0), torch.from_numpy(labels)).by_class(num_classes)):
        n = len(indices)
        count = min(max(round(share * n), 1), n - 1) if n >= 2 else 0
        mask[indices[torch.randperm(n, generator=generator(stream, label))[:count]].numpy()] = True
    return mask


def val_mask(name: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Which training images become ``val`` if the source has none, a boolean mask ``(n,)``: a tenth of each class.

    Raises:
        NasproxyError: when every class has a single image.
    """
    mask = held_out(labels, num_classes, VAL_SHARE, "val split")
    if not mask.any():
        raise NasproxyError(
            f"A validation split is taken from train, but every class of '{name}' has a single training image: add "
            "more, or a val split."
        )
    return mask


def _mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel, from exact counts of the 256 values: the order changes no bit of them."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 1024):
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(images[start : start + 1024, channel].ravel(), minlength=256)
    value = np.arange(256) / 255
    weight = counts / counts.sum(1, keepdims=True)
    mean = weight @ value
    std = np.sqrt((weight * (value - mean[:, None]) ** 2).sum(1))
    # A constant channel has a std of 0, which cannot divide: one grey level keeps the result finite.
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _fingerprint(splits: Mapping[str, LabeledImages], class_names: Sequence[str]) -> str:
    shapes = {split: list(data.images.shape) for split, data in splits.items()}
    digest = hashlib.sha256(json.dumps([list(class_names), shapes], sort_keys=True).encode())
    for split in SPLITS:
        digest.update(np.ascontiguousarray(splits[split].images.numpy()).data)
        digest.update(splits[split].labels.numpy().astype("<i8").data)
    return digest.hexdigest()


def _words(names: Mapping[str, object] | Sequence[str]) -> str:
    return " and ".join(names) or "neither"
