"""A search that spends a stated compute: free scores, short trainings, full trainings, and the pick.

It goes in rounds. What a round trains follows from the plan and from what all rounds before it measured, and from
nothing else: so a search that was killed, that has other workers, or that runs on several hosts trains the same
candidates. Everything measured is in the table of trainings; the trials are in an Optuna study, with the short accuracy
as an intermediate value at step 0, and can be opened with optuna-dashboard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from nasproxy.config import ComputeConfig, SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset
from nasproxy.picking.columns import columns_of
from nasproxy.picking.policy import Belief, Known, belief, first_short, next_full, next_short
from nasproxy.picking.remaining import Remaining, remaining
from nasproxy.scores.full_training import full_task
from nasproxy.scores.measuring import minibatch_task, shared
from nasproxy.search.callbacks import FinishedTrial, SearchCallback
from nasproxy.search.compute_plan import COUNTED, FREE_SCORES, ComputePlan, plan_compute
from nasproxy.search.objective import single
from nasproxy.search.study import Study
from nasproxy.search.trial_runner import TrialOutcome
from nasproxy.spaces import Candidate, SpaceInspection, sample_of_functions
from nasproxy.training.jobs import Job
from nasproxy.training.results import FailureKind, MeanScore, mean_score
from nasproxy.training.session import Session
from nasproxy.training.tasks import Task

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Picked:
    """What a search for a stated compute found.

    Args:
        plan: what was bought.
        candidates: all that were scored.
        free: their free scores by name, ``(n,)``; NaN where one failed.
        vote: ``(n,)``, the vote of the free scores.
        short: ``(n,)``, accuracy after a short training, NaN where there was none.
        full: ``(n,)``, accuracy after full training, NaN where there was none.
        order: indices of the candidates in the order in which they were trained fully.
        failures: by index, why a training failed.
        belief: what is expected of the full accuracy of every candidate.
        remaining: how far the pick may be from the best; None with too few full trainings.
        pick: the index of the pick; None when every full training failed.
        test: the pick's accuracy on test images.
        seconds: that each part took.
    """

    plan: ComputePlan
    candidates: tuple[Candidate, ...]
    free: dict[str, np.ndarray]
    vote: np.ndarray
    short: np.ndarray
    full: np.ndarray
    order: tuple[int, ...]
    failures: dict[int, str]
    belief: Belief
    remaining: Remaining | None
    pick: int | None
    test: MeanScore | None
    seconds: dict[str, float] = field(default_factory=dict)


def search_by_compute(
    inspection: SpaceInspection,
    dataset: Dataset,
    config: ComputeConfig,
    session: Session,
    make_plan: Callable[[], ComputePlan] | None = None,
    *,
    callback: SearchCallback | None = None,
    tell: Callable[[ComputePlan, bool], None] | None = None,
    progress: Progress | None = None,
) -> Picked:
    """Spends the compute of a plan. The same call resumes a search.

    Args:
        inspection: the space, from :func:`~nasproxy.spaces.inspect_space`.
        dataset: what candidates are trained on; its validation split ranks them.
        config: the settings that the plan was made of.
        session: the run, from :func:`~nasproxy.search.open_session.open_session`.
        make_plan: is called once in the life of a run, by the process that begins it; None: the plan follows from
            timing a few candidates, see :func:`~nasproxy.search.compute_plan.plan_compute`.
        callback: is told of every candidate that was trained fully.
        tell: is called with the plan, and whether it was kept from before, before anything is spent.
        progress: is called with a part, the number of its jobs that are done, and of all.

    Raises:
        NasproxyError: when the run was started with other settings.
    """
    settings = {"compute": config.compute, "hours": config.hours, "epochs": config.epochs, "images": config.images}
    run = SearchConfig(seed=config.seed, precision=config.precision)
    # The plan decides on the length of full training, so what the study is known by is one of the usual length.
    objective = single(full_task(dataset, ValidateConfig(seed=config.seed, precision=config.precision)))
    more = {"sampler": "compute", "compute": settings}
    with Study(session.run, inspection.space, objective, run, session.ledger, workers=1, more=more) as study:
        make = make_plan or (
            lambda: plan_compute(inspection, dataset, config, session.choice, workers=session.crew.size)
        )
        kept, fresh = study.keep("plan", lambda: make().as_json())
        plan = ComputePlan.from_json(kept)
        if tell is not None:
            tell(plan, not fresh)
        spending = _Spending(study, plan, inspection, dataset, config, session, callback, progress or _silent)
        return spending.run()


def _silent(part: str, done: int, total: int) -> None:
    pass


class _Spending:
    """The rounds of one search."""

    def __init__(
        self,
        study: Study,
        plan: ComputePlan,
        inspection: SpaceInspection,
        dataset: Dataset,
        config: ComputeConfig,
        session: Session,
        callback: SearchCallback | None,
        progress: Progress,
    ) -> None:
        self._study, self._plan, self._inspection, self._config = study, plan, inspection, config
        self._dataset, self._callback, self._progress = dataset, callback, progress
        self._coordinator = session.coordinator()
        full = plan.validation(config)
        self._full = full_task(dataset, full)
        self._test = full_task(dataset, full, split="test")
        self._short = None if plan.short_epochs is None else full_task(dataset, replace(full, epochs=plan.short_epochs))
        self._seconds = {"scored": 0.0, "short": 0.0, "full": 0.0, "test": 0.0}
        self._failures: dict[int, str] = {}
        self._candidates: list[Candidate] = []

    def run(self) -> Picked:
        self._candidates = sample_of_functions(self._inspection, self._plan.pick.scored, self._config.seed)
        if not self._candidates:
            raise NasproxyError(f"Space '{self._inspection.space.name}' has no candidate to search.")
        free = self._free_scores()
        names = [parameter.name for parameter in self._inspection.space.parameters]
        params = {name: [one.params.get(name) for one in self._candidates] for name in names}
        known = self._short_trainings(Known.nothing(columns_of(free, params)))
        known, order = self._full_trainings(known)
        self._end(known)
        fully = known.fully
        pick = int(fully[np.argmax(known.full[fully])]) if len(fully) else None
        test = None
        if pick is not None:
            (test,) = self._measured("test", self._test, [pick])
        return Picked(
            self._plan,
            tuple(self._candidates),
            free,
            known.columns.vote,
            known.short,
            known.full,
            tuple(order),
            dict(self._failures),
            belief(known),
            remaining(known, seed=self._config.seed),
            pick,
            test,
            dict(self._seconds),
        )

    def _free_scores(self) -> dict[str, np.ndarray]:
        """Every free score ``(n,)``; minus infinity is a value, every other failure is NaN."""
        measured = [name for name in FREE_SCORES if name not in COUNTED and self._plan.pick.cost_scored > 0]
        tasks = shared([minibatch_task(name, self._dataset, self._config.seed) for name in measured])
        jobs = [self._job(task, index) for index in range(len(self._candidates)) for task in tasks]
        each = max(1, len(tasks))
        rows = self._coordinator.finish(jobs, lambda done, total: self._progress("scored", done // each, total // each))
        scores = [mean_score(found) for found in rows]
        self._seconds["scored"] += sum(score.seconds for score in scores)
        values = np.array([_value(score) for score in scores]).reshape(len(self._candidates), len(tasks))
        counts = [self._inspection.counts(candidate) for candidate in self._candidates]
        free = {name: values[:, place] for place, name in enumerate(measured)}
        return free | {name: np.array([float(getattr(one, name)) for one in counts]) for name in COUNTED}

    def _short_trainings(self, known: Known) -> Known:
        left = self._plan.pick.short
        if not left or self._short is None:
            return known
        waiting, done = first_short(known.columns, left, self._config.seed), 0
        while waiting:
            self._add_trials(waiting)
            scores = self._trained("short", self._short, waiting, done, self._plan.pick.short)
            known = _with(known, "short", waiting, scores)
            left, done = left - len(waiting), done + len(waiting)
            waiting = next_short(known, left) if left > 0 else []
        return known

    def _full_trainings(self, known: Known) -> tuple[Known, list[int]]:
        order: list[int] = []
        while (left := self._plan.pick.full - len(order)) > 0:
            chosen = next_full(known, min(left, self._plan.pick.round_size), self._config.seed)
            if not chosen:
                break
            self._add_trials(chosen)
            scores = self._trained("full", self._full, chosen, len(order), self._plan.pick.full)
            known = _with(known, "full", chosen, scores)
            order += chosen
            finished = [self._tell(one, known) for one in chosen]
            if self._callback is not None:
                self._callback.update(len(order), self._plan.pick.full, finished)
        return known, order

    def _trained(self, part: str, task: Task, chosen: Sequence[int], before: int, total: int) -> list[MeanScore]:
        scores = self._measured(part, task, chosen, before, total)
        for one, score in zip(chosen, scores, strict=True):
            if score.failure is not None:
                self._failures[one] = score.failure
        return scores

    def _measured(
        self, part: str, task: Task, chosen: Sequence[int], before: int = 0, total: int | None = None
    ) -> list[MeanScore]:
        jobs = [self._job(task, one) for one in chosen]
        whole = len(jobs) if total is None else total
        rows = self._coordinator.finish(jobs, lambda done, _: self._progress(part, before + done, whole))
        scores = [mean_score(found) for found in rows]
        self._seconds[part] += sum(score.seconds for score in scores)
        return scores

    def _job(self, task: Task, index: int) -> Job:
        candidate = self._candidates[index]
        return Job(task, self._inspection.space, candidate.id, candidate.params, (0,))

    # -------------------------------------------------------------------------------------------------- Optuna's trials

    def _numbers(self) -> dict[str, int]:
        """Trial numbers by candidate."""
        return {trial.user_attrs["candidate"]: trial.number for trial in self._study.trials()}

    def _add_trials(self, chosen: Sequence[int]) -> None:
        with self._study.ledger.exclusive(f"propose {self._study.name}"):
            known = self._numbers()
            for one in chosen:
                candidate = self._candidates[one]
                if candidate.id in known:
                    continue
                fixed = optuna.trial.FixedTrial(dict(candidate.params))
                self._inspection.space.suggest(fixed)  # so that the trial has the distributions of the space
                trial = create_trial(
                    state=TrialState.RUNNING,
                    params=fixed.params,
                    distributions=fixed.distributions,
                    user_attrs={"candidate": candidate.id},
                )
                trial.number = len(self._study.trials())
                self._study.add(trial)

    def _tell(self, one: int, known: Known) -> FinishedTrial:
        """Tells the study how the full training of candidate ``one`` ended."""
        candidate, value = self._candidates[one], known.full[one]
        number = self._numbers()[candidate.id]
        rungs = {} if math.isnan(known.short[one]) else {0: float(known.short[one])}
        before = self._study.trials()[number].state.is_finished()
        good = not math.isnan(value)
        outcome = TrialOutcome(TrialState.COMPLETE, [float(value)], rungs) if good else _failed(rungs)
        if not before:
            self._study.tell(number, outcome)
        state = "complete" if good else "failed"
        return FinishedTrial(
            number,
            candidate.id,
            candidate.params,
            state,
            float(value) if good else None,
            rungs=list(rungs.values()),
            before=before,
        )

    def _end(self, known: Known) -> None:
        """Tells the study of all candidates that were not trained fully."""
        places = {candidate.id: place for place, candidate in enumerate(self._candidates)}
        for trial in self._study.trials():
            if trial.state.is_finished():
                continue
            value = known.short[places[trial.user_attrs["candidate"]]]
            good = not math.isnan(value)
            outcome = TrialOutcome(TrialState.PRUNED, None, {0: float(value)}) if good else _failed({})
            self._study.tell(trial.number, outcome)


def _failed(rungs: dict[int, float]) -> TrialOutcome:
    return TrialOutcome(TrialState.FAIL, None, rungs)


def _value(score: MeanScore) -> float:
    if score.value is not None:
        return score.value
    return -math.inf if score.failure_kind == FailureKind.MINUS_INFINITY else math.nan


def _with(known: Known, column: str, chosen: Sequence[int], scores: Sequence[MeanScore]) -> Known:
    """``known`` with the results of a round; a failure is never trained again."""
    measured = getattr(known, column).copy()
    measured[list(chosen)] = [math.nan if score.value is None else score.value for score in scores]
    failed = known.failed | {one for one, score in zip(chosen, scores, strict=True) if score.value is None}
    return replace(known, **{column: measured}, failed=failed)
