"""Is full training long enough to rank? Some candidates of the sample are trained longer, and the rankings compared.

Full training of a few epochs ranks what learns fast. Scores that train briefly agree with it for that reason alone, so
that no correlation with it says how a score agrees with a long training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nasproxy.correlation import Estimate, fisher_interval, paired_difference, rank_correlation
from nasproxy.report.data import LengthPoint, ScoreSummary, TruthLength
from nasproxy.scores.full_training import full_task
from nasproxy.training.jobs import Job
from nasproxy.training.results import mean_score
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.measured import ValidatedCandidate, Validation, truths_of

# Candidates are chosen from the first drawn, this many times as many: a sample that grows later keeps them.
POOL = 2.5


def length_task(validation: Validation) -> TrainingTask:
    """The longer training. Its rows in the table of trainings are those of full training for so many epochs."""
    config = validation.config
    task = full_task(validation.dataset, replace(config, epochs=config.epochs_of_check(), long_epochs=None))
    return replace(task, label="Longer full training")


def spread_over_ranking(candidates: Sequence[ValidatedCandidate], num: int) -> list[ValidatedCandidate]:
    """``num`` candidates, evenly spread over the ranking by full accuracy of the first ``POOL`` times as many drawn.

    Even places make their ranking like that of the whole sample, from the best to the worst. A training that failed has
    no place.
    """
    drawn = [one for one in candidates if one.group == "sample"][: math.ceil(POOL * num)]
    ranked = sorted(
        (one for one in drawn if one.scores["full"].value is not None),
        key=lambda one: (-(one.scores["full"].value or 0.0), one.candidate.id),
    )
    num = min(num, len(ranked))
    return [ranked[int((place + 0.5) * len(ranked) / num)] for place in range(num)]


def train_longer(
    validation: Validation, candidates: Sequence[ValidatedCandidate], progress: Callable[[int], None]
) -> None:
    """Trains some of ``candidates`` longer, once each, into their score "long".

    Args:
        progress: is called with the number of trainings done.
    """
    num = validation.config.num_checked(len(validation.dataset.train))
    if validation.truth is not None or num == 0:
        return
    chosen = spread_over_ranking(candidates, num)
    task, space = length_task(validation), validation.search.inspection.space
    jobs = [Job(task, space, one.candidate.id, one.candidate.params, (0,)) for one in chosen]
    found = validation.session.coordinator().finish(jobs, lambda done, _: progress(done))
    for one, rows in zip(chosen, found, strict=True):
        one.scores["long"] = mean_score(rows)


def checked(candidates: Sequence[ValidatedCandidate]) -> list[ValidatedCandidate]:
    """Those that have a full accuracy and a longer one."""
    return [one for one in candidates if _is_checked(one)]


def _is_checked(one: ValidatedCandidate) -> bool:
    return "long" in one.scores and one.scores["long"].value is not None


def length_of(validation: Validation, candidates: Sequence[ValidatedCandidate]) -> TruthLength | None:
    """How long full training was and how a longer one agrees with it; None where the truth comes from a table."""
    config, num_train = validation.config, len(validation.dataset.train)
    if validation.truth is not None:
        return None
    images = num_train if config.images is None else min(config.images, num_train)
    length = TruthLength(config.epochs, images, config.is_full_length(num_train))
    tried = [one for one in candidates if "long" in one.scores]
    if not tried:
        return length
    good = checked(tried)
    longer = np.array([one.scores["long"].value for one in good], dtype=float)
    return replace(
        length,
        long_epochs=config.epochs_of_check(),
        agreement=_never_certain(rank_correlation(truths_of(good), longer, seed=config.seed)),
        num_failed=len(tried) - len(good),
        long_seconds=float(np.mean([one.scores["long"].seconds for one in tried])),
    )


def _never_certain(rho: Estimate) -> Estimate:
    """``rho`` with an interval of some width. Of candidates that agree perfectly every resample does.

    The lower end is then the ρ at which perfect agreement of n candidates has a chance of about 2.5 % (simulated in the
    tests): that of :func:`~nasproxy.correlation.planning.fisher_interval` around 1 − 6 / (n³ − n), which lies halfway
    between perfect agreement and one exchanged pair of neighbours.
    """
    if rho.low is None or rho.high is None or rho.low < rho.high or rho.value is None:
        return rho
    n = rho.n
    nearly = 1 - 6 / (n**3 - n)
    low, _ = fisher_interval(nearly, n)
    return replace(rho, low=low if rho.value > 0 else -1.0, high=1.0 if rho.value > 0 else -low)


def with_lengths(
    summaries: Sequence[ScoreSummary],
    complete: Sequence[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
    config_epochs: tuple[int, int],
    seed: int,
) -> tuple[ScoreSummary, ...]:
    """``summaries`` with the ρ of each score with trainings of several lengths.

    Args:
        complete: the candidates that all scores could measure.
        columns: what each score ranks them by, ``(n,)`` each.
        config_epochs: the epochs of full training and of the longer training.
        seed: of the bootstrap.
    """
    curves = [dict(one.scores["full"].curve) for one in complete]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    if not shared:
        return tuple(summaries)
    epochs, long_epochs = config_epochs
    truth = truths_of(list(complete))
    early = [(epoch, np.array([curve[epoch] for curve in curves])) for epoch in shared if epoch < epochs]
    places = [place for place, one in enumerate(complete) if _is_checked(one)]
    longer = np.array([complete[place].scores["long"].value for place in places], dtype=float)
    found = []
    for summary in summaries:
        column = columns[summary.name]
        points = [LengthPoint(epoch, rank_correlation(column, then, seed=seed), True) for epoch, then in early]
        points.append(LengthPoint(epochs, summary.agreement.spearman, False))
        long_fall = None
        if places:
            points.append(LengthPoint(long_epochs, rank_correlation(column[places], longer, seed=seed), False))
            long_fall = paired_difference(longer, truth[places], column[places], seed=seed)
        # By symmetry these are differences of ρ(score, later) and ρ(score, earlier).
        fall = paired_difference(truth, early[0][1], column, seed=seed) if early else None
        found.append(replace(summary, lengths=tuple(points), fall=fall, long_fall=long_fall))
    return tuple(found)
