"""How a trial runs: its rungs first, from the cheapest on, then all scores of the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.search.objective import NUM_REFERENCES, Objective
from nasproxy.search.pruning import Pruner
from nasproxy.search.reference_ranks import ReferenceRanks, combined_score
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection, uniform_sample
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.jobs import Job
from nasproxy.training.results import mean_score
from nasproxy.training.tasks import Task


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Args:
        state: complete, pruned at a rung, or failed.
        values: of a complete trial: the score, then what is minimised.
        rungs: the value of each rung that was measured, by step.
    """

    state: TrialState
    values: Sequence[float] | None
    rungs: dict[int, float]


class TrialRunner:
    """Runs the trials of one search.

    Args:
        space: makes the candidates.
        objective: the rungs and the scores that a trial is measured by.
        config: the settings of the search.
        coordinator: has what was measured.
        pending: trials that run concurrently; a trial is pruned by what was known when it was proposed.
    """

    def __init__(
        self, space: SearchSpace, objective: Objective, config: SearchConfig, coordinator: Coordinator, pending: int
    ) -> None:
        self.space = space
        self.objective = objective
        self.seeds = tuple(range(config.seeds))
        self.coordinator = coordinator
        self.pending = pending
        self.reference_ranks: ReferenceRanks | None = None
        self._pruner = Pruner(config.pruner, config.reduction)
        self._ended: dict[tuple[int, int], bool] = {}
        self._firsts: dict[str, int] = {}  # by candidate, the first trial that proposed it
        self._noted = 0  # trials that were looked at for it

    def measure_references(self, inspection: SpaceInspection, seed: int) -> None:
        """Measures the reference candidates of a sum: its scores count by their rank among them.

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
                    f"{len(values)} ({reason}): leave this score out."
                )
            reference.append(tuple(values))
        self.reference_ranks = ReferenceRanks(tuple(reference))

    def job(self, candidate: Candidate, task: Task) -> Job:
        """The job that measures ``candidate`` by ``task`` with all seeds."""
        return Job(task, self.space, candidate.id, candidate.params, self.seeds)

    def advance(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> TrialOutcome | list[Job]:
        """How the running ``trial`` ended, or the jobs that must be done for it now.

        A candidate that is proposed again ends as it ended the first time, and has one vote at the rungs.
        """
        first = self._first_of(trial, trials)
        if first.state.is_finished():
            # Optuna gives a pruned trial the value of its last rung.
            values = first.values if first.state == TrialState.COMPLETE else None
            return TrialOutcome(first.state, values, first.intermediate_values)
        trial = first
        candidate = self.space.candidate(trial.params)
        rungs: dict[int, float] = {}
        for number, task in enumerate(self.objective.rungs):
            job = self.job(candidate, task)
            rows = self.coordinator.evaluations(job)
            if rows is None:
                return [job]
            value = mean_score(rows).value
            if value is None:
                return TrialOutcome(TrialState.FAIL, None, rungs)
            rungs[self._pruner.step(number)] = value
            if (trial.number, number) not in self._ended:
                known = trials[: max(0, trial.number - self.pending + 1)]  # as when it was proposed
                known = [one for one in known if self._first_of(one, trials).number == one.number]
                self._ended[trial.number, number] = self._pruner.ends(list(rungs.values()), known)
            if self._ended[trial.number, number]:
                return TrialOutcome(TrialState.PRUNED, None, rungs)
        jobs = [self.job(candidate, task) for task in self.objective.tasks]
        rows_by_task = [self.coordinator.evaluations(job) for job in jobs]
        if None in rows_by_task:
            return jobs
        scores = [mean_score(rows or []) for rows in rows_by_task]
        score, against = combined_score(self.objective, self.reference_ranks, scores)
        if score.value is None:
            return TrialOutcome(TrialState.FAIL, None, rungs)
        return TrialOutcome(TrialState.COMPLETE, [score.value, *against], rungs)

    def _first_of(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """The first trial of the candidate of ``trial``, which is one of ``trials``."""
        for number in range(self._noted, len(trials)):
            self._firsts.setdefault(trials[number].user_attrs["candidate"], number)
        self._noted = max(self._noted, len(trials))
        return trials[self._firsts[trial.user_attrs["candidate"]]]
