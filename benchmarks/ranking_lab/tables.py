"""Published tables of NAS-Bench-201, read from a folder outside the repository, by function of the cell.

Cells that compute the same function are one: its accuracy is the mean over its cells in the table. A score without
training depends on the draw of the weights, so it is the mean as well.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import Estimate, rank_correlation
from nasproxy.correlation.bootstrap import draws, estimate, undefined
from nasproxy.correlation.ranks import partial_spearman, ranks
from nasproxy.networks.nasbench201 import CELL_OPERATIONS, cell_function, cell_options

SHORT_TABLE, LONG_TABLE = "accuracy_12_epochs.csv.gz", "accuracy_200_epochs_part.csv.gz"
SCORE_TABLES = {
    "cifar10": "zero_cost_scores_cifar10_part.csv.gz",
    "imagenet": "zero_cost_scores_imagenet16-120_part.csv.gz",
}
DATA_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet16-120"}
SCORES = (
    "params", "flops", "l2_norm", "synflow", "nwot", "jacov", "grad_norm", "snip", "fisher", "grasp", "zen", "epe_nas",
    "plain",
)  # fmt: skip

NUM_RESAMPLES = 1000
_LETTERS = dict(zip(CELL_OPERATIONS, "0s13p", strict=True))

Column = dict[str, float]  # a value by cell, or by function


@cache
def function_of(cell: str) -> str:
    """:func:`~nasproxy.networks.nasbench201.cell_function`, remembered."""
    return cell_function(cell)


def cell_code(cell: str) -> str:
    """A letter for each edge, 01, 02, 12, 03, 13, 23: 0 none, s skip, 1 and 3 convolutions, p pooling."""
    return "".join(_LETTERS[name] for name in cell_options(cell).values())


def cell_of_code(code: str) -> str:
    """The benchmark's spelling of the cell with this :func:`cell_code`."""
    names = {letter: name for name, letter in _LETTERS.items()}
    return "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(names[letter] for letter in code))


@lru_cache(maxsize=1)
def all_cells() -> tuple[str, ...]:
    """The 15,625 cells as the benchmark spells them."""
    form = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    return tuple(form.format(*operations) for operations in product(CELL_OPERATIONS, repeat=6))


@dataclass(frozen=True)
class Tables:
    """Columns by name, each a value by cell: ``cifar10-val@12``, ``cifar10-test@200``, ``nwot@cifar10`` …"""

    columns: Mapping[str, Column]

    def by_function(self, name: str, among: Iterable[str] | None = None) -> Column:
        """The mean of a column over the cells of each function; of ``among`` alone if they are given.

        A function whose output does not depend on its input is left out.
        """
        column = self.columns[name]
        found: dict[str, list[float]] = {}
        for cell in column if among is None else [cell for cell in among if cell in column]:
            found.setdefault(function_of(cell), []).append(column[cell])
        return {function: float(np.mean(values)) for function, values in found.items() if function != "0"}


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise NasproxyError(f"No table '{path}': --tables names the folder with the tables of NAS-Bench-201.")
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def read_tables(folder: Path) -> Tables:
    """All tables of ``folder``.

    Raises:
        NasproxyError: when one is missing.
    """
    columns: dict[str, Column] = {}
    for row in _read(folder / SHORT_TABLE):
        for data in DATA_NAMES:
            for split in ("val", "test"):
                columns.setdefault(f"{data}-{split}@12", {})[row["cellstr"]] = float(row[f"{data}-{split}"])
    for row in _read(folder / LONG_TABLE):
        for data in DATA_NAMES:
            columns.setdefault(f"{data}-test@200", {})[row["cellstr"]] = float(row[f"{data}-test"])
    for data, name in SCORE_TABLES.items():
        for row in _read(folder / name):
            for score in SCORES:
                if row[score] and not math.isnan(float(row[score])):
                    columns.setdefault(f"{score}@{data}", {})[row["cellstr"]] = float(row[score])
    return Tables(columns)


def correlation(score: Mapping[str, float], truth: Mapping[str, float], among: Iterable[str] | None = None) -> Estimate:
    """ρ of a score with a truth over the keys of both, or those of ``among``; minus infinity ranks last."""
    keys = sorted(score.keys() & truth.keys() & (score.keys() if among is None else set(among)))
    values = ranks(np.array([score[key] for key in keys], dtype=float))  # ranks: infinities are allowed
    truths = np.array([truth[key] for key in keys], dtype=float)
    return rank_correlation(values, truths, num_resamples=NUM_RESAMPLES)


def beyond(score: Mapping[str, float], truth: Mapping[str, float], size: Mapping[str, float]) -> Estimate:
    """ρ of a score with a truth after what the ranks of ``size`` say linearly about both is taken out."""
    keys = sorted(score.keys() & truth.keys() & size.keys())
    x, y, z = (np.array([values[key] for key in keys], dtype=float) for values in (score, truth, size))
    x = ranks(x)  # infinities are allowed
    why = undefined(len(keys), score=x, truth=y, size=z)
    if why:
        return Estimate(None, None, None, len(keys), why)
    index = draws(len(keys), NUM_RESAMPLES, 0)
    return estimate(float(partial_spearman(x, y, z)), partial_spearman(x[index], y[index], z[index]), len(keys))


def cell_of(params: Mapping[str, object]) -> str:
    """The benchmark's spelling of a candidate of ``nasbench201_space``."""
    edges = ("edge_01", "edge_02", "edge_12", "edge_03", "edge_13", "edge_23")
    return "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(params[edge] for edge in edges))
