"""What short trainings alone find in so many seconds: a row beside published figures of NAS-Bench-201.

    python benchmarks/anchor.py --truth FILE:cifar10-test --short FILE:cifar10-val --scores FILE --key cellstr

Published figures count the seconds of 12-epoch trainings and of scores, and give the 200-epoch test accuracy of the
pick, whose own training is not counted. So does this: free scores of random cells, short trainings chosen as in
`nasproxy search --compute`, and the cell that it would train fully first. Costs:

- --short-seconds 110: a 12-epoch training of a cell on half of CIFAR-10. The benchmark's recorded trainings took 9.14 s
  an epoch on average on its authors' GPU;
- --score-seconds: of all free scores of a cell, as `own_scores.py` measured them, here on one CPU core;
- --scoring-share: of the seconds that go into free scores.

The space is every cell that the tables share. Random search is replayed in the same way. The last line is JSON:
{"seconds": {"short trainings and free scores": [mean, low, high], "random": […], "optimum": …}}.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from picks import add_tables, load, summary, tell

from nasproxy.picking.policy import Known, first_short, next_full, next_short
from nasproxy.picking.replay import Table


def picked(table: Table, num_scored: int, num_short: int, seed: int) -> float:
    """The full accuracy of the first choice after so many free scores and short trainings."""
    assert table.short is not None
    scored = np.sort(np.random.default_rng([seed, 1]).permutation(len(table))[:num_scored])
    own = table.take(scored)
    assert own.short is not None
    known = Known.nothing(own.columns())
    measured, left = known.short.copy(), min(num_short, len(own))
    waiting = first_short(known.columns, left, seed)
    while waiting:
        measured[waiting] = own.short[waiting]
        known, left = replace(known, short=measured.copy()), left - len(waiting)
        waiting = next_short(known, left) if left else []
    (first,) = next_full(known, 1, seed)
    return float(own.full[first])


def at_random(table: Table, num_short: int, seed: int) -> float:
    """The full accuracy of the best of so many random candidates by short training."""
    assert table.short is not None
    tried = np.random.default_rng([seed, 3]).permutation(len(table))[:num_short]
    return float(table.full[tried[np.argmax(table.short[tried])]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_tables(parser)
    parser.add_argument("--short-seconds", type=float, default=110.0)
    parser.add_argument("--score-seconds", type=float, required=True)
    parser.add_argument("--scoring-share", type=float, default=0.3)
    parser.add_argument("--seconds", type=lambda text: tuple(map(float, text.split(","))), default=(3051.0, 12000.0))
    parser.add_argument("--repetitions", type=int, default=200)
    args = parser.parse_args()
    table = load(args)
    answer: dict[str, dict[str, object]] = {}
    for seconds in args.seconds:
        num_scored = min(len(table), int(args.scoring_share * seconds / args.score_seconds))
        num_short = int((seconds - num_scored * args.score_seconds) / args.short_seconds)
        ours = summary([picked(table, num_scored, num_short, seed) for seed in range(args.repetitions)])
        num_random = int(seconds / args.short_seconds)
        random = summary([at_random(table, num_random, seed) for seed in range(args.repetitions)])
        best = float(table.full.max())
        print(f"{seconds:g} s: optimum of {len(table)} cells {best:.2f}")
        print(f"  {num_scored} scored, {num_short} short: {ours[0]:.2f} ({ours[1]:.2f} to {ours[2]:.2f})")
        print(f"  {num_random} short at random: {random[0]:.2f} ({random[1]:.2f} to {random[2]:.2f})")
        answer[f"{seconds:g}"] = {"short trainings and free scores": ours, "random": random, "optimum": best}
    tell(answer, args.out)


if __name__ == "__main__":
    main()
