"""Which way of picking loses least for the same compute? All of them are replayed on a table of known accuracies.

    python benchmarks/picks.py --truth FILE:COLUMN --short FILE:COLUMN --scores FILE --key cellstr

Tables are CSV files, also compressed, that are joined by the column --key. --truth has the accuracy after full
training, --short that after a short one (it may be left out), --scores a column for each score that trains nothing.
Several files may be given to --scores. Where the keys split into as many words each, the words are the space's
parameters (--parameters names columns instead).

Costs are in full trainings: --short-cost of a short one (default: 12 of 200 epochs), --score-cost of all free scores of
a candidate (default: 2e-4, which is about the computation of thirteen scores on a minibatch of 64 images against 200
epochs of 50,000 images). Every repetition draws half of the candidates of the table as the space. Regret is the best
accuracy of that half minus the accuracy of the pick. Ways:

- plan: what `nasproxy search --compute` does;
- random: full trainings of random candidates;
- vote: full trainings of the first by the vote of the free scores;
- score NAME: the first by one score; "best score" is the one that loses least at that cost, known only afterwards;
- halving K: short trainings of random candidates, full trainings of the best K; "best halving" is the best K;
- hyperband: brackets of equal cost;
- tpe, asha R, bohb R: Optuna's TPE sampler with full trainings only; its random sampler, or TPE, with its successive
  halving pruner between the short and the full training, reduction R. A proposal that the table does not have is
  replaced by the nearest one that it has. "best asha" is the best R afterwards. (--optuna N repeats them N times)

The last line is JSON: {"strategy": {"2": [mean, low, high], …}, …}, with 95 % intervals over repetitions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nasproxy.picking.replay import Table, by_halving, by_hyperband, by_plan, by_random, by_score

BUDGETS = (2, 4, 8, 16)
ALIASES = {"nwot": "naswot", "jacov": "jacob_cov", "epe-nas": "epe_nas"}  # names in published tables
MAX_WORDS = 12  # values of a word that counts as a parameter
REDUCTIONS = (4, 8, 16)


def read(text: str, key: str) -> tuple[pd.DataFrame, str | None]:
    """The table of ``FILE`` or ``FILE:COLUMN`` by its key, and the column."""
    path, column = (text, None) if Path(text).exists() else tuple(text.rpartition(":")[::2])
    frame = pd.read_csv(path, dtype={key: str})
    for name in (key, column):
        if name is not None and name not in frame.columns:
            sys.exit(f"'{path}' has no column '{name}', but {', '.join(frame.columns)}.")
    return frame.drop_duplicates(key).set_index(key), column


def words_of(keys: Sequence[object]) -> dict[str, list[object]]:
    """The words of each key as parameters; nothing where keys have different numbers of them, or many values."""
    rows = [re.findall(r"[A-Za-z0-9_]+(?:~\d+)?", str(key)) for key in keys]
    if len({len(row) for row in rows}) == 1 and len(rows[0]) == 1:
        rows = [list(row[0]) for row in rows]  # a code such as 00112012
    if len({len(row) for row in rows}) != 1:
        return {}
    columns = [[row[place] for row in rows] for place in range(len(rows[0]))]
    varying = {f"word{place}": column for place, column in enumerate(columns) if len(set(column)) > 1}
    return varying if all(len(set(column)) <= MAX_WORDS for column in varying.values()) else {}


def add_tables(parser: argparse.ArgumentParser) -> None:
    """The options that name tables, which :func:`load` reads."""
    parser.add_argument("--truth", required=True, help="FILE:COLUMN of the accuracy after full training")
    parser.add_argument("--short", help="FILE:COLUMN of the accuracy after a short training")
    parser.add_argument(
        "--scores", action="append", default=[], help="FILE with a column for each free score, or FILE:COLUMN"
    )
    parser.add_argument(
        "--not-scores",
        type=lambda text: set(text.split(",")),
        default="arch,index,seconds,seconds_of_others,val_accuracy",
        help="columns that are no scores",
    )
    parser.add_argument("--key", required=True, help="the column that names a candidate in every file")
    parser.add_argument("--parameters", help="columns of the truth's file that are the space's parameters")
    parser.add_argument("--short-cost", type=float, default=12 / 200, help="of a short training, in full trainings")
    parser.add_argument("--score-cost", type=float, default=2e-4, help="of all free scores of a candidate")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="what accuracies are multiplied by; -1 where less is better"
    )
    parser.add_argument("--out", type=Path, help="a JSON file that gets the last line, too")


def tell(answer: object, out: Path | None) -> None:
    """Prints ``answer`` as the last line, and writes it to ``out``."""
    if out is not None:
        out.write_text(json.dumps(answer, indent=1) + "\n")
    print(json.dumps(answer))


def load(args: argparse.Namespace) -> Table:
    """The joined table, without candidates that lack a number."""
    truth, column = read(args.truth, args.key)
    if column is None:
        sys.exit("--truth takes FILE:COLUMN.")
    full = truth[column].rename("full")
    parts = [full]
    if args.short:
        short, name = read(args.short, args.key)
        parts.append(short[name or short.columns[0]].rename("short"))
    frames = [read(text, args.key) for text in args.scores]
    scores = pd.concat([frame[[name]] if name else frame for frame, name in frames], axis=1) if frames else None
    if scores is not None:
        chosen = [name for name in scores.columns if name not in args.not_scores and name != column]
        scores = scores[chosen].apply(pd.to_numeric, errors="coerce")
        scores = scores.loc[:, scores.notna().any()].rename(columns=ALIASES)
        parts.append(scores)
    frame = pd.concat(parts, axis=1, join="inner")
    frame = frame[frame["full"].notna() & (frame["short"].notna() if args.short else True)]
    parameters = (
        {name: truth.loc[frame.index, name].tolist() for name in args.parameters.split(",")}
        if args.parameters
        else words_of(frame.index.tolist())
    )
    free = {} if scores is None else {name: frame[name].to_numpy(float) for name in scores.columns}
    return Table(
        {name: values for name, values in free.items() if np.nanstd(values) > 0},
        parameters,
        args.scale * frame["full"].to_numpy(float),
        frame["short"].to_numpy(float) if args.short else None,
        args.score_cost if free else 0.0,
        args.short_cost if args.short else None,
    )


# ------------------------------------------------------------------------------------------------------ Optuna's ways


def by_optuna(table: Table, budgets: Sequence[float], seed: int, *, tpe: bool, reduction: int | None) -> list[float]:
    """The regret at each of ``budgets`` of one study, which goes on until the largest is spent."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = list(table.parameters)
    codes = np.stack(
        [np.unique(np.array(list(map(str, table.parameters[name]))), return_inverse=True)[1] for name in names], axis=1
    )
    choices = [list(range(codes[:, place].max() + 1)) for place in range(len(names))]
    rng = np.random.default_rng([seed, 5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed) if tpe else optuna.samplers.RandomSampler(seed=seed)
        pruner = (
            optuna.pruners.NopPruner()
            if reduction is None
            else optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction)
        )
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    spent, chosen, costs = 0.0, [], []
    left = np.ones(len(table), dtype=bool)
    while left.any():
        trial = study.ask()
        wanted = np.array([trial.suggest_categorical(f"p{place}", own) for place, own in enumerate(choices)])
        distance = (codes != wanted).sum(1) + np.where(left, 0, len(names) + 1) + rng.random(len(table)) / 2
        one = int(np.argmin(distance))
        left[one] = False
        if reduction is not None and table.short is not None:
            spent += table.cost_short or 0.0
            trial.report(float(table.short[one]), step=1)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                if spent > max(budgets):
                    break
                continue
        spent += 1.0
        if spent > max(budgets) + 1e-9:
            break
        study.tell(trial, float(table.full[one]))
        chosen.append(one)
        costs.append(spent)
    return [
        table.regret([one for one, cost in zip(chosen, costs, strict=True) if cost <= budget + 1e-9])
        for budget in budgets
    ]


