"""Data sets in one ``.npz`` file of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nasproxy.core.errors import NasproxyError
from nasproxy.data.dataset import BROKEN_ARRAYS, SPLITS, LabeledImages, numbered_classes

KEYS = "train_images, train_labels, test_images, test_labels (or x_train, y_train, x_test, y_test)"


def load_npz(path: Path) -> tuple[dict[str, LabeledImages], tuple[str, ...]]:
    """Reads the splits and class names of an ``.npz`` into memory.

    Images are uint8, or floats in [0, 1] that are rounded to uint8, of shape ``(n, h, w)``, ``(n, h, w, c)`` or
    ``(n, c, h, w)``. The channels are the first or last axis of an image: the one of length 1 or 3, else the shorter
    one. Labels are integers ``(n,)`` or ``(n, 1)``. ``class_names`` is optional.

    Returns:
        Split → images ``(n, c, h, w)`` and labels, and C class names.

    Raises:
        NasproxyError: for a file that cannot be read, or arrays that are missing or of another kind.
    """
    arrays = _read(path)
    images, labels = {}, {}
    for split in SPLITS:
        for image_key, label_key in ((f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}")):
            if (image_key in arrays) != (label_key in arrays):
                present, absent = (image_key, label_key) if image_key in arrays else (label_key, image_key)
                raise NasproxyError(f"'{path}' holds `{present}` but not `{absent}`: add it.")
            if image_key in arrays and split not in images:
                images[split] = _pixels(path, image_key, arrays[image_key])
                labels[split] = _labels(path, label_key, arrays[label_key])
    if not {"train", "test"} <= set(images):
        raise NasproxyError(f"'{path}' must hold {KEYS}, but holds {', '.join(sorted(arrays)) or 'nothing'}.")
    axis = _channel_axis(path, images["train"].shape)
    splits = {}
    for split, pixels in images.items():
        if pixels.ndim != images["train"].ndim:
            raise NasproxyError(
                f"All images of '{path}' must have the same axes, but train is {images['train'].shape} and {split} "
                f"{pixels.shape}."
            )
        nchw = pixels[:, None] if axis is None else np.moveaxis(pixels, axis, 1)
        splits[split] = LabeledImages(torch.from_numpy(np.ascontiguousarray(nchw)), torch.from_numpy(labels[split]))
    if "class_names" not in arrays:
        return splits, numbered_classes(path.name, labels)
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise NasproxyError(
            f"`class_names` of '{path}' must be a one-dimensional array of strings, but is {names.dtype} {names.shape}."
        )
    return splits, tuple(names.tolist())


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".npz":
        raise NasproxyError(f"A data set in one file must be an .npz, but got '{path}': pass an .npz, or a folder.")
    try:
        # Opened here: numpy leaves the file open when it is not a whole archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array")
            with archive:
                return {name: archive[name] for name in archive.files}
    except BROKEN_ARRAYS as error:
        reason = "it holds Python objects, which could run code" if "allow_pickle" in str(error) else str(error)
        raise NasproxyError(
            f"'{path}' cannot be read as an .npz of plain arrays ({reason}): write it again with numpy.savez."
        ) from error


def _pixels(path: Path, key: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim not in (3, 4):
        raise NasproxyError(
            f"`{key}` of '{path}' must be (n, h, w), (n, h, w, c) or (n, c, h, w), but has the shape {pixels.shape}."
        )
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype.kind != "f":
        raise NasproxyError(
            f"`{key}` of '{path}' must be uint8, or floats in [0, 1], but is {pixels.dtype}: store .astype('uint8')."
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise NasproxyError(
            f"`{key}` of '{path}' must be uint8, or floats in [0, 1], but holds {pixels.dtype} from {low:g} to "
            f"{high:g}: scale it, or store .astype(numpy.uint8)."
        )
    return np.rint(pixels * 255).astype(np.uint8)


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise NasproxyError(
            f"`{key}` of '{path}' must be integers 0 … C−1 of shape (n,), but is {labels.dtype} {labels.shape}."
        )
    return labels.astype(np.int64)


def _channel_axis(path: Path, shape: tuple[int, ...]) -> int | None:
    if len(shape) == 3:
        return None
    first, last = shape[1], shape[3]
    if (first in (1, 3)) != (last in (1, 3)):
        return 1 if first in (1, 3) else 3
    if first == last:
        raise NasproxyError(
            f"The channel axis of '{path}' must be the first or last of an image, but {shape[1:]} does not tell which: "
            "crop or resize the images so that the two lengths differ."
        )
    return 1 if first < last else 3
