"""The images of a folder as arrays: decoded once, kept as ``.npy`` files, and memory-mapped when they are large.

A cache entry is ``$NASPROXY_CACHE_DIR/<key>/`` (default ``~/.cache/nasproxy/decoded/``) with ``<split>-images.npy``,
``<split>-labels.npy`` and ``fingerprint``. The key is a hash of the folder's path, the name, size and modification time
of every file, and ``image_size``. Any entry may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from nasproxy.core.errors import NasproxyError
from nasproxy.data.dataset import BROKEN_ARRAYS, SPLITS, Dataset, LabeledImages, assemble, val_mask
from nasproxy.data.files import Item, Listing

FORMAT_VERSION = 2  # 2: turned as their EXIF says, transparent pixels over white
GREY_MODES = ("1", "L", "LA")
TURNED = (5, 6, 7, 8)  # EXIF orientations of images that lie on their side
NUM_NAMED = 5  # of the images that cannot be read
DEEP_RAW_MODE = re.compile(r"'(RGB[AX]?|LA?|CMYK);16")  # 16 bits per channel; BGR;16 has 16 bits per pixel

Progress = Callable[[int, int, str], None]
T = TypeVar("T")


def load_decoded(
    listing: Listing, name: str, *, image_size: int | None, flip: bool, progress: Progress | None = None
) -> Dataset:
    """Decodes the data set of ``listing``, or reads it from the cache where an intact entry is.

    Images are turned as their EXIF orientation says. They become grey when all of them are grey, else RGB; transparent
    pixels lie over white, as a browser shows them. The arrays are read into memory
    when they take less than half of the free memory, and memory-mapped otherwise.

    Args:
        name: the data set's name for people.
        image_size: each image is scaled until its shorter side has that many pixels (bicubic, antialiased), and
            cropped to the centre square. None: the images have one size and keep it.
        flip: a mirrored image keeps its meaning.
        progress: is called with (done, total, note).

    Raises:
        NasproxyError: for images that cannot be read or have 16 bits per channel, all of them in one message, for
            images of different sizes without ``image_size``, or when the cache cannot be written.
    """
    from filelock import FileLock

    entry = _cache_folder() / _key(listing, image_size)
    dataset = _read(entry, name, listing, flip)
    if dataset is not None:
        return replace(dataset, notes=listing.left_out)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            dataset = _read(entry, name, listing, flip)  # another process may have written it meanwhile
            if dataset is not None:
                return replace(dataset, notes=listing.left_out)
            partial = entry.with_suffix(".partial")
            for old in (partial, entry):
                shutil.rmtree(old, ignore_errors=True)
            partial.mkdir()
            try:
                _decode(listing, image_size, partial, progress)
                partial.replace(entry)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise NasproxyError(
            f"Decoded images must be written to '{entry}', but that failed ({error.strerror or error}): make room, or "
            "name another folder with NASPROXY_CACHE_DIR."
        ) from error
    dataset = _read(entry, name, listing, flip)
    if dataset is None:
        raise NasproxyError(f"Decoded images in '{entry}' changed while they were read: try again.")
    return replace(dataset, notes=listing.left_out)


def _cache_folder() -> Path:
    return Path(os.environ.get("NASPROXY_CACHE_DIR") or "~/.cache/nasproxy/decoded").expanduser()


def _key(listing: Listing, image_size: int | None) -> str:
    folder = listing.folder.resolve()
    stats = [(path.relative_to(listing.folder).as_posix(), path.stat()) for path in listing.files]
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(json.dumps([FORMAT_VERSION, image_size, str(folder), files]).encode()).hexdigest()[:32]


def _read(entry: Path, name: str, listing: Listing, flip: bool) -> Dataset | None:
    """The data set in ``entry``, or None when a file is missing, cut or altered."""
    try:
        expected = (entry / "fingerprint").read_text()
        size = sum(path.stat().st_size for path in entry.glob("*.npy"))
        in_memory = size < _available_memory() / 2
        splits = {}
        for split in SPLITS:
            # "c" (copy on write): torch takes no read-only arrays.
            images = np.load(entry / f"{split}-images.npy", mmap_mode=None if in_memory else "c")
            labels = np.load(entry / f"{split}-labels.npy")
            splits[split] = LabeledImages(torch.from_numpy(images), torch.from_numpy(labels))
        dataset = assemble(name, splits, listing.class_names, flip=flip)
    except BROKEN_ARRAYS:
        return None
    return dataset if dataset.fingerprint == expected else None


def _available_memory() -> int:
    """Bytes that can be used without swapping, within the container's limit; 0 when the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        try:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return 0
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup, or "max"
        return free


