"""Our own free scores of NAS-Bench-Macro, and what they say of its accuracies.

    python benchmarks/macro_scores.py --table accuracy.csv.gz --minutes 10

Networks of the table are drawn in a fixed order, and each gets all free scores that `nasproxy search --compute` takes,
on a minibatch of 64 images of CIFAR-10 (NASPROXY_DATA_DIR, or --dataset). Rows are added to
benchmarks/data/macro_scores.csv and never recomputed. Accuracies are read from --table and are not copied. Then
`picks.py` and `calibrated.py` read the file as --scores, with --key arch. The last line is JSON: Spearman ρ of each
score with the mean of the table's three accuracies, and that of one training with the mean of the other two.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nasproxy.correlation.agreement import rank_correlation
from nasproxy.data import load_dataset
from nasproxy.networks import NETWORKS, num_params
from nasproxy.networks.nasbench_macro import layer_options
from nasproxy.scores.measuring import minibatch_task
from nasproxy.search.compute_plan import COUNTED, FREE_SCORES
from nasproxy.spaces import num_flops
from nasproxy.training.tasks import Attempt

ROWS = Path(__file__).parent / "data" / "macro_scores.csv"
MEASURED = tuple(name for name in FREE_SCORES if name not in COUNTED)


def scores_of(arch: str, tasks: list, device: torch.device) -> dict[str, float | str]:
    """One row: every free score of a network; empty where it has none."""
    start = time.perf_counter()

    def build() -> torch.nn.Module:
        return NETWORKS["nasbench_macro"]((3, 32, 32), 10, **layer_options(arch))

    with torch.device("meta"):
        net = build()
    row: dict[str, float | str] = {"arch": arch, "params": num_params(net), "flops": num_flops(net, (3, 32, 32))}
    for task in tasks:
        fit = task.run(Attempt(build, task.train, task.train, 0, device, lambda: None))
        row[task.score] = "" if fit.value is None else f"{fit.value:.7g}"
    row["seconds"] = f"{time.perf_counter() - start:.3f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rows", type=Path, default=ROWS)
    args = parser.parse_args()
    table = pd.read_csv(args.table, dtype={"arch": str}).set_index("arch")
    order = np.random.default_rng(0).permutation(sorted(table.index)).tolist()
    known = set(pd.read_csv(args.rows, dtype={"arch": str}).arch) if args.rows.exists() else set()
    until = time.monotonic() + 60 * args.minutes
    if args.minutes > 0:
        dataset = load_dataset(args.dataset, offline=True)
        tasks = [minibatch_task(name, dataset, 0) for name in MEASURED]
        device = torch.device("cpu")
        with args.rows.open("a", newline="") as file:
            writer = csv.DictWriter(file, ["arch", *COUNTED, *MEASURED, "seconds"], lineterminator="\n")
            if not known:
                writer.writeheader()
            for arch in order:
                if arch not in known and time.monotonic() < until:
                    writer.writerow(scores_of(arch, tasks, device))
                    file.flush()
    rows = pd.read_csv(args.rows, dtype={"arch": str}).set_index("arch")
    truth = table.loc[rows.index, ["test_1", "test_2", "test_3"]]
    found = {
        "one training, with the mean of two others": rank_correlation(
            truth["test_1"].to_numpy(), truth[["test_2", "test_3"]].mean(axis=1).to_numpy()
        )
    }
    for name in (*COUNTED, *MEASURED):
        good = rows[name].notna().to_numpy()
        found[name] = rank_correlation(rows[name].to_numpy(float)[good], truth.mean(axis=1).to_numpy()[good])
    print(f"n = {len(rows)}, {rows.seconds.mean():.2f} s a network")
    for name, rho in found.items():
        print(f"  {name}: {rho.value:+.2f} ({rho.low:+.2f} to {rho.high:+.2f}), n = {rho.n}")
    print(json.dumps({name: [rho.value, rho.low, rho.high, rho.n] for name, rho in found.items()}))


if __name__ == "__main__":
    main()
