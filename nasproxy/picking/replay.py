"""Ways of picking, replayed on a table of candidates whose accuracies are known: what each would have lost, for what.

Every way starts from nothing, pays for what it looks at, and picks the candidate with the best full accuracy among
those that it trained fully. Its *regret* is the best full accuracy of the table minus that of its pick.

References: [H] Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS
2016 · [B] Li et al., "Hyperband", JMLR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.picking.columns import Columns, columns_of
from nasproxy.picking.plan import PickPlan, plan_pick
from nasproxy.picking.policy import Known, first_short, next_full, next_short
from nasproxy.picking.remaining import Remaining, remaining


@dataclass(frozen=True)
class Table:
    """Recorded candidates.

    Args:
        free: scores that train nothing, by name ``(n,)``; NaN where one failed.
        parameters: the parameters of the space by name, n values each.
        full: ``(n,)``, accuracy after full training.
        short: ``(n,)``, accuracy after a short training, or None.
        cost_scored: of all free scores of a candidate, in full trainings.
        cost_short: of a short training, in full trainings.
    """

    free: Mapping[str, np.ndarray]
    parameters: Mapping[str, Sequence[object]]
    full: np.ndarray
    short: np.ndarray | None = None
    cost_scored: float = 0.0
    cost_short: float | None = None

    def __len__(self) -> int:
        return len(self.full)

    def take(self, index: np.ndarray) -> Table:
        """The candidates ``index`` alone."""
        return replace(
            self,
            free={name: column[index] for name, column in self.free.items()},
            parameters={name: [values[one] for one in index] for name, values in self.parameters.items()},
            full=self.full[index],
            short=None if self.short is None else self.short[index],
        )

    def drawn(self, num: int, seed: int) -> Table:
        """``num`` of its candidates, drawn at random."""
        return self.take(np.sort(np.random.default_rng([seed, 7]).permutation(len(self))[:num]))

    def columns(self) -> Columns:
        return columns_of(self.free, self.parameters)

    def regret(self, chosen: Sequence[int]) -> float:
        """Of the best of the candidates ``chosen``; the whole range of the table when none was chosen."""
        return float(self.full.max() - (self.full[list(chosen)].max() if len(chosen) else self.full.min()))


@dataclass(frozen=True)
class Replayed:
    """How a plan went: what it spent, its regret, and what it believed to be left."""

    plan: PickPlan
    regret: float
    remaining: Remaining | None


def by_plan(table: Table, compute: float, seed: int, *, margin: float | None = None) -> Replayed:
    """The way of :mod:`nasproxy.picking.policy`, for ``compute`` full trainings.

    Args:
        margin: what the belief about the rest is asked for; None: it is not asked.
    """
    plan = plan_pick(compute, len(table), table.cost_scored, None if table.short is None else table.cost_short)
    scored = np.sort(np.random.default_rng([seed, 1]).permutation(len(table))[: plan.scored])
    own = table.take(scored)
    known = Known.nothing(own.columns())
    if plan.short and own.short is not None:
        measured = known.short.copy()
        waiting = first_short(known.columns, plan.short, seed)
        left = plan.short
        while waiting:
            measured[waiting] = own.short[waiting]
            known = replace(known, short=measured.copy())
            left -= len(waiting)
            waiting = next_short(known, left) if left else []
    while (left := plan.full - len(known.fully)) > 0:
        chosen = next_full(known, min(left, plan.round_size), seed)
        if not chosen:
            break
        full = known.full.copy()
        full[chosen] = own.full[chosen]
        known = replace(known, full=full)
    lost = table.regret(scored[known.fully].tolist())
    return Replayed(plan, lost, None if margin is None else remaining(known, margin=margin, seed=seed))


def by_score(table: Table, order: np.ndarray, compute: float, cost_scored: float, seed: int) -> float:
    """The regret of training what a score ``(n,)`` ranks first; scoring costs ``cost_scored`` for each candidate.

    As many candidates are scored, drawn at random, as a tenth of the compute allows, like in the plan.
    """
    plan = plan_pick(compute, len(table), cost_scored, None)
    scored = np.random.default_rng([seed, 1]).permutation(len(table))[: plan.scored]
    ties = np.random.default_rng([seed, 2]).random(len(scored))
    first = scored[np.lexsort((ties, -order[scored]))]
    return table.regret(first[: plan.full].tolist())


def by_random(table: Table, compute: float, seed: int) -> float:
    """The regret of training random candidates."""
    return table.regret(np.random.default_rng([seed, 3]).permutation(len(table))[: int(compute)].tolist())


def by_halving(table: Table, compute: float, num_full: int, seed: int) -> float | None:
    """The regret of successive halving [H] with two rungs: short trainings of random candidates, the best fully.

    Args:
        num_full: full trainings; the rest of the compute goes into short ones.

    Returns:
        None where the compute does not suffice for ``num_full``.

    Raises:
        NasproxyError: for a table without short trainings.
    """
    if table.short is None or not table.cost_short:
        raise NasproxyError("Halving needs short trainings, but the table has none: give their column and cost.")
    num_short = min(len(table), int((compute - num_full) / table.cost_short + 1e-9))
    if num_full > compute or num_full < 1:
        return None
    order = np.random.default_rng([seed, 3]).permutation(len(table))
    if num_short < num_full:  # nothing is left to choose among
        return table.regret(order[:num_full].tolist())
    tried = order[:num_short]
    return table.regret(tried[np.argsort(-table.short[tried], kind="stable")[:num_full]].tolist())


def by_hyperband(table: Table, compute: float, seed: int, *, reduction: int = 3) -> float | None:
    """The regret of Hyperband [B]: brackets of equal cost, from many short trainings with few survivors to none short.

    With two lengths of training, a bracket keeps the best ``1 / reduction^s`` of its short trainings.

    Raises:
        NasproxyError: for a table without short trainings.
    """
    if table.short is None or not table.cost_short:
        raise NasproxyError("Hyperband needs short trainings, but the table has none: give their column and cost.")
    deepest = max(1, round(np.log(1 / table.cost_short) / np.log(reduction)))
    order = np.random.default_rng([seed, 3]).permutation(len(table)).tolist()
    chosen: list[int] = []
    left, place = compute, 0
    levels = [*range(deepest, -1, -1)]
    while left >= 1:
        started = False
        for level in levels:
            share = min(left, max(1.0, compute / len(levels)))
            keep = reduction**level
            num_full = max(1, int(share / (1 + keep * table.cost_short))) if level else int(share)
            num_short = num_full * keep if level else 0
            cost = num_full + num_short * table.cost_short
            if cost > left + 1e-9 or num_full < 1:
                continue
            started = True
            tried = np.array([order[(place + one) % len(order)] for one in range(max(num_short, num_full))])
            place += len(tried)
            best = tried[np.argsort(-table.short[tried], kind="stable")] if level else tried
            chosen += best[:num_full].tolist()
            left -= cost
        if not started:
            break
    return table.regret(chosen) if chosen else None
