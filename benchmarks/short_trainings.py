"""What does a short training say, its losses included? A table of candidates with short and full trainings.

    python benchmarks/short_trainings.py --dataset digits --space convnet_small --full 32 --short 1,2,4 --minutes 60

Candidates of a space are drawn in a fixed order, one for each function. Each is trained as `nasproxy search --compute`
trains: --full epochs, and once more for each of --short with a schedule of its own. Rows have the accuracy of each
length, its losses, its seconds, and all free scores of the search. They are added to
benchmarks/data/short_trainings_NAME.csv and never recomputed, so --minutes can be spent in parts. One core.

Then ways of picking are replayed on halves of the table, with the costs that were measured. The last line is JSON:
{"short1": {"way": {"2": [mean regret in points, low, high], …}, …}, …}.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from picks import BUDGETS, print_table, tell, with_best

from nasproxy.config import ValidateConfig
from nasproxy.core.devices import choose_device
from nasproxy.correlation.agreement import rank_correlation
from nasproxy.data import load_dataset
from nasproxy.picking.replay import Table, by_halving, by_plan, by_random, by_score
from nasproxy.scores.full_training import full_task
from nasproxy.scores.measuring import leading, minibatch_task
from nasproxy.search.compute_plan import COUNTED, FREE_SCORES
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection, inspect_space, load_space, sample_of_functions
from nasproxy.training.loss_curve import loss_columns
from nasproxy.training.results import Fit
from nasproxy.training.tasks import Attempt, Task

DATA = Path(__file__).parent / "data"
NUMBERS = ("accuracy", "held-out loss", "training losses", "late training loss", "seconds")  # of each training


def numbers(name: str, fit: Fit) -> dict[str, object]:
    """The columns of a training; losses are negative, so that more is better."""
    losses = {f"{name} {column}": f"{values[0]:.7g}" for column, values in loss_columns([fit]).items()}
    return {f"{name} accuracy": fit.value, **losses, f"{name} seconds": round(fit.seconds, 3)}


def row_of(candidate: Candidate, inspection: SpaceInspection, tasks: dict[str, list[Task]]) -> dict[str, object]:
    """Everything that is measured of a candidate."""
    counts = inspection.counts(candidate)
    row: dict[str, object] = {"id": candidate.id, **candidate.params}
    row |= {name: getattr(counts, name) for name in COUNTED}
    for name, own in tasks.items():
        start = time.perf_counter()
        for task in own:
            build = partial(inspection.space.build, candidate.params, task.input_shape, task.num_classes)
            attempt = Attempt(build, task.train, task.held_out, 0, torch.device("cpu"), lambda: None)
            found = task.run_all(attempt)
            if name == "scores":
                row |= {score: fit.value for score, fit in found.items()}
            else:
                row |= numbers(name, found[task.score])
        if name == "scores":
            row["scores seconds"] = round(time.perf_counter() - start, 3)
    return row


def lengths(args: argparse.Namespace) -> dict[str, int]:
    """Epochs by the name of a training."""
    return {f"short{epochs}": epochs for epochs in args.short} | {"full": args.full}


def rows(args: argparse.Namespace, known: set[str]) -> Iterator[dict[str, object]]:
    """Rows of candidates that are not ``known``, until the time is over."""
    dataset = load_dataset(args.dataset, offline=True)
    inspection = inspect_space(load_space(args.space), dataset.input_shape, dataset.num_classes)
    config = ValidateConfig(images=args.images, precision=args.precision)
    tasks: dict[str, list[Task]] = {
        name: [replace(full_task(dataset, replace(config, epochs=epochs)), watched=name == "full")]
        for name, epochs in lengths(args).items()
    }
    tasks["scores"] = leading([minibatch_task(name, dataset, 0) for name in FREE_SCORES if name not in COUNTED])
    until = time.monotonic() + 60 * args.minutes
    for candidate in sample_of_functions(inspection, args.most, 0):
        if candidate.id not in known and time.monotonic() < until:
            yield row_of(candidate, inspection, tasks)


def table_of(rows: pd.DataFrame, short: str, space: SearchSpace) -> Table:
    """The rows as a table to replay, in points, with costs as they were measured."""
    full = rows["full seconds"].mean()
    scores = [name for name in FREE_SCORES if name in rows and rows[name].std() > 0]
    return Table(
        {name: rows[name].to_numpy(float) for name in scores},
        {one.name: rows[one.name].tolist() for one in space.parameters},
        100 * rows["full accuracy"].to_numpy(float),
        rows[f"{short} accuracy"].to_numpy(float),
        rows["scores seconds"].mean() / full,
        rows[f"{short} seconds"].mean() / full,
    )


def replayed(table: Table, losses: dict[str, np.ndarray], repetitions: int) -> dict[str, dict[str, list[float]]]:
    """The regret of each way at each cost: mean, low, high. ``losses`` are read in place of the short accuracy."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(repetitions):
        half = table.drawn(max(2, len(table) // 2), seed)
        for cost in BUDGETS:
            regrets: dict[str, float | None] = {
                "plan": by_plan(half, cost, seed).regret,
                "plan without short trainings": by_plan(replace(half, short=None), cost, seed).regret,
                "random": by_random(half, cost, seed),
                "vote": by_score(half, half.columns().vote, cost, half.cost_scored, seed),
            }
            for num in range(1, int(cost) + 1):
                regrets[f"halving {num}"] = by_halving(half, cost, num, seed)
            for name, column in losses.items():
                by_loss = replace(table, short=column).drawn(len(half), seed)
                regrets[f"plan by {name}"] = by_plan(by_loss, cost, seed).regret
            for way, regret in regrets.items():
                if regret is not None:
                    found.setdefault(way, {}).setdefault(f"{cost:g}", []).append(regret)
    return with_best(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--space", default="convnet_small")
    parser.add_argument("--images", type=int, help="training images; default: all")
    parser.add_argument("--full", type=int, default=32, help="epochs of full training")
    parser.add_argument("--short", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--most", type=int, default=1000, help="candidates")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a JSON file that gets the last line, too")
    parser.add_argument("--name", help="of the file of rows; default: the data set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    choose_device("cpu")
    path = DATA / f"short_trainings_{args.name or args.dataset}.csv"
    known = set(pd.read_csv(path, dtype={"id": str}).id) if path.exists() else set()
    with path.open("a", newline="") as file:
        parameters = [parameter.name for parameter in load_space(args.space).parameters]
        scores = [name for name in FREE_SCORES if name not in COUNTED]
        trained = [f"{length} {number}" for length in lengths(args) for number in NUMBERS]
        columns = ["id", *parameters, *COUNTED, *scores, *trained, "scores seconds"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        for row in rows(args, known):
            if not known:
                writer.writeheader()
            known.add(str(row["id"]))
            writer.writerow(row)
            file.flush()
    table = pd.read_csv(path, dtype={"id": str})
    table = table[table["full accuracy"].notna()]
    print(f"n = {len(table)}; Spearman correlation with the full accuracy")
    for number in list(table.columns)[list(table.columns).index("params") :]:
        column = pd.to_numeric(table[number], errors="coerce").to_numpy(float)
        if number != "full accuracy" and np.isfinite(column).all() and np.ptp(column) > 0:
            rho = rank_correlation(column, table["full accuracy"].to_numpy(float))
            print(f"  {number}: {rho.value:+.3f} ({rho.low:+.2f} to {rho.high:+.2f})")
    answer = {}
    for short in args.short:
        name = f"short{short}"
        losses = {number: table[f"{name} {number}"].to_numpy(float) for number in NUMBERS if "loss" in number}
        losses = {number: column for number, column in losses.items() if not np.isnan(column).any()}
        answer[name] = replayed(table_of(table, name, load_space(args.space)), losses, args.repetitions)
        print(f"\nregret in points with {short} of {args.full} epochs as the short training")
        print_table(answer[name], [f"{cost:g}" for cost in BUDGETS])
    tell(answer, args.out)


if __name__ == "__main__":
    main()
