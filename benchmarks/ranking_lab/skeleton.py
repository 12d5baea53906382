"""Which reduction of a NAS-Bench-201 net and its training can rank at all?

The sample is fixed before anything is measured (``benchmarks/data/ranking_cells.csv``): functions drawn uniformly, one
cell of each. The settings are measured block by block, every setting on a block of cells before the next block, so that
whatever time there is, all settings have nearly the same cells.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nasproxy.core.randomness import derive_seed
from nasproxy.networks.nasbench201 import cell_options
from nasproxy.spaces import load_space
from ranking_lab.measuring import FREE, Laboratory, Short, Subject
from ranking_lab.tables import Tables, all_cells, cell_code, function_of

SPACE = "nasbench201"
NUM_FUNCTIONS, BLOCK = 96, 12

# The first round, on the first half of the sample: one thing is changed at a time from the smallest skeleton, fresh
# images and 30 updates. On one core of two that were shared, a cell took about a minute for all of them.
SETTINGS = (
    Short("cells=1 channels=4", "fresh", 30),
    Short("cells=1 channels=4", "fresh", 100),
    Short("cells=1 channels=4", "100", 100),
    Short("cells=1 channels=16", "fresh", 30),
    Short("cells=5 channels=4", "fresh", 30),
    Short("cells=1 channels=4", "fresh", 300),
    Short("cells=5 channels=16", "fresh", 30),  # the benchmark's own skeleton, at half the side
)
FIRST_ROUND = 48  # cells
# A positive control: if more updates did not rank better, something else would be wrong.
CONTROL = (Short("cells=1 channels=4", "fresh", 1000),)
# The second round.
SECOND = (
    Short("cells=1 channels=4", "1000", 100),
    Short("cells=2 channels=8", "fresh", 100),
    Short("cells=1 channels=16", "fresh", 100),
    Short("cells=5 channels=4", "fresh", 100),
    Short("cells=1 channels=4", "fresh", 100, side=32),
)
# One change at a time: what it does is asked on the same cells.
_LEAST = SETTINGS[0]
_MORE_UPDATES = ((100, 30), (300, 30), (300, 100), (1000, 30), (1000, 300))
_LARGER = ("cells=1 channels=16", "cells=5 channels=4", "cells=5 channels=16")
CHANGES = (
    *((replace(_LEAST, updates=more), replace(_LEAST, updates=fewer)) for more, fewer in _MORE_UPDATES),
    (replace(_LEAST, updates=100), replace(_LEAST, updates=100, images="100")),
    *((replace(_LEAST, options=options), _LEAST) for options in _LARGER),
)
# With more time than a core has; a GPU runs them in minutes.
LATER = (
    *(
        Short(f"cells={cells} channels={channels}", images, updates, side)
        for side in (16, 32)
        for channels in (4, 8, 16)
        for cells in (1, 2, 5)
        for images in ("fresh", "1000", "100")
        for updates in (30, 100, 300)
    ),
)


@dataclass(frozen=True)
class RegisteredCell:
    """A cell of the fixed sample: its place and block, and the function that it stands for."""

    place: int
    block: int
    cell: str
    function: str


def draw_cells(known: set[str]) -> list[RegisteredCell]:
    """The sample: functions drawn uniformly among those with a cell in ``known``, each by its first cell there.

    ``known`` are the cells with a 200-epoch accuracy. No accuracy is looked at.
    """
    first: dict[str, str] = {}
    for cell in all_cells():
        if cell in known and function_of(cell) != "0":
            first.setdefault(function_of(cell), cell)
    functions = sorted(first)
    order = np.random.default_rng(derive_seed(0, "ranking cells")).permutation(len(functions))[:NUM_FUNCTIONS]
    return [RegisteredCell(place, place // BLOCK, first[functions[i]], functions[i]) for place, i in enumerate(order)]


def write_cells(path: Path, tables: Tables) -> None:
    """Writes the sample once; a sample that is there stays."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["place", "block", "cell", "function"])
        for one in draw_cells(set(tables.columns["cifar10-test@200"])):
            writer.writerow([one.place, one.block, one.cell, one.function])


def rounds(cells: list[RegisteredCell], *, everything: bool) -> list[tuple[list[RegisteredCell], tuple[Short, ...]]]:
    """Which settings are measured on which cells, in this order."""
    first = cells[:FIRST_ROUND]
    plan = [(first, SETTINGS), (first, CONTROL), (first, SECOND), (cells, (*SETTINGS, *CONTROL, *SECOND))]
    return [*plan, (cells, LATER)] if everything else plan


def read_cells(path: Path) -> list[RegisteredCell]:
    """The sample as it was written."""
    with path.open(newline="") as file:
        return [
            RegisteredCell(int(row["place"]), int(row["block"]), row["cell"], row["function"])
            for row in csv.DictReader(file)
        ]


def subject(cell: str, options: str) -> Subject:
    """A cell in the skeleton that ``options`` say."""
    space = load_space(f"nasbench201_space:{options.replace(' ', ',')}")
    return Subject(SPACE, cell_code(cell), space, space.parse_candidate(cell_options(cell)))


def measure_settings(
    laboratory: Laboratory, cells: list[RegisteredCell], settings: tuple[Short, ...], *, until: float, seed: int = 0
) -> int:
    """Measures what is missing until the clock (``time.monotonic``) says ``until``; the number of new trainings."""
    done = 0
    for block in sorted({one.block for one in cells}):
        for plan in settings:
            for one in cells:
                if one.block != block:
                    continue
                if time.monotonic() > until:
                    return done
                done += laboratory.short(subject(one.cell, plan.options), plan, seed)
    return done


def measure_free(laboratory: Laboratory, cells: list[str], options: str, *, until: float, seed: int = 0) -> int:
    """The same for all scores without training, in the skeleton of ``options``."""
    done = 0
    for cell in cells:
        for score in FREE:
            if time.monotonic() > until:
                return done
            done += laboratory.free(subject(cell, options), options, score, seed)
    return done
