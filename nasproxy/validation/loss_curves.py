"""What the losses of a training say besides its accuracy: columns for a model, and their correlation with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nasproxy.correlation import rank_correlation
from nasproxy.report.data import LossCurves
from nasproxy.training.results import MeanScore
from nasproxy.validation.measured import ValidatedCandidate, truths_of

LATE_SHARE = 0.2  # of the parts of a training, whose mean loss is its late loss


def loss_columns(scores: Sequence[MeanScore]) -> dict[str, np.ndarray]:
    """Columns ``(n,)`` of one score that trains n candidates; a higher number means less loss.

    Returns:
        "held-out loss", "training losses" (their sum) and "late training loss", each only where all candidates have it.
    """
    found: dict[str, np.ndarray] = {}
    if all(score.loss is not None for score in scores):
        found["held-out loss"] = -np.array([score.loss for score in scores], dtype=float)
    parts = {len(score.train_losses) for score in scores}
    if len(parts) == 1 and 0 not in parts:
        losses = np.array([score.train_losses for score in scores])
        late = max(1, round(LATE_SHARE * losses.shape[1]))
        found["training losses"] = -losses.mean(1)
        if losses.shape[1] > 1:
            found["late training loss"] = -losses[:, -late:].mean(1)
    return found


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
