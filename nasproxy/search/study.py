"""The Optuna study of one search, in SQLite in the run's folder or in a PostgreSQL database that hosts share.

A trial is written at once, complete with its parameters, and told once, by whoever sees all its scores first. It can be
opened with optuna-dashboard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial

from nasproxy.config import SearchConfig, config_hash
from nasproxy.core.errors import NasproxyError
from nasproxy.search.objective import Objective
from nasproxy.search.proposals import directions
from nasproxy.search.trial_runner import TrialOutcome
from nasproxy.spaces import SearchSpace
from nasproxy.training.ledger import Ledger

STUDY_FILE = "study.sqlite"
FORMAT = 3  # of a study


def default_pending(workers: int, trials: int) -> int:
    """How many candidates are trained at the same time: enough that one slow candidate does not leave workers idle.

    It is a fifth of the trials, but at least 4 and at most 16. So the proposals are the same with one worker or
    with four. It is more only when there are more workers.
    """
    return max(workers, 4, min(16, trials // 5))


class Study:
    """Its trials by number.

    Args:
        more: further settings that cannot change while it runs.

    Raises:
        NasproxyError: when the run holds a study of something else.
    """

    def __init__(
        self,
        run: Path,
        space: SearchSpace,
        objective: Objective,
        config: SearchConfig,
        ledger: Ledger,
        *,
        workers: int = 1,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        identity: dict[str, Any] = {
            "format": FORMAT,
            "space": space.hash,
            "objective": objective.identity(),
            "sampler": config.sampler,
            "seeds": config.seeds,
            "seed": config.seed,
        }
        identity |= more or {}
        if objective.rungs:
            identity |= {"pruner": config.pruner, "reduction": config.reduction}
        self.ledger = ledger
        self._trials: list[FrozenTrial] | None = None
        if ledger.local:
            name, url = space.name, f"sqlite:///{run / STUDY_FILE}"
        else:
            name, url = f"{space.name}-{config_hash(identity)[:12]}", ledger.url
        self.name = name
        with ledger.exclusive(f"study {name}"):  # Optuna's schema, too, is written by one process
            self._storage = ledger.patiently(
                lambda: optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            )
            self._study = ledger.patiently(
                lambda: optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    directions=directions(len(objective.against)),
                    load_if_exists=True,
                    sampler=optuna.samplers.RandomSampler(),  # asked nothing: see proposals.py
                )
            )
            known = ledger.patiently(lambda: self._study.user_attrs)
            if "identity" not in known:
                pending = config.pending or default_pending(workers, config.trials)
                for key, value in {"pending": pending, "identity": identity}.items():  # with the last it has begun
                    ledger.patiently(partial(self._study.set_user_attr, key, value))
                known = ledger.patiently(lambda: self._study.user_attrs)
        changed = [key for key in identity if known["identity"].get(key) != identity[key]]
        if changed:
            raise NasproxyError(
                f"The run '{run}' was started with another {', '.join(changed)}: its trials cannot be mixed. "
                "Choose another --out, or --fork this one."
            )
        self.pending = int(known["pending"])
        if config.pending not in (None, self.pending):
            raise NasproxyError(
                f"The run '{run}' was started with --pending {self.pending}, on which its proposals depend, but got "
                f"{config.pending}: leave it out, or choose another --out."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def keep(self, name: str, make: Callable[[], Any]) -> tuple[Any, bool]:
        """The JSON value that is kept with the study under ``name``, and whether it is new.

        Args:
            make: makes the value, for whoever asks first; all others get the same.
        """
        with self.ledger.exclusive(f"keep {name} of {self.name}"):
            known = self.ledger.patiently(lambda: self._study.user_attrs)
            if name in known:
                return known[name], False
            value = make()
            self.ledger.patiently(lambda: self._study.set_user_attr(name, value))
            return value, True

    def trials(self) -> list[FrozenTrial]:
        """All of them, by number. Of a file, which has one writer, they are read once."""
        if self.ledger.local and self._trials is not None:
            return self._trials
        trials = self.ledger.patiently(lambda: self._study.get_trials(deepcopy=False))
        self._trials = list(trials)
        for trial in trials:
            if "candidate" not in trial.user_attrs:
                raise NasproxyError(
                    f"Trial {trial.number} of the study '{self.name}' was not written by nasproxy, and what is "
                    "proposed depends on all trials: start a new run."
                )
        return trials

    def add(self, trial: FrozenTrial) -> None:
        """Appends ``trial``, whose number is the next one."""
        tried = False

        def write() -> None:
            nonlocal tried
            # A lost connection may hide that it was written.
            if not tried or len(self._study.get_trials(deepcopy=False)) == trial.number:
                tried = True
                self._study.add_trial(trial)

        self.ledger.patiently(write)
        if self._trials is not None:
            self._trials.append(trial)

    def tell(self, number: int, answer: TrialOutcome) -> None:
        """The answer to trial ``number``. Whoever sees all its scores tells it."""

        def write() -> None:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another host told the same just now
                for step, value in answer.rungs.items():
                    self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)
                self._study.tell(number, answer.values, state=answer.state, skip_if_finished=True)

        self.ledger.patiently(write)
        if self._trials is not None:
            told = copy(self._trials[number])
            told.state, told.intermediate_values = answer.state, dict(answer.rungs)
            told.values = None if answer.values is None else list(answer.values)
            self._trials[number] = told

    def _trial_id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)
