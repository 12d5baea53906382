"""Data sets: by name, from a folder of images or Parquet files, or from an ``.npz``.

Every source becomes a :class:`Dataset`: uint8 tensors that are normalised on the device. To add a named data set, write
a loader as in ``named.py`` and name it in ``DATASETS`` at the bottom of this file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from nasproxy.core.errors import NasproxyError, nearest
from nasproxy.data.dataset import Dataset, LabeledImages, assemble, denormalize, normalize
from nasproxy.data.decoded import Progress, load_decoded
from nasproxy.data.files import Listing, found_in, list_folder
from nasproxy.data.named import Splits, cifar, digits, mnist, svhn
from nasproxy.data.npz import load_npz

__all__ = ["DATASETS", "Dataset", "DatasetSource", "LabeledImages", "denormalize", "load_dataset", "normalize"]


class Loader(Protocol):
    """Reads the data set ``name`` from the folder ``root``, and downloads it there unless ``offline``."""

    def __call__(self, name: str, root: Path, offline: bool, progress: Progress | None) -> Splits: ...


@dataclass(frozen=True)
class DatasetSource:
    """A named data set.

    Attributes:
        description: what ``nasproxy list`` prints of it.
        flip: a mirrored image keeps its meaning.
        load: reads it.
        installed: it comes with a package, so no folder in ``data_dir`` replaces it.
    """

    description: str
    flip: bool
    load: Loader
    installed: bool = False


def load_dataset(
    spec: str,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads the data set that ``spec`` names.

    A folder holds ``train/<class>/…``, ``test/<class>/…`` and optionally ``val/<class>/…``; or ``train-*.parquet``,
    ``test-*.parquet`` and optionally ``validation-*.parquet``. Without a validation split, a tenth of each class is
    taken from train, the same on every machine.

    Args:
        spec: a name in ``DATASETS``, else the path of a folder or of an ``.npz``.
        data_dir: where a name is looked up: first a folder of that name with images or Parquet files, then the files
            of its loader, which are downloaded if they are missing. None: ``$NASPROXY_DATA_DIR``, else
            ``~/.cache/nasproxy/data``.
        offline: open no connection; data that are missing are an error.
        image_size: scales the images of a folder to squares of this many pixels.
        progress: is called with (done, total, note) while images are decoded or files downloaded.

    Returns:
        Three splits of uint8 images ``(n, c, h, w)``.

    Raises:
        NasproxyError: for an unknown name, an absent path, and data that are incomplete, broken or of another layout.
    """
    if image_size is not None and image_size < 1:
        raise NasproxyError(f"`image_size >= 1` must hold, but got image_size={image_size}.")
    source = DATASETS.get(spec)
    if source is not None:
        root = (data_dir or Path(os.environ.get("NASPROXY_DATA_DIR") or "~/.cache/nasproxy/data")).expanduser()
        folder = root / spec
        if not source.installed and folder.is_dir() and (listing := list_folder(folder)):
            return load_decoded(listing, spec, image_size=image_size, flip=source.flip, progress=progress)
        _no_image_size(spec, image_size)
        return assemble(spec, *source.load(spec, root, offline, progress), flip=source.flip)
    path = Path(spec).expanduser()
    if not path.exists():
        raise NasproxyError(
            f"Unknown data set '{spec}'.{nearest(spec, DATASETS)} Known: {', '.join(DATASETS)}; or a path to a folder "
            f"or an .npz, but '{path.absolute()}' does not exist."
        )
    if path.is_dir():
        return load_decoded(_listed(path), path.resolve().name, image_size=image_size, flip=False, progress=progress)
    _no_image_size(spec, image_size)
    return assemble(path.stem, *load_npz(path), flip=False)


def _listed(folder: Path) -> Listing:
    listing = list_folder(folder)
    if listing is None:
        raise NasproxyError(
            f"'{folder}' must hold train/<class>/ and test/<class>/ folders of images, or train-*.parquet and "
            f"test-*.parquet, but holds {found_in(folder)}."
        )
    return listing


def _no_image_size(spec: str, image_size: int | None) -> None:
    if image_size is not None:
        raise NasproxyError(
            f"Only folders of images and Parquet files can be scaled, but got --image-size {image_size} with '{spec}': "
            "leave it out."
        )


DATASETS: dict[str, DatasetSource] = {
    "digits": DatasetSource(
        "1,797 handwritten digits, 8×8 grey; comes with scikit-learn", flip=False, load=digits, installed=True
    ),
    "cifar10": DatasetSource(
        "60,000 photographs of 10 kinds, 32×32 RGB; 170 MB", flip=True, load=partial(cifar, "CIFAR10")
    ),
    "cifar100": DatasetSource(
        "60,000 photographs of 100 kinds, 32×32 RGB; 169 MB", flip=True, load=partial(cifar, "CIFAR100")
    ),
    "mnist": DatasetSource("70,000 handwritten digits, 28×28 grey; 12 MB", flip=False, load=partial(mnist, "MNIST")),
    "fashion_mnist": DatasetSource(
        "70,000 clothes of 10 kinds, 28×28 grey; 31 MB", flip=True, load=partial(mnist, "FashionMNIST")
    ),
    "svhn": DatasetSource("99,289 house-number digits, 32×32 RGB; 246 MB", flip=False, load=svhn),
}
