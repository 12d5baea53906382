"""The calibrated score on the page: what the full trainings teach, and what each cheap thing adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nasproxy.correlation import Estimate, paired_difference, rank_correlation
from nasproxy.correlation.rivals import MIN_RIVAL
from nasproxy.picking.columns import Columns, columns_of, normal_scores, standardised
from nasproxy.picking.crossval import RELIABLE, cross_validated
from nasproxy.report.calibration import Added, Calibration, ColumnSet
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.spaces import SpaceInspection
from nasproxy.training.loss_curve import loss_columns
from nasproxy.validation.measured import ValidatedCandidate, truths_of

LABELS = {
    "everything": "Every cheap column",
    "no_proxy": "All but the proxy set",
    "free": "Scores that train nothing",
    "free_proxy": "These and the proxy set",
    "free_random": "These and random images",
    "proxy": "The proxy set",
    "parameters": "The space's parameters alone",
}
UNSTABLE = ("latency",)  # no column: it differs from machine to machine


def calibration_of(
    complete: Sequence[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    inspection: SpaceInspection,
    seed: int,
) -> Calibration | None:
    """Cross-validated agreement of models that learn from several sets of columns, and the differences between them.

    Args:
        complete: the n candidates that all scores could measure.
        columns: what each score ranks them by, ``(n,)`` each.
        labels: of the scores.
        inspection: of the space, for its parameters.
        seed: of the splits and of the bootstrap.

    Returns:
        None for fewer candidates than a fit takes, or equal full accuracies.
    """
    truth = truths_of(list(complete))
    if len(complete) < MIN_RIVAL or np.ptp(truth) == 0:
        return None
    free = [name for name in columns if name in ZERO_COST and name not in UNSTABLE]
    trained = [name for name in columns if name not in ZERO_COST and name in labels]
    # Of a training, its losses say more than its accuracy.
    losses = {
        name: {f"{name}: {word}": own for word, own in loss_columns([one.scores[name] for one in complete]).items()}
        for name in trained
        if all(name in one.scores for one in complete)
    }
    sets = {
        "everything": (*free, *trained),
        "no_proxy": (*free, *(name for name in trained if name != "proxy")),
        "free": tuple(free),
        "free_proxy": (*free, "proxy"),
        "free_random": (*free, "random_subset"),
        "proxy": ("proxy",),
        "parameters": (),
    }
    parameters = {
        one.name: [candidate.candidate.params.get(one.name) for candidate in complete]
        for one in inspection.space.parameters
    }
    sets = {name: own for name, own in sets.items() if set(own) <= columns.keys() and (own or parameters)}
    sets = {name: tuple(one for first in own for one in (first, *losses.get(first, ()))) for name, own in sets.items()}
    known = dict(columns) | {name: column for own in losses.values() for name, column in own.items()}
    places = {name: cross_validated(_columns(own, known, parameters), truth, seed=seed) for name, own in sets.items()}

    def gap(more: str, less: str, words: str) -> Added:
        second = places[less] if less in places else columns[less]
        return Added(more, less, words, paired_difference(places[more], second, truth, seed=seed))

    found = tuple(
        ColumnSet(name, LABELS[name], own, rank_correlation(places[name], truth, seed=seed))
        for name, own in sets.items()
    )
    best = _best_single(columns, labels, truth, seed)
    added = []
    for more, less, words in (
        ("everything", "parameters", "all cheap columns, added to the parameters"),
        ("free_proxy", "free", "the proxy set, added to scores that train nothing"),
        ("free_random", "free", "random images, added to scores that train nothing"),
        ("free_proxy", "free_random", "the proxy set in place of random images"),
        ("everything", "no_proxy", "the proxy set, added to everything else"),
        ("everything", "proxy", "every cheap column in place of the proxy set alone"),
    ):
        if more in places and less in places:
            added.append(gap(more, less, words))
    if best is not None:
        added.append(gap("everything", best, f"everything learned, against the best single score ({labels[best]})"))
    for name in trained:
        if name != best:
            difference = paired_difference(places["everything"], columns[name], truth, seed=seed)
            added.append(
                Added("everything", f"score {name}", f"everything learned, against {labels[name]}", difference)
            )
    return Calibration(len(truth), len(truth) >= RELIABLE, found, tuple(added), labels.get(best or "", ""))


def _columns(
    names: Sequence[str], columns: Mapping[str, np.ndarray], parameters: Mapping[str, Sequence[object]]
) -> Columns:
    """The columns ``names``, of which scores that train nothing give the prior vote; else the first column is it."""
    free = {name: columns[name] for name in names if name in ZERO_COST}
    trained = {name: columns[name] for name in names if name not in ZERO_COST}
    found = columns_of(free, parameters, trained)
    if trained and not free:
        return Columns(standardised(normal_scores(columns[names[0]])), found.features)
    return found


def _best_single(
    columns: Mapping[str, np.ndarray], labels: Mapping[str, str], truth: np.ndarray, seed: int
) -> str | None:
    """The score with the highest ρ, which is known only afterwards."""

    def rho(name: str) -> float:
        found: Estimate = rank_correlation(columns[name], truth, num_resamples=1, seed=seed)
        return -2.0 if found.value is None else found.value

    named = [name for name in columns if name in labels]
    return max(named, key=rho, default=None)
