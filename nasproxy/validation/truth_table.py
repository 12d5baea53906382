"""Full accuracies from a table, in place of training: a benchmark's own, or a lab's.

A CSV file, packed with gzip or not, with a column per parameter of the space. For NAS-Bench-201 and NAS-Bench-Macro one
column with the benchmark's own spelling of an architecture does as well.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nasproxy.core.errors import NasproxyError, nearest
from nasproxy.networks.nasbench201 import cell_options
from nasproxy.networks.nasbench_macro import layer_options
from nasproxy.spaces import SearchSpace

# Of a network family: columns that hold an architecture as its benchmark spells it, and who reads that.
SPELLINGS: dict[str, tuple[tuple[str, ...], Callable[[str], dict[str, str]]]] = {
    "nasbench201": (("cellstr", "arch_str", "architecture"), cell_options),
    "nasbench_macro": (("arch",), layer_options),
}


@dataclass(frozen=True)
class Truth:
    """Full accuracies from a table, fractions by candidate id; its file's name and the column that was read."""

    accuracy: Mapping[str, float]
    source: str


def load_truth(spec: Path, space: SearchSpace) -> Truth:
    """Reads the column "accuracy" of a table, or that of ``table.csv:column``, by candidate.

    Accuracies are fractions, or per cent if any is above 1. Cells of inactive conditional parameters are empty. Further
    columns are ignored.

    Raises:
        NasproxyError: naming the file and line of the first row that cannot be used.
    """
    path, column = spec, "accuracy"
    file, colon, name = str(spec).rpartition(":")
    if colon and not spec.is_file():
        path, column = Path(file), name
    if not path.is_file():
        raise NasproxyError(f"No table of accuracies at '{path}': check --truth.")
    names = [parameter.name for parameter in space.parameters]
    found: dict[str, tuple[float, str]] = {}
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        known = list(reader.fieldnames or [])
        spelt, read = SPELLINGS.get(space.network, ((), None))
        cell = next((name for name in spelt if name in known), None)
        missing = [name for name in [*([] if cell else names), column] if name not in known]
        if missing:
            hint = nearest(column, known) if column in missing else ""
            raise NasproxyError(
                f"'{path}' needs a column for every parameter of space '{space.name}' and '{column}', but lacks "
                f"{', '.join(missing)}.{hint} It has: {', '.join(known)}."
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            try:
                value = float(row[column])
            except (TypeError, ValueError):
                raise NasproxyError(f"{where}: {column} must be a number, but is '{row[column]}'.") from None
            if not 0 <= value <= 100:
                raise NasproxyError(f"{where}: {column} must be an accuracy, but is {value:g}.")
            try:
                cells = _options(row[cell] or "", read, space) if cell and read else {name: row[name] for name in names}
                candidate = space.parse_candidate({name: v for name, v in cells.items() if v not in ("", None)})
            except NasproxyError as error:
                raise NasproxyError(f"{where}: {error}") from None
            if found.setdefault(candidate.id, (value, where))[0] != value:
                raise NasproxyError(f"{where}: {candidate.label} has two accuracies: keep one row per candidate.")
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise NasproxyError(f"'{path}' is no readable CSV table ({error}).") from None
    if not found:
        raise NasproxyError(f"'{path}' holds no candidate of space '{space.name}'.")
    in_percent = any(value > 1 for value, _ in found.values())
    scale = 100 if in_percent else 1
    source = f"{path.name}, column {column}{', per cent' if in_percent else ''}"
    return Truth({identity: value / scale for identity, (value, _) in found.items()}, source)


def _options(text: str, read: Callable[[str], dict[str, str]], space: SearchSpace) -> dict[str, str]:
    """The parameters of an architecture as its benchmark spells it, those that the space varies."""
    try:
        options = read(text)
    except ValueError as error:
        raise NasproxyError(f"{error}.") from None
    varied = {parameter.name for parameter in space.parameters}
    return {name: value for name, value in options.items() if name in varied}