def _decode(listing: Listing, image_size: int | None, folder: Path, progress: Progress | None) -> None:
    """Writes the arrays of every split, image after image, so that memory holds a few hundred images at most."""
    destinations = {split: np.full(len(labels), split) for split, labels in listing.labels.items()}
    if "val" not in listing.labels:
        is_val = val_mask(listing.folder.name, listing.labels["train"], len(listing.class_names))
        destinations["train"][is_val] = "val"
    total = sum(map(len, destinations.values()))
    with ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 2))) as pool:
        grey, height, width = _common_shape(listing, image_size, pool, total, progress)
        shape = (1 if grey else 3, height, width)
        files = {}
        try:
            for output in SPLITS:
                counts = [np.count_nonzero(where == output) for where in destinations.values()]
                files[output] = (folder / f"{output}-images.npy").open("wb")
                # Written in sequence and not through a memory map, so that a full disk is an error and not a crash.
                header = {"descr": "|u1", "fortran_order": False, "shape": (int(sum(counts)), *shape)}
                np.lib.format.write_array_header_1_0(files[output], header)
            done, broken = 0, list[str]()
            labels: dict[str, list[int]] = {output: [] for output in SPLITS}
            for split, where in destinations.items():
                pixels = _parallel(pool, lambda item: _pixels(item, grey, image_size), listing.items(split))
                for output, label, image in zip(where.tolist(), listing.labels[split].tolist(), pixels, strict=True):
                    if isinstance(image, NasproxyError):
                        broken.append(str(image))
                        continue
                    files[output].write(image)
                    labels[output].append(label)
                    done += 1
                    if progress is not None and (done % 100 == 0 or done == total):
                        progress(done, total, "decoding images")
            _stop_at(broken)
        finally:
            for file in files.values():
                file.close()
    for output in SPLITS:
        np.save(folder / f"{output}-labels.npy", np.array(labels[output], dtype=np.int64))
    # Memory-mapped: the fingerprint reads the arrays once, in order, and holds none of them in memory.
    splits = {
        output: LabeledImages(
            torch.from_numpy(np.load(folder / f"{output}-images.npy", mmap_mode="c")),
            torch.from_numpy(np.load(folder / f"{output}-labels.npy")),
        )
        for output in SPLITS
    }
    (folder / "fingerprint").write_text(assemble("", splits, listing.class_names, flip=False).fingerprint)


def _common_shape(
    listing: Listing, image_size: int | None, pool: ThreadPoolExecutor, total: int, progress: Progress | None
) -> tuple[bool, int, int]:
    """Whether all images are grey, and their height and width in pixels, from their headers."""
    grey = True
    first: tuple[str, tuple[int, int]] | None = None
    done, broken, other_size = 0, list[str](), ""
    for split in listing.labels:
        for header in _parallel(pool, _header, listing.items(split)):
            if isinstance(header, NasproxyError):
                broken.append(str(header))
                continue
            name, mode, size = header
            grey = grey and mode in GREY_MODES
            first = first or (name, size)
            if size != first[1] and image_size is None and not other_size:
                other_size = (
                    f"Images must be of one size, but '{first[0]}' is {first[1][0]}×{first[1][1]} and '{name}' "
                    f"{size[0]}×{size[1]} (width × height): pass --image-size to scale them, for example "
                    f"--image-size {min(*first[1], *size)}."
                )
            done += 1
            if progress is not None and done % 1000 == 0:
                progress(done, total, "reading headers")
    _stop_at(broken)
    if other_size:
        raise NasproxyError(other_size)
    assert first is not None  # empty splits are refused before
    width, height = first[1] if image_size is None else (image_size, image_size)
    return grey, height, width


def _stop_at(broken: Sequence[str]) -> None:
    """Names all images that cannot be read at once.

    Raises:
        NasproxyError: when there are any.
    """
    if broken:
        more = len(broken) - NUM_NAMED
        also = [f"and {more} more images"] if more > 0 else []
        raise NasproxyError("\n".join([*broken[:NUM_NAMED], *also]))


def _parallel(
    pool: ThreadPoolExecutor, function: Callable[[Item], T], items: Iterable[Item]
) -> Iterator[T | NasproxyError]:
    """``function`` of each item, or its error, in order; Pillow lets other threads run while it decodes."""

    def tried(item: Item) -> T | NasproxyError:
        try:
            return function(item)
        except NasproxyError as error:
            return error

    items = iter(items)
    while batch := list(islice(items, 512)):
        for results in pool.map(
            lambda part: [tried(item) for item in part], [batch[i : i + 32] for i in range(0, 512, 32)]
        ):
            yield from results


@contextmanager
def _opened(item: Item) -> Iterator[Any]:
    """The image of ``item``, opened by Pillow. Any error of Pillow becomes one sentence that names the image."""
    from PIL import Image

    name, coded = item
    try:
        image: Any
        with Image.open(BytesIO(coded) if isinstance(coded, bytes) else coded) as image:
            # Pillow reads 16-bit colour as 8-bit "RGB" without a warning: only the raw mode of the tiles shows it.
            if image.mode[0] in "IF" or DEEP_RAW_MODE.search(str(image.tile)):
                raise NasproxyError(
                    f"Images must have 8 bits per channel, but '{name}' has more (mode {image.mode}): convert it."
                )
            yield image
    except NasproxyError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        OverflowError,
        AttributeError,
        MemoryError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        reason = "no known format" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise NasproxyError(f"'{name}' cannot be read as an image ({reason}): replace or remove it.") from error


def _orientation(image: Any) -> int:
    """How the image was held, from 1 (upright) to 8, from what stands before its pixels: else Pillow decodes a PNG."""
    from PIL import ExifTags

    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _header(item: Item) -> tuple[str, str, tuple[int, int]]:
    with _opened(item) as image:
        width, height = image.size
        return item[0], image.mode, (height, width) if _orientation(image) in TURNED else (width, height)


def _pixels(item: Item, grey: bool, image_size: int | None) -> bytes:
    """The decoded image as ``c × h × w`` bytes."""
    from PIL import Image, ImageOps

    with _opened(item) as image:
        if _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            # The colours of transparent pixels are arbitrary.
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if grey else "RGB")
        if image_size is not None and image.size != (image_size, image_size):
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)  # the filter also reads pixels outside the box
            image = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(image)
        return pixels.tobytes() if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
