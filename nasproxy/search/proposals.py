"""The samplers, which propose candidates. A search proposes the same candidates with any number of workers.

An Optuna sampler reads all trials that it can see, and with several workers that depends on which one was faster. Here
proposal k sees the values of the trials before k − ``pending`` + 1, and of the later ones only that they are running.
So a search is repeatable with any number of workers or hosts, interrupted or not. The price is a delay: a sampler that
learns does so ``pending`` trials late.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import optuna
from optuna import samplers
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasproxy.core.errors import unknown
from nasproxy.core.randomness import derive_seed
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection

# After so many proposals in a row without a new candidate, one is drawn from those without an answer.
MAX_REPEATS = 20

# Spaces of at most so many assignments are walked through in a random order; larger ones are drawn from.
MAX_WALK = 10_000_000
MAX_DRAWS = 100_000


class SpaceExhausted(Exception):
    """Every valid candidate of the space was proposed."""


def directions(num_against: int) -> list[StudyDirection]:
    """A study's: its first value is maximised, the others are minimised."""
    return [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * num_against]


def make_sampler(name: str, seed: int) -> samplers.BaseSampler:
    """The Optuna sampler called ``name`` (see ``SAMPLERS`` in config.py), drawing from ``seed``."""
    seed = seed % 2**32
    table: dict[str, Callable[[], samplers.BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
        "gp": lambda: samplers.GPSampler(seed=seed, deterministic_objective=True),
        "brute-force": lambda: samplers.RandomSampler(seed=seed),  # never asked: see Proposer
    }
    if name not in table:
        raise unknown("sampler", name, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks some samplers experimental; the choice is the user's
        return table[name]()


class Proposer:
    """Proposes the next trial of a study from the trials it has.

    It keeps a copy of the study in memory, where the sampler sees what it may know. Candidates that ``inspection``
    found impossible are proposed as pruned trials with a "reason", for the sampler to learn from. The first value of an
    answer is maximised, ``num_against`` more are minimised.
    """

    def __init__(
        self,
        space: SearchSpace,
        inspection: SpaceInspection,
        *,
        sampler: str,
        seed: int,
        pending: int,
        num_against: int = 0,
    ) -> None:
        self.space = space
        self.inspection = inspection
        self.sampler = sampler
        self.seed = seed
        self.pending = pending
        self.known: set[str] = set()  # every valid candidate that was proposed
        self._repeats = 0  # proposals since the last new candidate
        self._storage = optuna.storages.InMemoryStorage()
        self._copy = optuna.create_study(
            storage=self._storage,
            study_name="copy",
            directions=directions(num_against),
            sampler=make_sampler(sampler, 0),
        )
        self._added = 0  # trials in the copy
        self._told = 0  # of them, those whose answers the sampler may know
        self._walk: np.ndarray | None = None
        self._place = 0  # in the walk

    def propose(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A trial to be added to the study: RUNNING, or PRUNED with the reason. None: an answer must come first.

        ``trials`` are all of the study's, by number; those that are RUNNING have no answer yet. A trial's attribute
        "candidate" is the candidate's id.

        Raises:
            SpaceExhausted: when no valid candidate is left that was not proposed.
        """
        self.catch_up(trials)
        if not self._tell_up_to(len(trials), trials):
            return None
        self._copy.sampler = make_sampler(self.sampler, derive_seed(self.seed, "sampler", len(trials)))
        if self.sampler == "brute-force" or self._repeats >= MAX_REPEATS:
            self._copy.enqueue_trial(dict(self._unseen(len(trials)).params))
        asked = self._copy.ask()
        candidate = self.space.suggest(asked)
        reason = self.inspection.reason(candidate)
        asked.set_user_attr("candidate", candidate.id)
        if reason is not None:
            asked.set_user_attr("reason", reason)
            self._copy.tell(asked, state=TrialState.PRUNED)
        self._added += 1
        template = deepcopy(self._copy.get_trials(deepcopy=False)[-1])  # its number is the study's next
        self._note(template)
        return template

    def catch_up(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes over trials that this object did not propose: of an interrupted search, or of another host."""
        for number in range(self._added, len(trials)):
            trial = trials[number]
            self._tell_up_to(number, trials)
            sampler = self._copy.sampler
            if isinstance(sampler, samplers.BaseGASampler):
                # It selects parents once per generation, from what it knows at that moment.
                sampler.get_parent_population(self._copy, sampler.get_trial_generation(self._copy, trial))
            self._copy.add_trial(
                create_trial(
                    state=TrialState.PRUNED if "reason" in trial.user_attrs else TrialState.RUNNING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=trial.user_attrs,
                    system_attrs=trial.system_attrs,
                )
            )
            self._added += 1
            self._note(trial)

    def _tell_up_to(self, number: int, trials: Sequence[FrozenTrial]) -> bool:
        """Tells the copy what proposal ``number`` may know; False when one of these answers is missing."""
        while self._told < number - self.pending + 1:
            trial = trials[self._told]
            if not trial.state.is_finished():
                return False
            if "reason" not in trial.user_attrs:
                for step, value in trial.intermediate_values.items():
                    self._storage.set_trial_intermediate_value(self._trial_id(self._told), step, value)
                values = trial.values if trial.state == TrialState.COMPLETE else None
                self._copy.tell(self._told, values, state=trial.state)
            self._told += 1
        return True

    def _trial_id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name("copy")
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _note(self, trial: FrozenTrial) -> None:
        identity = trial.user_attrs["candidate"]
        new = "reason" not in trial.user_attrs and identity not in self.known
        self._repeats = 0 if new else self._repeats + 1
        if new:
            self.known.add(identity)

    def _unseen(self, number: int) -> Candidate:
        """A valid candidate that was not proposed yet, uniform among those."""
        size = self.space.size()
        if size is None or size > MAX_WALK:
            rng = np.random.default_rng(derive_seed(self.seed, "unseen", number))
            for _ in range(MAX_DRAWS):
                candidate = self.inspection.sample(rng)
                if candidate.id not in self.known:
                    return candidate
            raise SpaceExhausted
        if self._walk is None:
            self._walk = np.random.default_rng(derive_seed(self.seed, "walk")).permutation(size)
        while self._place < size:
            candidate = self.space.at(int(self._walk[self._place]))
            if candidate.id not in self.known and self.inspection.reason(candidate) is None:
                return candidate
            self._place += 1
        raise SpaceExhausted
