"""How the training losses of trained scores agree with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nasproxy.correlation import rank_correlation
from nasproxy.report.data import LossCurves
from nasproxy.training.loss_curve import loss_columns
from nasproxy.validation.measured import ValidatedCandidate, truths_of


def loss_curves_of(
    complete: Sequence[ValidatedCandidate], columns: Mapping[str, np.ndarray], labels: Mapping[str, str], seed: int
) -> tuple[LossCurves, ...]:
    """How the training losses of trained scores agree with the truth.

    Args:
        complete: the candidates that all scores could measure.
        columns: what each score ranks them by, ``(n,)`` each.
        labels: of the trained scores.
        seed: of the bootstrap.

    Returns:
        A row for each trained score whose training losses are known for all candidates.
    """
    truth = truths_of(list(complete))
    found = []
    for name, label in labels.items():
        losses = loss_columns([one.scores[name] for one in complete]) if complete else {}
        if "training losses" in losses:
            total, late = losses["training losses"], losses.get("late training loss")
            found.append(
                LossCurves(
                    name,
                    label,
                    rank_correlation(columns[name], truth, seed=seed),
                    rank_correlation(-total, truth, seed=seed),
                    None if late is None else rank_correlation(-late, truth, seed=seed),
                )
            )
    return tuple(found)
