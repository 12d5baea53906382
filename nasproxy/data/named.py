"""Data sets that are known by name: those of scikit-learn, and those that torchvision reads and downloads.

A loader is a function ``(name, root, offline, progress)`` that returns :data:`Splits`. It reads from the folder
``root``, and downloads what is missing there unless ``offline``. To add one, write such a function, or give ``cifar``
or ``mnist`` the name of another of torchvision's classes, and name it in ``DATASETS`` of ``nasproxy/data/__init__.py``.
"""

from __future__ import annotations

import http.client
import pickle
import tempfile
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasproxy.core.errors import NasproxyError
from nasproxy.data.dataset import LabeledImages, held_out

Progress = Callable[[int, int, str], None]
Splits = tuple[dict[str, LabeledImages], tuple[str, ...]]  # "train", "test" and maybe "val", and the class names
Archive = tuple[Path, Sequence[str], str]  # the file to write, the URLs to try, the MD5

TIMEOUT_SECONDS = 30.0


def digits(name: str, root: Path, offline: bool, progress: Progress | None) -> Splits:
    """scikit-learn's 1797 digits of 8 × 8. A fixed stratified fifth is the test split. ``root`` is not read."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    is_test = held_out(labels, 10, 0.2, "digits test split")
    splits = {"train": _labeled(images[~is_test], labels[~is_test]), "test": _labeled(images[is_test], labels[is_test])}
    return splits, tuple(map(str, bunch.target_names))


def cifar(torchvision_class: str, name: str, root: Path, offline: bool, progress: Progress | None) -> Splits:
    """``CIFAR10`` or ``CIFAR100`` (its 100 fine classes) as torchvision keeps them in ``root``."""
    from torchvision import datasets

    make = getattr(datasets, torchvision_class)
    archives = [(root / make.filename, [make.url], make.tgz_md5)]
    train, test = _open(
        name, root / make.base_folder, archives, partial(_train_and_test, make, root), offline, progress
    )
    splits = {
        split: _labeled(data.data.transpose(0, 3, 1, 2), np.array(data.targets))
        for split, data in (("train", train), ("test", test))
    }
    return splits, tuple(train.classes)


def mnist(torchvision_class: str, name: str, root: Path, offline: bool, progress: Progress | None) -> Splits:
    """``MNIST``, ``FashionMNIST`` or another of that layout, as torchvision keeps it in ``root``."""
    from torchvision import datasets

    make = getattr(datasets, torchvision_class)
    folder = root / make.__name__ / "raw"
    archives = [(folder / file, [mirror + file for mirror in make.mirrors], md5) for file, md5 in make.resources]
    train, test = _open(name, folder, archives, partial(_train_and_test, make, root), offline, progress)
    splits = {
        split: _labeled(data.data.numpy()[:, None], data.targets.numpy())
        for split, data in (("train", train), ("test", test))
    }
    return splits, tuple(label.split(" - ")[0] for label in train.classes)


def svhn(name: str, root: Path, offline: bool, progress: Progress | None) -> Splits:
    """The cropped house numbers as torchvision keeps them in ``root``, without the split ``extra``."""
    from torchvision.datasets import SVHN

    archives = [(root / file, [url], md5) for url, file, md5 in (SVHN.split_list[split] for split in ("train", "test"))]
    train, test = _open(
        name,
        root,
        archives,
        lambda download: [SVHN(root, split=split, download=download) for split in ("train", "test")],
        offline,
        progress,
    )
    splits = {split: _labeled(data.data, data.labels) for split, data in (("train", train), ("test", test))}
    return splits, tuple(str(digit) for digit in range(10))


def _train_and_test(make: Callable[..., Any], root: Path, download: bool) -> list[Any]:
    """Both splits of torchvision's class ``make``."""
    return [make(root, train=train, download=download) for train in (True, False)]


def _labeled(images: np.ndarray, labels: np.ndarray) -> LabeledImages:
    return LabeledImages(
        torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64).reshape(-1))
    )


def _open(
    name: str,
    folder: Path,
    archives: Sequence[Archive],
    make: Callable[[bool], list[Any]],
    offline: bool,
    progress: Progress | None,
) -> list[Any]:
    """What ``make(download)`` builds from the files in ``folder``; missing files are fetched unless ``offline``.

    torchvision's own download has no timeout and does not tell its progress. So the archives are fetched here;
    torchvision finds them in their place, verifies them and unpacks them without a connection.
    """
    from torchvision.datasets.utils import check_integrity

    # RuntimeError: torchvision finds no files, or a wrong checksum. The others: files that are cut or of another kind.
    broken = (RuntimeError, OSError, ValueError, AssertionError, EOFError, KeyError, IndexError, TypeError)
    with warnings.catch_warnings():
        # CIFAR's pickles are older than numpy's present spelling of their types.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align")
        try:
            return make(False)
        except RuntimeError:
            pass
        except (*broken, pickle.UnpicklingError) as error:
            raise _corrupt(name, folder, error) from error
        missing = [archive for archive in archives if not check_integrity(archive[0], archive[2])]
        if missing and offline:
            raise NasproxyError(
                f"'{name}' must be on this machine with --offline, but no intact copy is in '{folder}': run once "
                "without --offline, or name the folder that holds it with --data-dir."
            )
        for archive in missing:
            _fetch(name, archive, progress)
        try:
            return make(True)
        except (*broken, pickle.UnpicklingError) as error:
            raise _corrupt(name, folder, error) from error


def _corrupt(name: str, folder: Path, error: Exception) -> NasproxyError:
    return NasproxyError(
        f"The files of '{name}' in '{folder}' cannot be read ({type(error).__name__}: {error}): remove them, and they "
        "are downloaded again."
    )


def _fetch(name: str, archive: Archive, progress: Progress | None) -> None:
    """Downloads one file; it is put into its place when it is complete and has the right MD5."""
    path, urls, md5 = archive
    problems = []
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
                part = Path(folder) / path.name
                _download(url, part, md5, progress)
                part.replace(path)
            return
        except (OSError, http.client.HTTPException, NasproxyError) as error:
            problems.append(f"{url}: {error}")
    raise NasproxyError(
        f"'{name}' could not be downloaded to '{path}' ({'; '.join(problems)}): try again with a network connection, "
        "or name a folder that holds the data with --data-dir."
    )


def _download(url: str, path: Path, md5: str, progress: Progress | None) -> None:
    from torchvision.datasets.utils import check_integrity

    request = urllib.request.Request(url, headers={"User-Agent": "nasproxy"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        done = 0
        while block := response.read(1 << 18):
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(-(-done // 1000), -(-max(total, done) // 1000), f"kB of {path.name}")
    if not check_integrity(path, md5):
        raise NasproxyError(f"the checksum of the {done} bytes is not {md5}")
