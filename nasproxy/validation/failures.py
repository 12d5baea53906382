"""Trainings that gave no number: which they are, what ranks the others, and what follows if failures rank last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nasproxy.correlation import lexicographic_ranks, rank_correlation
from nasproxy.report.data import Failure, ScoreSummary
from nasproxy.search.loop import SearchResult
from nasproxy.spaces import SpaceInspection
from nasproxy.training.results import FailureKind, MeanScore
from nasproxy.training.tasks import Task, TrainingTask
from nasproxy.validation.measured import COUNTED, ValidatedCandidate


def ranking_score(task: Task, scores: list[MeanScore]) -> np.ndarray:
    """What ranks candidates by a score: its value; of a trained one the accuracy, the loss breaking ties.

    Where it is minus infinity, a number below all others stands for it.
    """
    values = np.array([score.value for score in scores], dtype=float)
    if not isinstance(task, TrainingTask):
        finite = values[~np.isnan(values)]
        if not finite.size:
            return np.zeros_like(values)
        return np.where(np.isnan(values), finite.min() - max(0.05 * np.ptp(finite), 1e-3), values)
    return lexicographic_ranks(values, -np.array([score.loss for score in scores], dtype=float))


def failures(candidates: list[ValidatedCandidate], search: SearchResult) -> tuple[Failure, ...]:
    """Every candidate and score that could not be measured, and why. Minus infinity is a rank, and no failure."""
    stages = {
        "proxy": "training on the proxy set",
        "random_subset": "training on random images",
        "full": "full training",
        "long": "the longer training that checks full training",
    }
    searched = "measuring" if search.objective.trained is None else stages["proxy"]
    found: dict[tuple[str, str], Failure] = {}
    for row in search.failed:
        found[row.candidate.id, "proxy"] = Failure(
            row.candidate.id, row.candidate.params, searched, row.score.failure or ""
        )
    for one in candidates:
        for name, score in one.scores.items():
            if score.failure is not None and score.failure_kind is not FailureKind.MINUS_INFINITY:
                found[one.candidate.id, name] = Failure(
                    one.candidate.id, one.candidate.params, stages.get(name, name), score.failure
                )
    return tuple(found.values())


def with_failures_last(
    summaries: Sequence[ScoreSummary],
    drawn: Sequence[ValidatedCandidate],
    measured_by: Mapping[str, Task],
    inspection: SpaceInspection,
    seed: int,
) -> tuple[ScoreSummary, ...]:
    """``summaries`` with the ρ of each score over all ``drawn`` candidates.

    A candidate whose full training failed has the lowest truth, and one whose training for a score failed the lowest
    score. Such candidates are equal to each other.
    """
    truth = _lowest_for_none([one.scores["full"].value for one in drawn])
    found = []
    for summary in summaries:
        if summary.name in measured_by:
            column = _of_all(measured_by[summary.name], [one.scores[summary.name] for one in drawn])
        elif summary.name in COUNTED:
            counts = [inspection.counts(one.candidate) for one in drawn]
            column = np.array([getattr(count, summary.name) for count in counts], dtype=float)
        else:  # a sum of scores, which is not known where one of them failed
            found.append(summary)
            continue
        found.append(replace(summary, with_failures=rank_correlation(column, truth, seed=seed)))
    return tuple(found)


def _of_all(task: Task, scores: list[MeanScore]) -> np.ndarray:
    """What ranks all candidates by a score, failures last."""
    measured = [place for place, score in enumerate(scores) if score.value is not None]
    ranked = ranking_score(task, [scores[place] for place in measured])
    values: list[float | None] = [None] * len(scores)
    for place, value in zip(measured, ranked, strict=True):
        values[place] = float(value)
    return _lowest_for_none(values)


def _lowest_for_none(values: Sequence[float | None]) -> np.ndarray:
    known = [value for value in values if value is not None]
    lowest = min(known, default=0.0) - 1.0
    return np.array([lowest if value is None else value for value in values])
