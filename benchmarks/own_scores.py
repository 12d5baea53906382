"""Our own free scores of the networks of a table, and what they say of its accuracies.

    python benchmarks/own_scores.py nasbench201 --truth FILE:cifar10-test --published FILE --minutes 30
    python benchmarks/own_scores.py nasbench_macro --truth FILE:test_1,test_2,test_3 --minutes 30

Networks of the truth are drawn in a fixed order, one for each function, and each gets all scores that train nothing but
the latency, on a minibatch of CIFAR-10 (NASPROXY_DATA_DIR, or --dataset), with the seed 0, on one core. Rows are added
to benchmarks/data/own_scores_SPACE.csv and never recomputed. Accuracies are read and not copied. Then `picks.py` and
`calibrated.py` read the file as --scores. With --published, a table of the same scores by others, their ρ stands beside
ours on the same networks.

The last line is JSON: {"score": [ρ with the mean of the truth, low, high, published ρ or null], …}; where the truth has
several columns, "one training" is the ρ of the first with the mean of the others, which is what a score can reach.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from picks import ALIASES

from nasproxy.correlation.agreement import rank_correlation
from nasproxy.correlation.ranks import spearman
from nasproxy.data import Dataset, load_dataset
from nasproxy.networks import NETWORKS, num_params
from nasproxy.networks.nasbench201 import cell_function, cell_options
from nasproxy.networks.nasbench_macro import layer_options, macro_function
from nasproxy.scores.measuring import leading, minibatch_task
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.search.compute_plan import COUNTED, FREE_SCORES
from nasproxy.spaces import num_flops
from nasproxy.training.tasks import Attempt, Task

DATA = Path(__file__).parent / "data"
MEASURED = tuple(name for name in ZERO_COST if name not in (*COUNTED, "latency"))


@dataclass(frozen=True)
class Space:
    """A published space: the column of a network's name, its options, and the function that it computes."""

    network: str
    key: str
    options: Callable[[str], dict[str, Any]]
    function: Callable[[str], str]


SPACES = {
    "nasbench201": Space(
        "nasbench201",
        "cellstr",
        lambda cell: {"cells": 5, "channels": 16, **cell_options(cell)},
        lambda cell: cell_function(cell_options(cell)),
    ),
    "nasbench_macro": Space(
        "nasbench_macro",
        "arch",
        lambda arch: dict(layer_options(arch)),
        lambda arch: macro_function(layer_options(arch)),
    ),
}


def drawn(space: Space, keys: list[str]) -> list[str]:
    """One network for each function, functions in a random order that is always the same."""
    first: dict[str, str] = {}
    for key in sorted(keys):
        first.setdefault(space.function(key), key)
    return [str(key) for key in np.random.default_rng(0).permutation(list(first.values()))]


def measured(space: Space, name: str, tasks: list[Task]) -> dict[str, float | str]:
    """One row: every score of a network; empty where it has none."""

    def build() -> torch.nn.Module:
        return NETWORKS[space.network]((3, 32, 32), 10, **space.options(name))

    with torch.device("meta"):
        net = build()
    row: dict[str, float | str] = {space.key: name, "params": num_params(net), "flops": num_flops(net, (3, 32, 32))}
    seconds = dict.fromkeys(("seconds", "seconds_of_others"), 0.0)
    for task in tasks:
        start = time.perf_counter()
        fits = task.run_all(Attempt(build, task.train, task.train, 0, torch.device("cpu"), lambda: None))
        seconds["seconds" if task.score in FREE_SCORES else "seconds_of_others"] += time.perf_counter() - start
        row |= {score: "" if fit.value is None else f"{fit.value:.7g}" for score, fit in fits.items()}
    return row | {name: f"{value:.3f}" for name, value in seconds.items()}


def measure_rows(
    space: Space, order: list[str], dataset: Dataset, path: Path, minutes: float, names: tuple[str, ...]
) -> None:
    """Adds rows of the scores ``names`` for so many minutes."""
    known = set(pd.read_csv(path, dtype=str)[space.key]) if path.exists() else set()
    tasks = leading([minibatch_task(name, dataset, 0) for name in names])
    until = time.monotonic() + 60 * minutes
    with path.open("a", newline="") as file:
        columns = [space.key, *COUNTED, *names, "seconds", "seconds_of_others"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not known:
            writer.writeheader()
        for name in order:
            if name not in known and time.monotonic() < until:
                writer.writerow(measured(space, name, tasks))
                file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", choices=SPACES)
    parser.add_argument("--truth", required=True, help="FILE:COLUMN,…")
    parser.add_argument("--published", help="a table of the same scores")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--without", default="", help="slow scores that are left out, such as grasp,zen")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--beside", help="rows of other settings, whose order of the same networks is compared")
    args = parser.parse_args()
    space, rows = SPACES[args.space], args.rows or DATA / f"own_scores_{args.space}.csv"
    path, _, columns = args.truth.rpartition(":")
    truth = pd.read_csv(path, dtype={space.key: str}).set_index(space.key)[columns.split(",")]
    published = pd.read_csv(args.published).set_index(space.key).rename(columns=ALIASES) if args.published else None
    torch.set_num_threads(1)
    chosen = tuple(name for name in MEASURED if name not in args.without.split(","))
    if args.minutes:
        names = truth.index if published is None else truth.index.intersection(published.index)
        dataset = load_dataset(args.dataset, offline=True)
        measure_rows(space, drawn(space, list(names)), dataset, rows, args.minutes, chosen)
    table = pd.read_csv(rows, dtype={space.key: str}).set_index(space.key)
    accuracy = truth.loc[table.index]
    seconds, others = table.seconds.mean(), table.seconds_of_others.mean()
    print(f"n = {len(table)}; one core, {seconds:.2f} s a network, {others:.2f} s for grasp, zen and the L2 norm")
    found: dict[str, list[float | None]] = {}
    if len(accuracy.columns) > 1:
        first, others = accuracy.iloc[:, 0].to_numpy(float), accuracy.iloc[:, 1:].mean(axis=1).to_numpy(float)
        rho = rank_correlation(first, others)
        found["one training"] = [rho.value, rho.low, rho.high, None]
    for name in (*COUNTED, *MEASURED):
        if name not in table:
            continue
        known = table[name].notna().to_numpy()
        own, target = table[name].to_numpy(float)[known], accuracy.mean(axis=1).to_numpy(float)[known]
        rho = rank_correlation(own, target)
        peer = None
        column = "fisher" if name == "fisher_released" else name  # whose formula the published table has
        if published is not None and column in published and name != "fisher":
            peer = float(spearman(published.loc[table.index[known], column].to_numpy(float), target))
        found[name] = [rho.value, rho.low, rho.high, peer]
    for name, (value, low, high, peer) in found.items():
        beside = "" if peer is None else f", published {peer:+.3f}"
        print(f"  {name}: {value:+.3f} ({low:+.2f} to {high:+.2f}){beside}")
    if args.beside:
        other = pd.read_csv(args.beside, dtype={space.key: str}).set_index(space.key)
        both = table.index.intersection(other.index)
        print(f"order of the {len(both)} networks that {args.beside} has, too:")
        for name in [one for one in MEASURED if one in table and one in other]:
            pairs = [rows.loc[both, name].to_numpy(float) for rows in (table, other)]
            common = ~(np.isnan(pairs[0]) | np.isnan(pairs[1]))
            print(f"  {name}: {spearman(pairs[0][common], pairs[1][common]):+.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
