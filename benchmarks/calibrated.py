"""How well does a model that learned from n full trainings rank all other candidates, and does it know how well?

    python benchmarks/calibrated.py --truth FILE:COLUMN --scores FILE --key cellstr

Tables as in picks.py. In every repetition n candidates are drawn as those that were trained fully; all others are
ranked. Printed for n = 8, 12, 20, 40 and 80: Spearman ρ of the vote of the free scores alone, of the score that ranks
best by these n truths, and of the calibrated score; how often it beats the best single score known afterwards; the
cross-validated estimate that a person sees, and how often its 95 % interval holds what it estimates: the ρ on all
others of a model that learned from four fifths of the n. The last line is JSON: {"n": {"vote": [mean, low, high], …}}.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from picks import add_tables, load, summary, tell

from nasproxy.correlation.agreement import rank_correlation
from nasproxy.correlation.ranks import spearman
from nasproxy.picking.crossval import cross_validated
from nasproxy.picking.model import fitted
from nasproxy.picking.replay import Table

SIZES = (8, 12, 20, 40, 80)


def repetition(table: Table, n: int, seed: int, *, cross: bool) -> dict[str, float]:
    """One draw of n truths."""
    order = np.random.default_rng([seed, n]).permutation(len(table))
    drawn, rest = order[:n], order[n:]
    columns = table.columns()

    def rho_of(known: np.ndarray) -> float:
        model = fitted(columns.vote[known], columns.features[known], table.full[known])
        mean, _ = model.predict(columns.vote[rest], columns.features[rest])
        return float(spearman(mean, table.full[rest]))

    single = {
        name: (float(spearman(column[drawn], table.full[drawn])), float(spearman(column[rest], table.full[rest])))
        for name, column in table.free.items()
    }
    chosen = max(single, key=lambda name: single[name][0])
    found = {
        "vote": float(spearman(columns.vote[rest], table.full[rest])),
        "best single by these truths": single[chosen][1],
        "calibrated": rho_of(drawn),
    }
    found["calibrated − best single known afterwards"] = found["calibrated"] - max(rho for _, rho in single.values())
    if cross:
        own = table.take(drawn)
        places = cross_validated(own.columns(), own.full, seed=seed)
        estimate = rank_correlation(places, own.full, num_resamples=500, seed=seed)
        target = rho_of(drawn[: round(0.8 * n)])
        if estimate.value is not None and estimate.low is not None and estimate.high is not None:
            found["cross-validated estimate"] = estimate.value
            found["its interval holds it"] = float(estimate.low <= target <= estimate.high)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_tables(parser)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--cross", type=int, default=100, help="repetitions with cross-validation, which is slower")
    args = parser.parse_args()
    table = load(args)
    sizes = [n for n in SIZES if 2 * n <= len(table)]
    if not sizes or not table.free:
        sys.exit(f"It takes at least {2 * SIZES[0]} candidates with free scores, but the tables share {len(table)}.")
    print(f"{len(table)} candidates, {len(table.free)} free scores; {args.repetitions} repetitions")
    answer: dict[str, dict[str, list[float]]] = {}
    for n in sizes:
        rows = [repetition(table, n, seed, cross=seed < args.cross) for seed in range(args.repetitions)]
        answer[str(n)] = {
            name: summary([row[name] for row in rows if name in row])
            for name in dict.fromkeys(k for r in rows for k in r)
        }
        print(f"\n{n} full trainings")
        for name, (mean, low, high) in answer[str(n)].items():
            print(f"  {name}: {mean:.3f} ({low:.3f} to {high:.3f})")
    tell(answer, args.out)


if __name__ == "__main__":
    main()
