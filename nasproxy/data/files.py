"""Folders of images and of Parquet files: what they hold, in an order that does not depend on the file system.

Hidden files and folders are ignored. Nothing is decoded here; :mod:`nasproxy.data.decoded` does that.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.data.dataset import check_labels, numbered_classes

SPLIT_WORDS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
IMAGE_SUFFIXES = frozenset(
    f".{name}" for name in ("png", "apng", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "webp", "avif", "tif", "tiff")
) | {".ppm", ".pgm", ".pbm", ".pnm"}
ROWS_AT_ONCE = 256

Item = tuple[str, Path | bytes]  # its name in messages, and the coded image


@dataclass(frozen=True)
class Listing:
    """What a folder holds, before any image is decoded.

    Attributes:
        folder: the folder.
        files: all files that pixels, labels and names come from.
        class_names: C names.
        labels: split → classes ``(n,)`` int64.
        items: split → its coded images, in the order of the labels.
        left_out: what in the class folders is no image that can be read, in sentences.
    """

    folder: Path
    files: tuple[Path, ...]
    class_names: tuple[str, ...]
    labels: dict[str, np.ndarray]
    items: Callable[[str], Iterator[Item]]
    left_out: tuple[str, ...] = ()


def list_folder(folder: Path) -> Listing | None:
    """What ``folder`` holds, or None when it is of neither layout.

    Raises:
        NasproxyError: when it is of a known layout, but incomplete or broken.
    """
    try:
        if parquet := _parquet_files(folder):
            return _list_parquet(folder, parquet)
        roots = [sub for sub in _visible(folder) if sub.is_dir() and sub.name in SPLIT_WORDS]
        return _list_images(folder, roots) if roots else None
    except OSError as error:
        raise NasproxyError(f"'{error.filename or folder}' cannot be read ({error.strerror or error}).") from error


def found_in(folder: Path) -> str:
    """The first few entries of ``folder``, for a message."""
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in _visible(folder)]
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}" or "nothing"


def _checked(
    folder: Path,
    paths: dict[str, list[Path]],
    class_names: tuple[str, ...],
    labels: dict[str, np.ndarray],
    items: Callable[[str], Iterator[Item]],
    left_out: tuple[str, ...] = (),
) -> Listing:
    check_labels(folder.name, labels, class_names)
    files = tuple(path for group in paths.values() for path in group)
    return Listing(folder, files, class_names, labels, items, left_out)


def _left_out(paths: Sequence[Path], num_images: int) -> tuple[str, ...]:
    """Sentences that count and name the files ``paths``, beside ``num_images`` that are read."""
    broken = [path for path in paths if path.is_symlink() and not path.exists()]
    others = [path for path in paths if path not in set(broken)]
    endings = Counter(path.suffix.lower() or "none" for path in others)
    counted = ", ".join(f"{ending} ({count})" for ending, count in endings.most_common(5))
    found = []
    if others:
        found.append(
            f"{_files(len(others))} beside {num_images} images, because of their endings: {counted}, such as "
            f"'{others[0]}'"
        )
    if broken:
        links = "1 link to a file that is" if len(broken) == 1 else f"{len(broken)} links to files that are"
        found.append(f"{links} not there, such as '{broken[0]}'")
    return tuple(found)


def _files(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def _sort_key(path: Path) -> str:
    # macOS may spell accents as two characters; both spellings must have the same place in the order.
    return unicodedata.normalize("NFC", path.as_posix())


def _visible(folder: Path) -> list[Path]:
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=_sort_key)


# ---- train/<class>/*.png


def _list_images(folder: Path, roots: list[Path]) -> Listing:
    classes: dict[str, dict[str, list[Path]]] = {}  # split -> class -> files
    left_out: list[Path] = []
    for root in roots:
        split = classes.setdefault(SPLIT_WORDS[root.name], {})
        for entry in _visible(root):
            if entry.is_dir():
                name = unicodedata.normalize("NFC", entry.name)
                split.setdefault(name, []).extend(_images_below(entry, left_out))
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                raise NasproxyError(
                    f"'{root}' must hold one folder per class, but holds the image '{entry.name}': move it "
                    "into its class folder."
                )
    for needed in ("train", "test"):
        if needed not in classes:
            raise NasproxyError(
                f"'{folder}' must hold train/<class>/ and test/<class>/, but holds {found_in(folder)}: add {needed}/."
            )
    class_names = tuple(classes["train"])
    for part, by_name in classes.items():
        for name in by_name:
            if name not in classes["train"]:
                raise NasproxyError(
                    f"Every class needs training images, but '{folder}' has '{name}' in {part}/ and not in train/: "
                    f"add train/{name}/, or remove the class."
                )
    labels = {
        split: np.repeat([class_names.index(name) for name in by_name], [len(paths) for paths in by_name.values()])
        for split, by_name in classes.items()
    }
    labels = {split: values.astype(np.int64) for split, values in labels.items()}
    paths = {split: [path for group in by_name.values() for path in group] for split, by_name in classes.items()}

    def items(split: str) -> Iterator[Item]:
        return ((str(path), path) for path in paths[split])

    num_images = sum(map(len, labels.values()))
    return _checked(folder, paths, class_names, labels, items, _left_out(left_out, num_images))


def _images_below(folder: Path, left_out: list[Path]) -> list[Path]:
    """The images in ``folder`` and its folders; every other visible file is added to ``left_out``."""
    paths: list[Path] = []
    for path in sorted(folder.rglob("*"), key=_sort_key):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.is_dir():
            continue
        (paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() else left_out).append(path)
    if not paths:
        raise NasproxyError(
            f"Every class folder needs images ({', '.join(sorted(IMAGE_SUFFIXES))}), but '{folder}' holds "
            f"{found_in(folder)}: add some, or remove the folder."
        )
    return paths


# ---- Parquet, as the Hugging Face hub lays it out


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Split → Parquet files: named after it in ``folder``, or in a folder of that name, or so in the one subfolder.

    Files of no split have the key "".
    """
    if direct := _visible_parquet(folder):
        found: dict[str, list[Path]] = {}
        for path in direct:
            word = re.split("[^a-z]", path.stem.lower())[0]
            found.setdefault(SPLIT_WORDS.get(word, ""), []).append(path)
        return found
    subfolders = [sub for sub in _visible(folder) if sub.is_dir()]
    splits = {
        SPLIT_WORDS[sub.name]: files
        for sub in subfolders
        if sub.name in SPLIT_WORDS and (files := _visible_parquet(sub))
    }
    if splits:
        return splits
    nested = {sub: inside for sub in subfolders if sub.name not in SPLIT_WORDS and (inside := _parquet_files(sub))}
    if len(nested) > 1:
        names = ", ".join(f"'{sub}'" for sub in nested)
        raise NasproxyError(f"One folder must hold the Parquet files, but '{folder}' has {names}: pass one of them.")
    return next(iter(nested.values()), {})


