"""Data sets: names, folders of images, Parquet files and .npz arrays in; uint8 splits and their statistics out.

A data set is three splits of uint8 tensors; batching is indexing, and normalising happens on the device. Folders and
Parquet files are decoded once into a cache of ``.npy`` files, which are memory-mapped when they would fill the memory.

The validation split comes from the source when it has one; otherwise a tenth of the training images, stratified, drawn
with a fixed seed that no option changes. Candidates are ranked on it; the test split is for final numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from nasproxy.errors import NasproxyError, nearest

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[int, int, str], None]
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # split → uint8 (n, c, h, w), int64 (n,)

SPLIT_SEED = 20210503  # of the validation split and of the digits' test split; fixed, so that results compare
VAL_FRACTION = 0.1
DIGITS_TEST_FRACTION = 0.2
CACHE_FORMAT = 1
MEMORY_SHARE = 0.5  # of the available memory; larger caches are memory-mapped
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class LabeledImages:
    """``images`` ``(n, c, h, w)`` uint8, possibly memory-mapped, and ``labels`` ``(n,)`` int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def by_class(self, num_classes: int) -> list[Tensor]:
        """For each class the indices of its images, ascending."""
        return [(self.labels == label).nonzero()[:, 0] for label in range(num_classes)]


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 ``(n, c, h, w)`` → float32 ``(x / 255 − mean) / std``, on the images' device."""
    return (images.float() / 255 - _per_channel(mean, images)) / _per_channel(std, images)


def denormalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The inverse of :func:`normalize`, rounded and clipped to uint8."""
    pixels = (images * _per_channel(std, images) + _per_channel(mean, images)) * 255
    return pixels.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Dataset:
    """Three splits of one data set.

    ``mean`` and ``std`` are per channel of the training pixels in [0, 1]. ``fingerprint`` is a SHA-256 over the pixels
    and labels of all splits and the class names. ``flip``: whether a mirrored image keeps its class.
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

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)``."""
        _, c, h, w = self.train.images.shape
        return c, h, w

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def normalize(self, images: Tensor) -> Tensor:
        """:func:`normalize` with the training pixels' statistics."""
        return normalize(images, self.mean, self.std)


# ------------------------------------------------------------------------------------------------ from arrays to splits


def stratified(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Indices, ascending, of ``fraction`` of each class, at least one of every class that has two; fixed seed."""
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
        chosen.append(rng.permutation(indices)[:count])
    return np.sort(np.concatenate(chosen))


def _split_off(images: np.ndarray, labels: np.ndarray, fraction: float) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """``(rest, split-off)``, both in the original order."""
    index = stratified(labels, fraction)
    rest = np.setdiff1d(np.arange(len(labels)), index)
    return (images[rest], labels[rest]), (images[index], labels[index])


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of pixels in [0, 1], exact from integer histograms; std at least 1e-3."""
    means, stds = [], []
    values = np.arange(256) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 4096):
            counts += np.bincount(images[start : start + 4096, channel].ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ values)
        means.append(round(mean, 6))
        stds.append(round(max(float(share @ (values - mean) ** 2) ** 0.5, 1e-3), 6))
    return tuple(means), tuple(stds)


def _fingerprint(arrays: Arrays, class_names: tuple[str, ...]) -> str:
    sha = hashlib.sha256(json.dumps(class_names).encode())
    for split in ("train", "val", "test"):
        if split in arrays:
            images, labels = arrays[split]
            sha.update(f"{split} {images.shape}".encode())
            for start in range(0, len(images), 4096):
                sha.update(np.ascontiguousarray(images[start : start + 4096]).tobytes())
            sha.update(labels.astype("<i8").tobytes())
    return sha.hexdigest()


