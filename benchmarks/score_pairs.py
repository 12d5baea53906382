"""Does one score of a finished run rank better than another, and several than several others?

    python benchmarks/score_pairs.py RUN A:B C:D …

A, B, … are names of scores, which it lists. A run's page compares every score with the proxy; this compares any two, on
the same candidates: ρ of A minus ρ of B with its 95 % bootstrap interval and p-value, each as if it were the only
pair, and the mean of all pairs from the same resamples, since they share candidates and truth. With ``--accuracies
A=0.31,B=0.38`` it also asks whether sets that train nets better rank better: Spearman's correlation over sets, with its
95 % interval and the p-value of scipy. The last line is JSON.

Sets are few, so the interval over them is by Fisher's z with the variance of Bonett and Wright, "Sample size
requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 2000. An interval that holds 0
and large values says that no association is shown, not that there is none.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.correlation import Estimate, fisher_interval, spearman
from nasproxy.correlation.bootstrap import draws, estimate, p_value
from nasproxy.report.charts.common import measured_sample
from nasproxy.report.data import CorrelationReport, read_report
from nasproxy.report.wording import rho_text

NUM_RESAMPLES = 4000


def columns(report: CorrelationReport, names: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each of ``names`` ranks the sample by, and its full accuracies, ``(n,)`` each."""
    known = [score.name for score in report.scores]
    for name in names:
        if name not in known:
            raise unknown("score", name, known)
    rows = [row for row in measured_sample(report) if all(name in row.ranking for name in names)]
    truth = np.array([row.truth for row in rows], dtype=float)
    return {name: np.array([row.ranking[name] for row in rows]) for name in names}, truth


def lead(pairs: list[tuple[np.ndarray, np.ndarray]], truth: np.ndarray, seed: int = 0) -> tuple[Estimate, float]:
    """Mean over ``pairs`` of ρ of the first minus ρ of the second, and the p-value of "it is 0"."""
    index = draws(len(truth), NUM_RESAMPLES, seed)
    value = np.mean([spearman(a, truth) - spearman(b, truth) for a, b in pairs])
    resampled = np.mean([spearman(a[index], truth[index]) - spearman(b[index], truth[index]) for a, b in pairs], axis=0)
    return estimate(float(value), resampled, len(truth)), p_value(resampled)


def few_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's ``rho`` from ``n`` pairs, by :func:`~nasproxy.correlation.fisher_interval`.

    Raises:
        NasproxyError: for fewer than four pairs.
    """
    if n < 4:
        raise NasproxyError(f"An interval of a correlation takes at least 4 sets, but got {n}: give --accuracies more.")
    return fisher_interval(max(-0.999, min(0.999, rho)), n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pairs", nargs="*")
    parser.add_argument("--accuracies", default="")
    options = parser.parse_args()
    report = read_report(options.run)
    for score in report.scores:
        print(f"{score.name}: {rho_text(score.agreement.spearman)}")
    found: dict[str, object] = {"n": 0}
    pairs = [tuple(pair.split(":")) for pair in options.pairs]
    if any(len(pair) != 2 for pair in pairs):
        raise NasproxyError(f"A pair is A:B, two names of scores, but got {' '.join(options.pairs)}.")
    if pairs:
        by_name, truth = columns(report, [name for pair in pairs for name in pair])
        both = [(by_name[a], by_name[b]) for a, b in pairs]
        tested = dict(zip(options.pairs, both, strict=True))
        for name, pair in tested.items():
            difference, p = lead([pair], truth)
            found[name] = asdict(difference) | {"p": p}
            print(f"{name}: {rho_text(difference)}, p = {p:.3f}")
        difference, p = lead(both, truth)
        found |= {"n": len(truth), "all": asdict(difference) | {"p": p}}
        print(f"mean of the {len(both)}: {rho_text(difference)}, p = {p:.3f}")
    if options.accuracies:
        accuracies = {
            name: float(value) for name, _, value in (p.partition("=") for p in options.accuracies.split(","))
        }
        rho = {score.name: score.agreement.spearman.value for score in report.scores}
        for name in accuracies:
            if rho.get(name) is None:
                raise unknown("score", name, rho)
        over = spearmanr(list(accuracies.values()), [rho[name] for name in accuracies])
        low, high = few_interval(over.statistic, len(accuracies))
        interval = {"low": low, "high": high, "p": over.pvalue, "sets": len(accuracies)}
        found["accuracy and rho"] = {"value": over.statistic} | interval
        print(
            f"accuracy and ρ over {len(accuracies)} sets: {over.statistic:+.2f} "
            f"(95 % interval {low:+.2f} to {high:+.2f}), p = {over.pvalue:.2f}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