# ---------------------------------------------------------------------------------------------------------- the replay


def replay(table: Table, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """The regrets of every way by cost, one for each repetition."""
    found: dict[str, dict[str, list[float]]] = {}
    beliefs: list[tuple[float, bool]] = []

    def note(way: str, budget: float, regret: float | None) -> None:
        if regret is not None:
            found.setdefault(way, {}).setdefault(f"{budget:g}", []).append(regret)

    for seed in range(args.repetitions):
        half = table.drawn(max(2, len(table) // 2), seed)
        vote = half.columns().vote
        for budget in args.budgets:
            planned = by_plan(half, budget, seed, margin=args.margin)
            note("plan", budget, planned.regret)
            if planned.remaining is not None:
                beliefs.append((planned.remaining.better, planned.regret > args.margin))
            note("random", budget, by_random(half, budget, seed))
            if half.free:
                note("vote", budget, by_score(half, vote, budget, half.cost_scored, seed))
            for name, column in half.free.items():
                order = np.where(np.isnan(column), -np.inf, column)
                note(f"score {name}", budget, by_score(half, order, budget, half.cost_scored / len(half.free), seed))
            if half.short is not None:
                for num in range(1, int(budget) + 1):
                    note(f"halving {num}", budget, by_halving(half, budget, num, seed))
                note("hyperband", budget, by_hyperband(half, budget, seed))
        if seed < args.optuna and half.parameters:
            ways: list[tuple[str, bool, int | None]] = [("tpe", True, None)]
            if half.short is not None:
                ways += [(f"{name} {r}", tpe, r) for name, tpe in (("asha", False), ("bohb", True)) for r in REDUCTIONS]
            for way, tpe, reduction in ways:
                regrets = by_optuna(half, args.budgets, seed, tpe=tpe, reduction=reduction)
                for budget, regret in zip(args.budgets, regrets, strict=True):
                    note(way, budget, regret)
    if beliefs:
        print_beliefs(beliefs, args.margin)
    return found


def print_beliefs(beliefs: Sequence[tuple[float, bool]], margin: float) -> None:
    """How often something better was left, by what the plan believed of it."""
    chances, happened = np.array([one for one, _ in beliefs]), np.array([one for _, one in beliefs])
    print(f"\nProbability that a candidate better by more than {margin:g} is left: believed, and how often it was so")
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        some = (chances >= low) & (chances < high)
        if some.any():
            believed, true = chances[some].mean(), happened[some].mean()
            print(f"  {low:.2f} to {min(high, 1):.2f}: believed {believed:.2f}, true {true:.2f} ({some.sum()} plans)")


def summary(regrets: Sequence[float]) -> list[float]:
    """Mean and its 95 % bootstrap interval."""
    values = np.array(regrets)
    means = values[np.random.default_rng(0).integers(len(values), size=(2000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return [round(float(one), 4) for one in (values.mean(), low, high)]


def with_best(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """The ways, and of each kind with several the best one at each cost, which is known only afterwards."""
    answer = {way: {cost: summary(own) for cost, own in by_cost.items()} for way, by_cost in found.items()}
    for kind in ("score", "halving", "asha", "bohb"):
        members = [by_cost for way, by_cost in answer.items() if way.startswith(f"{kind} ")]
        costs = sorted({cost for by_cost in members for cost in by_cost}, key=float)
        if members:
            answer[f"best {kind}"] = {
                cost: min(by_cost[cost] for by_cost in members if cost in by_cost) for cost in costs
            }
    return answer


def print_table(answer: Mapping[str, Mapping[str, Sequence[float]]], costs: Sequence[str]) -> None:
    shown = [way for way in answer if not re.match(r"(score|halving|asha|bohb) ", way)]
    print("\n| regret at a cost of | " + " | ".join(f"{cost} full trainings" for cost in costs) + " |")
    print("|---" * (len(costs) + 1) + "|")
    for way in shown:
        cells = [answer[way].get(cost) for cost in costs]
        print(
            f"| {way} | "
            + " | ".join("–" if c is None else f"{c[0]:.3g} ({c[1]:.3g} to {c[2]:.3g})" for c in cells)
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_tables(parser)
    parser.add_argument("--margin", type=float, default=1.0, help="in accuracy, of what may be left")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument(
        "--optuna", type=int, default=0, metavar="N", help="replay Optuna's ways N times as well (slow)"
    )
    parser.add_argument("--budgets", type=lambda text: tuple(map(float, text.split(","))), default=BUDGETS)
    args = parser.parse_args()
    table = load(args)
    if len(table) < 4:
        sys.exit(
            f"The files share {len(table)} candidates with a truth: give tables of the same space, and their --key."
        )
    print(
        f"{len(table)} candidates, {len(table.free)} free scores, {len(table.parameters)} parameters, "
        f"{'with' if table.short is not None else 'without'} short trainings; {args.repetitions} repetitions, each on "
        "half of the candidates"
    )
    answer = with_best(replay(table, args))
    print_table(answer, [f"{budget:g}" for budget in args.budgets])
    tell(answer, args.out)


if __name__ == "__main__":
    main()