def _dataset(name: str, arrays: Arrays, class_names: tuple[str, ...], *, flip: bool, fingerprint: str = "") -> Dataset:
    """Checks the splits, carves ``val`` when there is none, and measures what the rest of the program needs."""
    for split, what in (("train", "training"), ("test", "test")):
        if split not in arrays or len(arrays[split][1]) == 0:
            raise NasproxyError(
                f"'{name}' needs {what} images, but has none: add a '{split}' split "
                "(test images are used once, for a report's final numbers)."
            )
    shape = arrays["train"][0].shape[1:]
    num_classes = len(class_names)
    if num_classes < 2:
        raise NasproxyError(f"'{name}' needs at least 2 classes, but has {num_classes}.")
    for split, (images, labels) in arrays.items():
        if len(images) != len(labels):
            raise NasproxyError(f"'{name}' needs one label per image, but {split} has {len(images)} and {len(labels)}.")
        if images.shape[1:] != shape:
            raise NasproxyError(
                f"All images of '{name}' must have one shape, but train has {shape} and {split} {images.shape[1:]}."
            )
        if labels.min() < 0 or labels.max() >= num_classes:
            raise NasproxyError(
                f"Labels of '{name}' must be 0 to {num_classes - 1}, but {split} has {labels.min()} to {labels.max()}."
            )
    present = set(np.unique(arrays["train"][1]).tolist())
    for label in range(num_classes):
        if label not in present:
            raise NasproxyError(f"Every class of '{name}' needs training images, but '{class_names[label]}' has none.")
    fingerprint = fingerprint or _fingerprint(arrays, class_names)
    if "val" not in arrays:
        train, val = _split_off(*arrays["train"], VAL_FRACTION)
        if len(val[1]) == 0:
            raise NasproxyError(f"'{name}' has one training image per class: add a 'val' split or more images.")
        arrays = arrays | {"train": train, "val": val}
    mean, std = _statistics(arrays["train"][0])
    splits = {
        split: LabeledImages(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
        for split, (images, labels) in arrays.items()
    }
    return Dataset(
        name=name,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        class_names=class_names,
        mean=mean,
        std=std,
        fingerprint=fingerprint,
        flip=flip,
    )


# ----------------------------------------------------------------------------------------------------------- named ones


def _digits(data_dir: Path, offline: bool) -> tuple[Arrays, tuple[str, ...]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    train, test = _split_off(images, labels, DIGITS_TEST_FRACTION)
    return {"train": train, "test": test}, tuple(str(digit) for digit in range(10))


def _torchvision(class_name: str) -> Callable[[Path, bool], tuple[Arrays, tuple[str, ...]]]:
    def load(data_dir: Path, offline: bool) -> tuple[Arrays, tuple[str, ...]]:
        import torchvision.datasets as tv

        family = getattr(tv, class_name)
        arrays: Arrays = {}
        names: tuple[str, ...] = ()
        for split in ("train", "test"):
            options = {"split": split} if class_name == "SVHN" else {"train": split == "train"}
            data = _open_torchvision(family, data_dir, offline, options)
            images = np.asarray(data.data)
            labels = np.asarray(data.labels if class_name == "SVHN" else data.targets, dtype=np.int64)
            if images.ndim == 3:
                images = images[:, None]
            elif images.shape[-1] == 3:
                images = images.transpose(0, 3, 1, 2)
            arrays[split] = np.ascontiguousarray(images), labels
            names = tuple(getattr(data, "classes", [str(digit) for digit in range(10)]))
        return arrays, names

    return load


def _open_torchvision(family: Any, data_dir: Path, offline: bool, options: dict[str, Any]) -> Any:
    """The data set from ``data_dir``; downloaded first when it is not there and that is allowed."""
    try:
        return family(str(data_dir), download=False, **options)
    except (RuntimeError, OSError):
        if offline:
            raise NasproxyError(
                f"{family.__name__} is not in '{data_dir}' and --offline forbids a download: run once without "
                "--offline, or name the folder that holds it with --data-dir."
            ) from None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return family(str(data_dir), download=True, **options)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasproxyError(
            f"{family.__name__} could not be downloaded to '{data_dir}' ({reason}): check the network, or name the "
            "folder that holds it with --data-dir."
        ) from None


@dataclass(frozen=True)
class DatasetSource:
    """A named data set: one line for people, whether mirroring keeps classes, and what loads its train and test."""

    description: str
    flip: bool
    load: Callable[[Path, bool], tuple[Arrays, tuple[str, ...]]]


# ------------------------------------------------------------------------------------------------- folders and Parquet


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _image_files(folder: Path) -> tuple[dict[str, list[tuple[Path, int]]], tuple[str, ...]]:
    """Files and labels of every split of ``train/<class>/…``; classes are train's folders, sorted."""
    classes = [path.name for path in _visible(folder / "train") if path.is_dir()]
    if not classes:
        raise NasproxyError(f"'{folder / 'train'}' needs one folder per class, but has none.")
    files: dict[str, list[tuple[Path, int]]] = {}
    for split in ("train", "val", "test"):
        if not (folder / split).is_dir():
            continue
        files[split] = []
        for class_folder in _visible(folder / split):
            if not class_folder.is_dir():
                continue
            if class_folder.name not in classes:
                raise NasproxyError(
                    f"Every class of {split} must be one of train's, but '{class_folder}' is not among them."
                    f"{nearest(class_folder.name, classes)}"
                )
            found = sorted(p for p in class_folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not found and split == "train":
                raise NasproxyError(f"Every class needs images, but '{class_folder}' has none.")
            files[split] += [(path, classes.index(class_folder.name)) for path in found]
    return files, tuple(classes)


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of ``folder``, or of its one subfolder that has some, by split."""
    for place in (folder, *[path for path in _visible(folder) if path.is_dir()]):
        found = [path for path in _visible(place) if path.suffix == ".parquet"]
        if found:
            break
    else:
        return {}
    splits: dict[str, list[Path]] = {}
    for path in found:
        for prefix, split in (("train", "train"), ("test", "test"), ("valid", "val"), ("val", "val")):
            if path.name.startswith(prefix):
                splits.setdefault(split, []).append(path)
                break
    return splits


def _open_image(source: Path | io.BytesIO, name: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(source)
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise NasproxyError(f"'{name}' cannot be read as an image ({error}): replace or remove it.") from None
    if image.mode.startswith(("I", "F")):
        raise NasproxyError(f"Images must have 8 bits per channel, but '{name}' has mode {image.mode}: convert it.")
    return image


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA")


def _pixels(image: Image.Image, grey: bool, size: int | None) -> np.ndarray:
    """``(c, h, w)`` uint8; with ``size`` the shorter side is resized to it and the centre cropped."""
    from PIL import Image as pil

    image = image.convert("L" if grey else "RGB")
    if size is not None and image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), pil.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    array = np.asarray(image)
    return array[None] if grey else array.transpose(2, 0, 1)


@dataclass(frozen=True)
class _Undecoded:
    """Images of one source, split by split, without decoding: a name, a way to open each, and its label."""

    count: dict[str, int]
    items: Callable[[str], Iterator[tuple[str, Path | io.BytesIO, int]]]
    class_names: tuple[str, ...]
    files: list[Path]


def _from_folder(folder: Path) -> _Undecoded:
    files, class_names = _image_files(folder)
    return _Undecoded(
        count={split: len(rows) for split, rows in files.items()},
        items=lambda split: ((str(path), path, label) for path, label in files[split]),
        class_names=class_names,
        files=[path for rows in files.values() for path, _ in rows],
    )


def _from_parquet(folder: Path, splits: dict[str, list[Path]]) -> _Undecoded:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    def columns(path: Path) -> tuple[str, str]:
        names = schema_of(path).names
        image = next((name for name in ("img", "image") if name in names), None)
        label = next((name for name in ("label", "fine_label", "labels") if name in names), None)
        if image is None or label is None:
            raise NasproxyError(
                f"'{path}' needs a column 'img' or 'image' and a column 'label', but has {', '.join(names)}."
            )
        return image, label

    def schema_of(path: Path) -> Any:
        try:
            return pq.read_schema(path)
        except (ArrowException, OSError) as error:
            raise NasproxyError(f"'{path}' cannot be read as Parquet ({error}): copy it again.") from None

    def items(split: str) -> Iterator[tuple[str, io.BytesIO, int]]:
        for path in splits[split]:
            image, label = columns(path)
            row = 0
            try:
                for batch in pq.ParquetFile(path).iter_batches(batch_size=1000, columns=[image, label]):
                    for cell, number in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                        data = cell.get("bytes") if isinstance(cell, dict) else cell
                        if not isinstance(data, bytes) or not isinstance(number, int):
                            raise NasproxyError(
                                f"'{path}', row {row}: an image's bytes and an integer label are needed."
                            )
                        yield f"{path}, row {row}", io.BytesIO(data), number
                        row += 1
            except (ArrowException, OSError) as error:
                raise NasproxyError(f"'{path}' cannot be read as Parquet ({error}): copy it again.") from None

    first = splits.get("train", next(iter(splits.values())))[0]
    _, label = columns(first)
    count = {}
    for split, paths in splits.items():
        for path in paths:
            columns(path)
        count[split] = sum(pq.ParquetFile(path).metadata.num_rows for path in paths)
    try:
        metadata = json.loads((schema_of(first).metadata or {}).get(b"huggingface", b"{}"))
        names = metadata["info"]["features"][label]["names"]
    except (json.JSONDecodeError, KeyError, TypeError):
        numbers = [
            n
            for split in splits
            for path in splits[split]
            for n in pq.read_table(path, columns=[label])[label].to_pylist()
        ]
        names = [str(number) for number in range(max(numbers, default=-1) + 1)]
    return _Undecoded(count, items, tuple(map(str, names)), [path for paths in splits.values() for path in paths])


# ------------------------------------------------------------------------------------------------------- decoded cache


def _available_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30


def _cache_folder() -> Path:
    return Path(os.environ.get("NASPROXY_CACHE_DIR") or Path.home() / ".cache" / "nasproxy" / "decoded")


def _cache_key(folder: Path, files: list[Path], size: int | None) -> str:
    rows: list[Any] = [CACHE_FORMAT, size]
    for path in sorted(files):
        status = path.stat()
        rows.append([str(path.relative_to(folder)), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:24]


def _decode(source: _Undecoded, target: Path, size: int | None, progress: Progress | None) -> None:
    """Writes ``<split>_images.npy`` and ``<split>_labels.npy`` without ever holding a whole split in memory."""
    total, done = sum(source.count.values()), 0
    grey: bool | None = None
    shape: tuple[int, ...] | None = None
    shape_of = ""
    if all(isinstance(path, Path) and path.suffix != ".parquet" for path in source.files):
        grey = all(_is_grey(_open_header(path)) for path in source.files)
    for split, count in source.count.items():
        labels = np.zeros(count, dtype=np.int64)
        images: np.memmap | None = None
        for index, (name, place, label) in enumerate(source.items(split)):
            image = _open_image(place, name)
            if grey is None:
                grey = _is_grey(image)  # Parquet sets are of one kind; the first image decides
            pixels = _pixels(image, grey, size)
            if shape is None:
                shape, shape_of = pixels.shape, name
            if images is None:
                images = np.lib.format.open_memmap(
                    target / f"{split}_images.npy", mode="w+", dtype=np.uint8, shape=(count, *shape)
                )
            if pixels.shape != shape:
                raise NasproxyError(
                    f"All images must have one size, but '{shape_of}' has {shape[2]}×{shape[1]} pixels and '{name}' "
                    f"has {pixels.shape[2]}×{pixels.shape[1]}: resize them all with --image-size."
                )
            images[index], labels[index] = pixels, label
            done += 1
            if progress is not None and done % 500 == 0:
                progress(done, total, "decoding images")
        if images is not None:
            images.flush()
        np.save(target / f"{split}_labels.npy", labels)


def _open_header(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image
    except (UnidentifiedImageError, OSError) as error:
        raise NasproxyError(f"'{path}' cannot be read as an image ({error}): replace or remove it.") from None


def _read_cache(folder: Path) -> tuple[Arrays, str] | None:
    """The decoded splits and their fingerprint, or None when the cache is absent or damaged."""
    try:
        about = json.loads((folder / "about.json").read_text())
        total = sum((folder / f"{split}_images.npy").stat().st_size for split in about["splits"])
        mode: Literal["c"] | None = None if total < MEMORY_SHARE * _available_memory() else "c"
        arrays: Arrays = {}
        for split, count in about["splits"].items():
            images = np.load(folder / f"{split}_images.npy", mmap_mode=mode)
            labels = np.load(folder / f"{split}_labels.npy")
            if images.dtype != np.uint8 or len(images) != count or len(labels) != count:
                return None
            arrays[split] = images, labels
        return arrays, str(about["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decoded(folder: Path, source: _Undecoded, size: int | None, progress: Progress | None) -> tuple[Arrays, str]:
    place = _cache_folder() / _cache_key(folder, source.files, size)
    found = _read_cache(place)
    if found is not None:
        return found
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".decoding-"))
    try:
        _decode(source, temporary, size, progress)
        arrays: Arrays = {}
        for split, count in source.count.items():
            if count:
                images = np.load(temporary / f"{split}_images.npy", mmap_mode="r")
                arrays[split] = images, np.load(temporary / f"{split}_labels.npy")
        about = {
            "splits": {split: len(labels) for split, (_, labels) in arrays.items()},
            "fingerprint": _fingerprint(arrays, source.class_names),
        }
        (temporary / "about.json").write_text(json.dumps(about))
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    found = _read_cache(place)
    if found is None:
        raise NasproxyError(f"The cache '{place}' cannot be read back: check the disk, or set NASPROXY_CACHE_DIR.")
    return found


# -------------------------------------------------------------------------------------------------------------- arrays


def _from_npz(path: Path) -> tuple[Arrays, tuple[str, ...]]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise NasproxyError(f"'{path}' cannot be read as .npz ({error}): arrays of numbers are needed.") from None
    arrays: Arrays = {}
    for split in ("train", "val", "test"):
        for image_key, label_key in ((f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}")):
            if image_key in values and label_key in values:
                arrays[split] = (
                    _image_array(values[image_key], f"{path}:{image_key}"),
                    _label_array(values[label_key], f"{path}:{label_key}"),
                )
                break
    if "train" not in arrays:
        raise NasproxyError(
            f"'{path}' needs arrays train_images, train_labels, test_images and test_labels (or x_train, y_train, …), "
            f"but has {', '.join(values) or 'none'}."
        )
    num_classes = int(max(labels.max(initial=-1) for _, labels in arrays.values())) + 1
    names = tuple(str(name) for name in values.get("class_names", range(num_classes)))
    return arrays, names


def _image_array(array: np.ndarray, where: str) -> np.ndarray:
    """uint8 ``(n, c, h, w)`` from NHW, NHWC or NCHW; the channel axis is the smaller of the second and the last."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        if array.shape[3] < array.shape[1]:
            array = array.transpose(0, 3, 1, 2)
    else:
        raise NasproxyError(f"{where} must be images n×h×w, n×h×w×c or n×c×h×w, but has shape {array.shape}.")
    if array.dtype != np.uint8:
        if not (np.issubdtype(array.dtype, np.floating) and array.size and array.min() >= 0 and array.max() <= 1):
            span = f"{array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "fiub" else "nothing"
            raise NasproxyError(f"{where} must be uint8, or floats in [0, 1], but is {array.dtype} from {span}.")
        array = np.rint(array * 255).astype(np.uint8)
    return np.ascontiguousarray(array)


def _label_array(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise NasproxyError(f"{where} must be integers, one per image, but is {array.dtype} of shape {array.shape}.")
    return array.astype(np.int64)


# ------------------------------------------------------------------------------------------------------------- loading


def default_data_dir() -> Path:
    """``$NASPROXY_DATA_DIR``, else ``~/.cache/nasproxy/data``."""
    return Path(os.environ.get("NASPROXY_DATA_DIR") or Path.home() / ".cache" / "nasproxy" / "data")


def _load_folder(folder: Path, name: str, size: int | None, progress: Progress | None, *, flip: bool) -> Dataset:
    splits = _parquet_files(folder)
    if splits:
        source = _from_parquet(folder, splits)
    elif (folder / "train").is_dir():
        source = _from_folder(folder)
    else:
        found = ", ".join(path.name for path in _visible(folder)[:5]) or "nothing"
        raise NasproxyError(
            f"'{folder}' needs train/<class>/ and test/<class>/ folders of images, or Parquet files named train-* and "
            f"test-*, but holds {found}."
        )
    for split in ("train", "test"):
        if not source.count.get(split):
            raise NasproxyError(f"'{folder}' needs a '{split}' split with images, but has none: add it.")
    arrays, fingerprint = _decoded(folder, source, size, progress)
    return _dataset(name, arrays, source.class_names, flip=flip, fingerprint=fingerprint)


def load_dataset(
    spec: str,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads a data set by name or path.

    Args:
        spec: a name in ``DATASETS``; a folder of images (``train/<class>/…``, ``test/<class>/…``, ``val/`` optional) or
            of Parquet files as the Hugging Face hub lays them out; or an ``.npz`` of arrays.
        data_dir: where named sets are or are downloaded to; a folder ``data_dir/<name>`` in one of the layouts above
            is taken first. None: :func:`default_data_dir`.
        offline: never open a socket.
        image_size: side to which the images of folders and Parquet files are resized and cropped.
        progress: called with (images decoded, all images, note) while decoding.

    Raises:
        NasproxyError: for data that are absent or cannot be used.
    """
    if image_size is not None and image_size < 1:
        raise NasproxyError(f"`image_size >= 1` must hold, but got image_size={image_size}.")
    place = data_dir or default_data_dir()
    if spec in DATASETS:
        source = DATASETS[spec]
        local = place / spec
        if spec != "digits" and local.is_dir() and (_parquet_files(local) or (local / "train").is_dir()):
            return _load_folder(local, spec, image_size, progress, flip=source.flip)
        if image_size is not None:
            raise NasproxyError(f"--image-size is for folders of images, but '{spec}' has its own size: leave it out.")
        arrays, class_names = source.load(place, offline)
        return _dataset(spec, arrays, class_names, flip=source.flip)
    path = Path(spec)
    if path.is_dir():
        name = path.resolve().name
        known = DATASETS.get(name)
        return _load_folder(path, name, image_size, progress, flip=known is not None and known.flip)
    if path.is_file() and path.suffix == ".npz":
        if image_size is not None:
            raise NasproxyError(
                f"--image-size is for folders of images, but '{spec}' holds arrays: resize them yourself."
            )
        return _dataset(path.stem, *_from_npz(path), flip=False)
    if path.exists():
        raise NasproxyError(f"A data set is a name, a folder or an .npz file, but '{spec}' is none of them.")
    raise NasproxyError(
        f"Unknown data set '{spec}': no such name (known: {', '.join(DATASETS)}) and no such folder or .npz file."
        f"{nearest(spec, DATASETS)}"
    )


DATASETS: dict[str, DatasetSource] = {
    "digits": DatasetSource("1 797 handwritten digits of 8×8, embedded in scikit-learn", False, _digits),
    "cifar10": DatasetSource("60 000 colour photographs of 32×32, 10 classes", True, _torchvision("CIFAR10")),
    "cifar100": DatasetSource("60 000 colour photographs of 32×32, 100 classes", True, _torchvision("CIFAR100")),
    "mnist": DatasetSource("70 000 handwritten digits of 28×28", False, _torchvision("MNIST")),
    "fashion_mnist": DatasetSource(
        "70 000 pieces of clothing of 28×28, 10 classes", True, _torchvision("FashionMNIST")
    ),
    "svhn": DatasetSource("99 289 house numbers in colour of 32×32, 10 digits", False, _torchvision("SVHN")),
}
