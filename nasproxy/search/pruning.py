"""Early stopping: a candidate passes rungs of cheap scores, and only the best of a rung continue to the next one.

The decision is made by one of Optuna's pruners, which looks at all trials that it can see; with several workers that
depends on which was faster. Here a candidate is compared with those whose answers were known when it was proposed, so
that a search with rungs is as repeatable as one without (see proposals.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import optuna
from optuna import pruners
from optuna.trial import FrozenTrial, TrialState

from nasproxy.core.errors import unknown


def make_pruner(name: str, reduction: int) -> pruners.BasePruner:
    """The Optuna pruner called ``name`` (see ``PRUNERS`` in config.py)."""
    table: dict[str, Callable[[], pruners.BasePruner]] = {
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction),
        "median": lambda: pruners.MedianPruner(n_startup_trials=reduction, n_warmup_steps=0),
    }
    if name not in table:
        raise unknown("pruner", name, table)
    return table[name]()


class Pruner:
    """Decides at every rung whether a candidate trains further. Higher values are better.

    "halving": when its value is among the best ``1 / reduction`` of the rung's. "median": when it is not below the
    median of the candidates that finished; at least ``reduction`` must have finished.
    """

    def __init__(self, name: str, reduction: int) -> None:
        self._pruner = make_pruner(name, reduction)
        self._reduction = reduction
        self._seen: dict[int, FrozenTrial] = {}

    def step(self, rung: int) -> int:
        """Under which step Optuna knows ``rung``, from 0: the resource of successive halving."""
        return self._reduction**rung

    def ends(self, values: Sequence[float], known: Sequence[FrozenTrial]) -> bool:
        """Whether a candidate with these ``values`` at its first rungs is stopped; ``known``: the finished trials."""
        view = optuna.create_study(
            direction="maximize", pruner=self._pruner, sampler=optuna.samplers.RandomSampler(seed=0)
        )
        others = [self._as_completed(trial) for trial in known if trial.intermediate_values]

        def get_trials(
            deepcopy: bool = True, states: tuple[TrialState, ...] | None = None, **_: object
        ) -> list[FrozenTrial]:
            return [trial for trial in others if states is None or trial.state in states]

        trial = view.ask()
        view.get_trials = get_trials  # type: ignore[method-assign,assignment]
        for rung, value in enumerate(values):
            trial.report(value, self.step(rung))
            if trial.should_prune():
                return True
        return False

    def _as_completed(self, trial: FrozenTrial) -> FrozenTrial:
        """``trial`` with the marks that Optuna's successive halving looks for: it sets them itself while it prunes."""
        if trial.number not in self._seen:
            marked = copy(trial)
            values = [value for _, value in sorted(trial.intermediate_values.items())]
            marked.system_attrs = {f"completed_rung_{rung}": value for rung, value in enumerate(values)}
            self._seen[trial.number] = marked
        return self._seen[trial.number]