def _check_shards(paths: Sequence[Path]) -> None:
    """Compares the files of a split with what names such as ``train-00000-of-00003.parquet`` promise.

    Raises:
        NasproxyError: for missing files, and for several sets of files, which would hold every image twice.
    """
    numbered = [(path, match) for path in paths if (match := re.search(r"-(\d+)-of-(\d+)$", path.stem))]
    if not numbered:
        return
    totals = {int(match[2]) for _, match in numbered}
    if len(totals) > 1 or len(numbered) < len(paths):
        names = ", ".join(path.name for path in paths[:5])
        raise NasproxyError(
            f"The files of a split must be one set, but '{paths[0].parent}' holds {names}: remove all but one set."
        )
    (total,) = totals
    missing = sorted(set(range(total)) - {int(match[1]) for _, match in numbered})
    if missing:
        raise NasproxyError(
            f"'{paths[0].parent}' must hold all {total} files of a split, but {len(missing)} are missing, the first "
            f"with the number {missing[0]} beside '{paths[0].name}': fetch them."
        )


def _visible_parquet(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix == ".parquet" and path.is_file()]


def _list_parquet(folder: Path, files: dict[str, list[Path]]) -> Listing:
    import pyarrow.parquet as pq

    paths = {split: group for split, group in files.items() if split}  # the hub also has files such as extra-*.parquet
    for needed in ("train", "test"):
        if needed not in paths:
            held = ", ".join(path.name for group in files.values() for path in group)
            raise NasproxyError(
                f"'{folder}' must hold train-*.parquet and test-*.parquet, but holds {held}: add {needed}-*.parquet."
            )
    for group in paths.values():
        _check_shards(group)
    columns: dict[Path, tuple[str, bool]] = {}
    labels: dict[str, np.ndarray] = {}
    names: tuple[str, ...] | None = None
    for split, group in paths.items():
        parts = []
        for path in group:
            with _parquet_errors(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                columns[path] = _image_column(path, file.schema_arrow)
                column = _label_column(path, file.schema_arrow)
                own_names = _hub_class_names(file.schema_arrow, column)
                if names and own_names and own_names != names:
                    raise NasproxyError(
                        f"Parquet files must name the same classes, but '{path}' has {', '.join(own_names)} and the "
                        f"files before it {', '.join(names)}: write them again."
                    )
                names = names or own_names
                values = file.read(columns=[column]).column(0)
                if values.null_count:
                    raise NasproxyError(
                        f"Every image needs a label, but {values.null_count} rows of '{path}' have none."
                    )
                parts.append(values.to_numpy().astype(np.int64))
        labels[split] = np.concatenate(parts)

    def items(split: str) -> Iterator[Item]:
        return (item for path in paths[split] for item in _rows(path, *columns[path]))

    others = files.get("", [])
    left_out = [f"{_files(len(others))} of no split, such as '{others[0]}'"] if others else []
    class_names = names or numbered_classes(folder.name, labels)
    return _checked(folder, paths, class_names, labels, items, tuple(left_out))


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasproxyError(f"'{path}' cannot be read as Parquet ({reason}): fetch or write it again.") from error


def _rows(path: Path, column: str, nested: bool) -> Iterator[Item]:
    import pyarrow.parquet as pq

    with _parquet_errors(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        row = 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[f"{column}.bytes" if nested else column]):
            coded = batch.column(0).field("bytes") if nested else batch.column(0)
            for value in coded.to_pylist():
                if value is None:
                    raise NasproxyError(f"Every row needs the bytes of an image, but row {row} of '{path}' has none.")
                yield f"{path}, row {row}", value
                row += 1


def _image_column(path: Path, schema: Any) -> tuple[str, bool]:
    """The column of coded images, and whether its bytes are a field of a struct."""
    import pyarrow as pa

    def is_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_nested(kind: Any) -> bool:
        index = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
        return index >= 0 and is_bytes(kind.field(index).type)

    usable = {field.name: is_nested(field.type) for field in schema if is_bytes(field.type) or is_nested(field.type)}
    for name in ("image", "img", *usable):
        if name in usable and (name in ("image", "img") or len(usable) == 1):
            return name, usable[name]
    raise NasproxyError(
        f"'{path}' needs a column `image` or `img` of coded images (bytes, or a struct with `bytes`), but has "
        f"{', '.join(f'{field.name} ({field.type})' for field in schema) or 'no columns'}."
    )


def _label_column(path: Path, schema: Any) -> str:
    import pyarrow as pa

    for name in ("label", "fine_label"):
        if name in schema.names:
            kind = schema.field(name).type
            if not pa.types.is_integer(kind):
                raise NasproxyError(
                    f"`{name}` of '{path}' must be integers 0 … C−1, but is {kind}: number the classes."
                )
            return name
    raise NasproxyError(
        f"'{path}' needs a column `label` or `fine_label` of integers, but has "
        f"{', '.join(schema.names) or 'no columns'}."
    )


def _hub_class_names(schema: Any, column: str) -> tuple[str, ...] | None:
    """The names that the hub's library writes into the schema, where it did."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else None
    except (KeyError, TypeError, ValueError):
        return None
