"""How often does a 95 % interval hold what it claims to hold?

    python benchmarks/coverage.py --samples 400

Score and truth are drawn from a bivariate normal distribution with a known Spearman correlation. Accuracies are either
these normal numbers or skewed ones (most candidates near the best, a tail of bad ones), which changes regrets and
nothing else. Every sample has n candidates. The number that an interval should hold is

- for ρ: the correlation of the distribution;
- for recall of the top k and for regrets: their mean over samples of the same n, since they depend on n.

Intervals: the percentile bootstrap over candidates (500 resamples) for all of them, and Wilson's interval for k trials
for the recall, which the report shows. The report shows no interval of a regret, because none here covers. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable

import numpy as np

from nasproxy.correlation.agreement import rank_agreement
from nasproxy.correlation.bootstrap import draws, interval
from nasproxy.correlation.ranks import recall_at_k, regret, spearman

SIZES, RHOS, K = (20, 64), (0.0, 0.5, 0.73, 0.9, 0.95), 5
NUM_RESAMPLES = 500
NUM_EXPECTED = 20_000  # samples whose mean is what an interval should hold

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # scores and truths (…, n) to (…)


def regret_at_k(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best truth minus the best among the first K, of every row; equal scores in the order of the row."""
    first = np.argsort(-score, axis=-1, kind="stable")[..., :K]
    return np.asarray(truth.max(-1) - np.take_along_axis(truth, first, -1).max(-1))


def recall(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return recall_at_k(score, truth, K)


STATISTICS: dict[str, Statistic] = {"rho": spearman, "recall": recall, "regret": regret, "regret at k": regret_at_k}


def drawn(rho: float, size: tuple[int, ...], rng: np.random.Generator, *, skewed: bool) -> tuple[np.ndarray, ...]:
    """Scores and truths ``size``."""
    pearson = 2 * math.sin(math.pi * rho / 6)
    truth, noise = rng.normal(size=(2, *size))
    score = pearson * truth + math.sqrt(1 - pearson**2) * noise
    return score, -np.exp(-truth) if skewed else truth


def coverage(n: int, rho: float, num_samples: int, *, skewed: bool) -> dict[str, list[float]]:
    """For each kind of interval how often it holds the number, and its mean width."""
    rng = np.random.default_rng(0)
    many = drawn(rho, (NUM_EXPECTED, n), rng, skewed=skewed)
    expected = {name: float(of(*many).mean()) for name, of in STATISTICS.items()} | {"rho": rho}
    found: dict[str, list[tuple[bool, float]]] = {}
    for number in range(num_samples):
        score, truth = drawn(rho, (n,), rng, skewed=skewed)
        index = draws(n, NUM_RESAMPLES, number)
        ends = {
            f"{name}, bootstrap": (name, interval(of(score[index], truth[index]))) for name, of in STATISTICS.items()
        }
        shown = rank_agreement(score, truth, k=K, num_resamples=10).recall_at_k
        if shown.low is not None and shown.high is not None:
            ends["recall, Wilson"] = "recall", (shown.low, shown.high)
        for kind, (name, pair) in ends.items():
            if pair is not None:
                holds = pair[0] <= expected[name] <= pair[1]
                found.setdefault(kind, []).append((holds, pair[1] - pair[0]))
    return {kind: [float(np.mean(column)) for column in zip(*rows, strict=True)] for kind, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400, help="of each size and correlation")
    args = parser.parse_args()
    result, heads = {}, None
    for skewed in (False, True):
        for n in SIZES:
            for rho in RHOS:
                own = coverage(n, rho, args.samples, skewed=skewed)
                if heads is None:
                    heads = list(own)
                    print(f"{'truth':8} {'n':>3} {'rho':>5}  " + "  ".join(f"{kind:>22}" for kind in heads))
                cells = "  ".join(f"{100 * own[kind][0]:>12.0f} % ({own[kind][1]:.2f})" for kind in heads)
                print(f"{'skewed' if skewed else 'normal':8} {n:>3} {rho:>5.2f}  {cells}", flush=True)
                result[f"{'skewed' if skewed else 'normal'} n={n} rho={rho}"] = own
    print(json.dumps({"samples": args.samples, "k": K, "coverage and width": result}))


if __name__ == "__main__":
    main()
