"""What is measured of a candidate next, and how it ends: up the rungs of an objective, then by all its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.search.objective import NUM_REFERENCES, Objective
from nasproxy.search.pruning import Pruner
from nasproxy.search.standings import Standings, combined
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection, uniform_sample
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.jobs import Job
from nasproxy.training.results import mean_score
from nasproxy.training.tasks import Task


@dataclass(frozen=True)
class Answer:
    """How a trial ended: ``values`` when it went all the way, and what it reached at its ``rungs``, by step."""

    state: TrialState
    values: Sequence[float] | None
    rungs: dict[int, float]


class Climb:
    """Every trial of one search; ``standings`` are those of a sum, once its references were measured."""

    def __init__(
        self, space: SearchSpace, objective: Objective, config: SearchConfig, coordinator: Coordinator, pending: int
    ) -> None:
        self.space = space
        self.objective = objective
        self.seeds = tuple(range(config.seeds))
        self.coordinator = coordinator
        self.pending = pending
        self.standings: Standings | None = None
        self._pruner = Pruner(config.pruner, config.reduction)
        self._ended: dict[tuple[int, int], bool] = {}

    def measure_references(self, inspection: SpaceInspection, seed: int) -> None:
        """Measures the candidates among which the scores of a sum take their standing.

        Raises:
            NasproxyError: when a score fails for all but one of them.
        """
        jobs = [
            [self.job(candidate, task) for candidate in uniform_sample(inspection, NUM_REFERENCES, seed)]
            for _, task in self.objective.terms
        ]
        rows = iter(self.coordinator.finish([job for own in jobs for job in own]))
        reference = []
        for (_, task), own in zip(self.objective.terms, jobs, strict=True):
            scores = [mean_score(next(rows)) for _ in own]
            values = sorted(score.value for score in scores if score.value is not None)
            if len(values) < 2:
                reason = next((score.failure for score in scores if score.failure), "the space is too small")
                raise NasproxyError(
                    f"In a sum, '{task.score}' needs two reference candidates that it can measure, but has "
                    f"{len(values)} ({reason}): leave it out."
                )
            reference.append(tuple(values))
        self.standings = Standings(tuple(reference))

    def job(self, candidate: Candidate, task: Task) -> Job:
        return Job(task, self.space, candidate.id, candidate.params, self.seeds)

    def look(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Answer | list[Job]:
        """How the running ``trial`` ended, or what must be measured for it now."""
        candidate = self.space.candidate(trial.params)
        rungs: dict[int, float] = {}
        for number, task in enumerate(self.objective.rungs):
            job = self.job(candidate, task)
            rows = self.coordinator.evaluations(job)
            if rows is None:
                return [job]
            value = mean_score(rows).value
            if value is None:
                return Answer(TrialState.FAIL, None, rungs)
            rungs[self._pruner.step(number)] = value
            if (trial.number, number) not in self._ended:
                known = trials[: max(0, trial.number - self.pending + 1)]  # as when it was proposed
                self._ended[trial.number, number] = self._pruner.ends(list(rungs.values()), known)
            if self._ended[trial.number, number]:
                return Answer(TrialState.PRUNED, None, rungs)
        jobs = [self.job(candidate, task) for task in self.objective.tasks]
        rows_by_task = [self.coordinator.evaluations(job) for job in jobs]
        if None in rows_by_task:
            return jobs
        score, against = combined(self.objective, self.standings, [mean_score(rows or []) for rows in rows_by_task])
        if score.value is None:
            return Answer(TrialState.FAIL, None, rungs)
        return Answer(TrialState.COMPLETE, [score.value, *against], rungs)
