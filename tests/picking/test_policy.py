"""Which candidate is trained next, and what a plan loses on made-up spaces."""

from dataclasses import replace

import numpy as np
import pytest

from nasproxy.core.errors import NasproxyError
from nasproxy.picking.columns import columns_of
from nasproxy.picking.policy import Known, belief, first_short, next_full, next_short
from nasproxy.picking.remaining import remaining
from nasproxy.picking.replay import Table, by_halving, by_hyperband, by_plan, by_random, by_score


def space(n=400, seed=0, sign=1.0, short=0.8):
    """A table whose size tells much of the accuracy (or the contrary), and whose short trainings tell more."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    free = {
        "params": sign * quality + 0.8 * rng.normal(size=n),
        "naswot": sign * quality + 0.8 * rng.normal(size=n),
        "zen": rng.normal(size=n),
    }
    measured = short * quality + (1 - short**2) ** 0.5 * rng.normal(size=n) if short else None
    accuracy = 90 + quality - 0.1 * quality**2 * (quality > 0)
    return Table(free, {"word": rng.choice(list("abc"), n).tolist()}, accuracy, measured, 2e-4, 0.06 if short else None)


def mean_regret(way, **kind):
    return np.mean([way(space(seed=seed, **kind), seed) for seed in range(25)])


def test_the_plan_loses_less_than_halving_random_candidates_and_the_best_score():
    plan = mean_regret(lambda table, seed: by_plan(table, 6, seed).regret)
    assert plan < 0.5 * min(
        mean_regret(lambda table, seed, num=num: by_halving(table, 6, num, seed)) for num in (1, 2, 3, 4)
    )
    assert plan < mean_regret(lambda table, seed: by_score(table, table.free["params"], 6, 1e-4, seed))
    assert plan < 0.3 * mean_regret(lambda table, seed: by_random(table, 6, seed))


@pytest.mark.parametrize("short", [0.8, 0])
def test_where_the_free_scores_mislead_the_plan_leaves_them(short):
    """The first by the vote are the worst of this space."""
    compute = 8 if short else 16
    plan = mean_regret(lambda table, seed: by_plan(table, compute, seed).regret, sign=-1.0, short=short)
    random = mean_regret(lambda table, seed: by_random(table, compute, seed), sign=-1.0, short=short)
    vote = mean_regret(
        lambda table, seed: by_score(table, table.columns().vote, compute, 0, seed), sign=-1.0, short=short
    )
    assert plan < random < vote


def test_hyperband_and_halving_spend_what_they_are_given():
    table = space()
    assert by_hyperband(table, 8, 0) >= 0
    assert by_halving(table, 2, 3, 0) is None
    assert by_halving(table, 3, 3, 0) == by_random(table, 3, 0)
    with pytest.raises(NasproxyError, match="needs short trainings"):
        by_halving(space(short=0), 4, 1, 0)
    with pytest.raises(NasproxyError, match="needs short trainings"):
        by_hyperband(space(short=0), 4, 0)


def known_of(table, shortly=(), fully=()):
    known = Known.nothing(table.columns())
    short, full = known.short.copy(), known.full.copy()
    short[list(shortly)] = 0.5 if table.short is None else table.short[list(shortly)]
    full[list(fully)] = table.full[list(fully)]
    return replace(known, short=short, full=full)


def test_the_first_round_has_random_candidates_and_the_first_of_every_score():
    columns = space().columns()
    chosen = first_short(columns, 30, 0)
    assert len(chosen) == len(set(chosen)) == 18
    for expert in (columns.vote, *columns.experts):
        assert int(np.argmax(expert)) in chosen
    assert chosen == first_short(columns, 30, 0)
    assert chosen[:6] != first_short(columns, 30, 1)[:6]


def test_a_round_never_repeats_a_candidate_or_a_failure():
    table = space(60)
    known = replace(known_of(table, range(20)), failed=frozenset({20, 21}))
    new = next_short(known, 10)
    assert len(new) == 5
    assert not {*new} & {*range(22)}
    full = next_full(replace(known, failed=frozenset(range(50))), 20, 0)
    assert sorted(full) == list(range(50, 60))


def test_rounds_follow_from_what_is_known_alone():
    known = known_of(space(100), range(30), (3, 5, 7))
    assert next_full(known, 3, 0) == next_full(known, 3, 0)
    assert next_short(known, 8) == next_short(known, 8)


def test_without_short_trainings_every_fifth_full_training_is_random():
    table = space(100, short=0)
    known = known_of(table, (), range(4))
    drawn = {next_full(known, 1, seed)[0] for seed in range(12)}
    assert len(drawn) > 6
    assert len({next_full(known_of(table, (), range(3)), 1, seed)[0] for seed in range(12)}) == 1


def test_a_space_without_scores_or_parameters_can_be_searched():
    table = Table({}, {"word": ["a"] * 12}, np.arange(12.0))
    assert by_plan(table, 5, 0).regret >= 0


def test_the_belief_has_the_unit_of_the_accuracies():
    table = space(200)
    now = belief(known_of(table, range(60), range(0, 60, 5)))
    assert np.corrcoef(now.mean, table.full)[0, 1] > 0.7
    assert np.abs(now.mean - table.full).mean() < 1.5
    assert (now.opinions[0].unsure[:60] == 0).all()
    assert (now.opinions[0].unsure[60:] > 0).all()
    assert not belief(known_of(table, range(60))).has_model


def test_the_full_accuracies_say_whether_short_trainings_are_worth_something():
    trusts = []
    for short in (0.95, -0.5):  # the best of short trainings are the best, or the worst
        table = space(200, short=short)
        table = replace(table, free={name: column * (short < 0) for name, column in table.free.items()})
        now = belief(known_of(table, range(60), range(0, 60, 3)))
        trusts.append(now.trust)
        assert sum(now.weights) == pytest.approx(1)
    assert trusts[0] > 0.9
    assert trusts[1] < 0.3
    assert belief(known_of(table, (), range(5))).trust is None
    assert belief(known_of(table, range(60), ())).trust is None


def test_the_first_full_trainings_try_short_trainings_and_free_scores():
    table = space(200)
    known = known_of(table, range(60))
    both = belief(known).opinions
    first, second = next_full(known, 2, 0)
    assert first == np.argmax(both[0].worth)
    assert second == np.argmax(np.where(np.arange(200) == first, -np.inf, both[1].worth))


def test_what_is_left_is_a_probability_and_grows_with_the_rest():
    table = space(300)
    best = int(np.argmax(table.full))
    without = [one for one in range(60) if one != best]
    some = remaining(known_of(table, range(60), without[:12]), margin=0.1)
    assert 0 <= some.better <= 1
    assert 0 <= some.low <= some.expected <= some.high
    all_but = remaining(
        known_of(table, range(300), [*[one for one in range(300) if one != best][:250], best]), margin=0.1
    )
    assert all_but.better < some.better
    assert remaining(known_of(table, range(60), range(3))) is None


@pytest.mark.slow
def test_the_probability_that_something_better_is_left_is_about_right():
    believed, true = [], []
    for seed in range(40):
        replayed = by_plan(space(150, seed=seed), 8, seed, margin=0.15)
        if replayed.remaining is not None:
            believed.append(replayed.remaining.better)
            true.append(replayed.regret > 0.15)
    assert len(believed) > 30
    assert abs(np.mean(believed) - np.mean(true)) < 0.3


def test_columns_are_needed_for_each_candidate():
    with pytest.raises(NasproxyError):
        columns_of({"params": np.ones(3)}, {"a": [1, 2]})
