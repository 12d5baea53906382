"""A search that spends a stated compute."""

import ast
import math
from dataclasses import replace

import faults
import numpy as np
import optuna
import pytest
from faults import COMPUTE_FULL, COMPUTE_SHORT, start, trials_of
from optuna.trial import TrialState
from toy import toy_dataset

from nasproxy.config import ComputeConfig
from nasproxy.core.devices import choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.picking.plan import plan_pick
from nasproxy.search import compute_plan
from nasproxy.search.compute_plan import FREE_SCORES, ComputePlan, plan_compute
from nasproxy.search.search_plan import TimePerImage
from nasproxy.training import tasks
from nasproxy.training.results import FailureKind, failed_fit


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return faults.parts(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    return run, faults.spend(parts, run)


def seen(trials):
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials]


def test_it_trains_what_the_plan_says(whole):
    _, found = whole
    assert len(found.candidates) == 20
    assert (~np.isnan(found.short)).sum() == COMPUTE_SHORT
    assert (~np.isnan(found.full)).sum() == len(found.order) == COMPUTE_FULL
    assert set(found.free) == set(FREE_SCORES)
    assert found.pick == np.nanargmax(found.full)
    assert 0 <= found.test.value <= 1
    assert 0 <= found.remaining.better <= 1
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_the_study_has_a_trial_for_everything_that_was_trained(whole):
    run, found = whole
    trials = trials_of(run)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    assert sorted(t.value for t in complete) == sorted(found.full[~np.isnan(found.full)])
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert all(t.intermediate_values.keys() == {0} for t in pruned)
    assert len({str(t.params) for t in trials}) == len(trials)
    best = optuna.load_study(study_name="tiny", storage=f"sqlite:///{run / 'study.sqlite'}").best_trial
    assert best.value == found.full[found.pick]


def test_the_same_call_again_trains_nothing(parts, whole, monkeypatch):
    run, found = whole

    def no_plan():
        raise AssertionError("a plan is made once")

    monkeypatch.setattr(tasks, "train_candidate", lambda *a, **k: pytest.fail("trained again"))
    again = faults.spend(parts, run, plan=no_plan)
    assert again.order == found.order
    assert again.pick == found.pick
    assert again.test.value == found.test.value
    assert again.remaining == found.remaining


def test_another_compute_in_the_same_folder_is_refused(parts, whole):
    run, _ = whole
    with pytest.raises(NasproxyError, match="another seed"):
        faults.spend(parts, run, seed=1)


@pytest.mark.slow
def test_another_seed_draws_other_candidates(parts, whole, tmp_path):
    found = faults.spend(parts, tmp_path, seed=1)
    assert {one.id for one in found.candidates} != {one.id for one in whole[1].candidates}


def test_a_training_that_fails_is_counted_and_not_picked(parts, tmp_path, monkeypatch):
    real = tasks.train_candidate

    def failing(build, train, held_out, recipe, **named):
        if recipe.epochs == 4 and build.args[0]["activation"] == "relu":
            return failed_fit(FailureKind.DIVERGED, "diverged: for the test", 0.1)
        return real(build, train, held_out, recipe, **named)

    monkeypatch.setattr(tasks, "train_candidate", failing)
    found = faults.spend(parts, tmp_path)
    assert len(found.order) == COMPUTE_FULL
    bad = [one for one in found.order if found.candidates[one].params["activation"] == "relu"]
    assert bad
    assert all(math.isnan(found.full[one]) for one in bad)
    assert all(found.failures[one] == "diverged: for the test" for one in bad)
    states = [t.state for t in trials_of(tmp_path)]
    assert states.count(TrialState.FAIL) == len(bad)


@pytest.mark.slow
def test_when_every_training_fails_there_is_no_pick(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tasks, "train_candidate", lambda *a, **k: failed_fit(FailureKind.DIVERGED, "diverged: for the test", 0.1)
    )
    found = faults.spend(parts, tmp_path)
    assert found.pick is None
    assert found.test is None
    assert found.remaining is None


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_changes_nothing(whole, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start("killed-spend", run, log, 0)
    assert process.wait(300) == 0
    process.stdout.close()
    assert seen(trials_of(run)) == seen(trials_of(whole[0]))
    begun, interrupted = {}, set()
    for line in log.read_text().splitlines():
        kind, number, rest = line.split(" ", 2)
        if kind == "known":
            known = ast.literal_eval(rest.split(" ", 1)[1])
        else:
            begun.setdefault(number, []).append(rest)
            interrupted.add(rest)
    assert len(begun) > 1, "nothing was interrupted: the kills say nothing"
    # Short, full and test trainings of one candidate are three; more were interrupted ones.
    assert len(known) <= COMPUTE_SHORT + COMPUTE_FULL + 1


# ------------------------------------------------------------------------------------------------------------- the plan


def timed(monkeypatch, seconds=1e-3, scored=0.01):
    monkeypatch.setattr(compute_plan, "time_per_image", lambda *a: TimePerImage((1.0, 1e9), (seconds, seconds)))
    monkeypatch.setattr(compute_plan, "_seconds_scored", lambda *a: scored)


def plan(parts, monkeypatch, **settings):
    timed(monkeypatch)
    return plan_compute(parts[2], toy_dataset(), ComputeConfig(**settings), choose_device("cpu"))


def test_costs_follow_from_the_measured_seconds(parts, monkeypatch):
    found = plan(parts, monkeypatch, compute=10, epochs=32)
    full = 1e-3 * (32 * 120 + 60 / 3)
    assert found.seconds_full == pytest.approx(full)
    assert found.short_epochs == 2
    assert found.seconds_short == pytest.approx(1e-3 * (2 * 120 + 60 / 3))
    expected = plan_pick(10, parts[2].num_valid, found.seconds_scored / full, found.seconds_short / full)
    assert (found.pick.scored, found.pick.short, found.pick.full) == (expected.scored, expected.short, expected.full)
    assert found.seconds == pytest.approx(sum(found.parts.values()))


def test_hours_buy_what_they_allow_with_the_test_training(parts, monkeypatch):
    found = plan(parts, monkeypatch, hours=1 / 60, epochs=32)
    assert found.seconds <= 60
    assert found.seconds > 40


def test_hours_make_full_training_longer(parts, monkeypatch):
    short, long = (plan(parts, monkeypatch, hours=hours) for hours in (0.001, 1.0))
    assert long.epochs > short.epochs


def test_a_plan_is_read_as_it_was_written(parts, monkeypatch):
    found = plan(parts, monkeypatch, compute=3)
    assert ComputePlan.from_json(found.as_json()) == found


def test_less_time_than_two_trainings_is_refused(parts, monkeypatch):
    with pytest.raises(NasproxyError, match="two full trainings"):
        plan(parts, monkeypatch, hours=1e-4, epochs=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Exactly one of --compute and --hours"),
        ({"compute": 2, "hours": 1}, "Exactly one of --compute and --hours"),
        ({"compute": 0.5}, "compute >= 1"),
        ({"hours": 0}, "hours > 0"),
        ({"hours": float("nan")}, "hours > 0"),
        ({"compute": 2, "epochs": 0}, "epochs >= 1"),
        ({"compute": 2, "precision": "half"}, "Unknown precision"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(NasproxyError, match=message):
        ComputeConfig(**settings)


def test_very_large_and_infinite_compute_is_bounded_by_the_space(parts, monkeypatch):
    found = plan(parts, monkeypatch, compute=1e6, epochs=2)
    assert found.pick.full == parts[2].num_valid
    assert replace(found.pick, compute=0).cost > 0
