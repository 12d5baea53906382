import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.cli.commands.search import recipe_hint, sets_text
from nasproxy.config import RECIPES, SAMPLERS, SearchConfig
from nasproxy.core.devices import choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.loop import run_search
from nasproxy.search.objective import make_objective
from nasproxy.search.run_folder import run_lock
from nasproxy.spaces import inspect_space, load_space
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.processes import Processes
from nasproxy.training.session import Session

CPU = torch.device("cpu")

SPACE = """
name: tiny
network: convnet
parameters:
  width: [4, 8]
  depth: [1, 2, 4]        # four poolings of 8×8 leave nothing
  activation: [relu, sigmoid]
  pooling: [avg]
"""


@pytest.fixture
def parts(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE)
    space = load_space(path)
    dataset = toy_dataset()
    proxy = toy_proxy(dataset, epochs=2)
    task = proxy_task(proxy, dataset)
    return space, task, inspect_space(space, dataset.input_shape, dataset.num_classes)


def search(parts, run, *, crew=None, **settings):
    _, task, inspection = parts
    config = SearchConfig(**settings)
    asked = {"score", "against", "rungs"} & settings.keys()
    dataset = toy_dataset()
    ledger = Ledger(run / "evaluations.sqlite")
    try:
        objective = make_objective(config, toy_proxy(dataset, ipc=3, epochs=4), dataset) if asked else task
        session = Session(run, ledger, crew or Inline(CPU), choose_device("cpu"))
        return run_search(inspection, objective, config, session)
    finally:
        ledger.close()


def study_of(run):
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{run / 'study.sqlite'}")


def proposals(run):
    """The parameters of every trial that was answered, in order."""
    return [trial.params for trial in study_of(run).trials if trial.state != optuna.trial.TrialState.FAIL]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_distinct_valid_candidates(parts, tmp_path, sampler):
    result = search(parts, tmp_path / "run", trials=6, sampler=sampler)
    assert len(result.ranking) == 6
    assert len({row.candidate.id for row in result.ranking}) == 6
    assert all(row.candidate.params["depth"] != 4 for row in result.ranking)


@pytest.mark.parametrize("sampler", ["tpe", "brute-force"])
def test_a_small_space_is_exhausted_and_the_search_ends(parts, tmp_path, sampler):
    result = search(parts, tmp_path / "run", trials=100, sampler=sampler)
    assert len(result.ranking) == 8


def test_ranking_is_by_accuracy_then_loss(parts, tmp_path):
    result = search(parts, tmp_path / "run", trials=8)
    keys = [(-row.score.value, row.score.loss) for row in result.ranking]
    assert keys == sorted(keys)
    assert sorted(accuracy for _, accuracy in result.history) == sorted(row.score.value for row in result.ranking)


def test_trials_is_a_total_and_more_go_on(parts, tmp_path):
    run = tmp_path / "run"
    first = search(parts, run, trials=3)
    count = len(study_of(run).trials)
    again = search(parts, run, trials=3)
    assert len(study_of(run).trials) == count
    assert again == first
    more = search(parts, run, trials=5)
    assert len(more.ranking) == 5
    assert more.history[:3] == first.history


def test_a_split_search_proposes_what_an_unsplit_one_does(parts, tmp_path):
    for trials in (2, 3, 6):
        search(parts, tmp_path / "split", trials=trials)
    search(parts, tmp_path / "whole", trials=6)
    assert proposals(tmp_path / "split") == proposals(tmp_path / "whole")


def test_seeds_are_averaged(parts, tmp_path):
    result = search(parts, tmp_path / "run", trials=2, seeds=3)
    assert all(row.score.num_seeds == 3 for row in result.ranking)
    assert any(row.score.std > 0 for row in result.ranking)


def test_invalid_candidates_are_told_as_pruned_and_not_counted(parts, tmp_path):
    result = search(parts, tmp_path / "run", trials=8)
    assert len(result.ranking) == 8
    trials = study_of(tmp_path / "run").trials
    pruned = [t for t in trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all("pooling" in t.user_attrs["reason"] for t in pruned)


def test_failures_have_reasons_and_are_not_repeated(parts, tmp_path, monkeypatch):
    from nasproxy.training import tasks as evaluations
    from nasproxy.training.results import FailureKind, failed_fit

    real, calls = evaluations.train_candidate, []

    def failing(build, *arguments, **named):
        calls.append(1)
        if len(calls) % 2:
            return failed_fit(FailureKind.DIVERGED, "diverged: the training loss became nan", 0.1)
        return real(build, *arguments, **named)

    monkeypatch.setattr(evaluations, "train_candidate", failing)
    result = search(parts, tmp_path / "run", trials=8)
    assert len(calls) == 8
    assert len(result.failed) == 4
    assert all("diverged" in row.score.failure for row in result.failed)
    assert len(result.ranking) == 4


def test_another_space_or_proxy_in_the_same_folder_is_refused(parts, tmp_path):
    search(parts, tmp_path / "run", trials=1)
    with pytest.raises(NasproxyError, match="another sampler"):
        search(parts, tmp_path / "run", trials=1, sampler="random")


def test_one_process_per_run(tmp_path):
    with run_lock(tmp_path / "run"):
        code = (
            "import sys; from pathlib import Path; from nasproxy.search.run_folder import run_lock\n"
            "with run_lock(Path(sys.argv[1])): pass"
        )
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert other.returncode != 0
    assert f"in use by another nasproxy process (process {os.getpid()} on " in other.stderr


def test_a_trial_left_running_is_trained_by_whoever_comes_next(parts, tmp_path):
    """As a process leaves it that ends between writing a trial and its answer."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    search(parts, whole, trials=6)
    search(parts, run, trials=3)
    study, full = study_of(run), study_of(whole).trials
    running = copy.deepcopy(full[len(study.trials)])
    running.state, running.values, running.datetime_complete = optuna.trial.TrialState.RUNNING, None, None
    study.add_trial(running)
    search(parts, run, trials=6)
    assert [trial.params for trial in study_of(run).trials] == [trial.params for trial in full]
    assert all(trial.state.is_finished() for trial in study_of(run).trials)


def test_a_trial_that_another_program_added_is_named(parts, tmp_path):
    search(parts, tmp_path / "run", trials=1)
    study_of(tmp_path / "run").ask()
    with pytest.raises(NasproxyError, match="was not written by nasproxy"):
        search(parts, tmp_path / "run", trials=3)


WIDER = SPACE.replace("[4, 8]", "{range: [2, 30]}")


@pytest.fixture
def wide(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(WIDER)
    space = load_space(path)
    return space, None, inspect_space(space, (1, 8, 8), 3)


def seen(run):
    """What two equal searches share: not times."""
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in study_of(run).trials]


def test_a_search_may_rank_by_a_score_without_training(wide, tmp_path):
    result = search(wide, tmp_path / "run", trials=12, score="params", sampler="random")
    assert len(result.ranking) == 12
    counts = [wide[2].counts(row.candidate).params for row in result.ranking]
    assert [row.score.value for row in result.ranking] == counts == sorted(counts, reverse=True)


def test_a_search_may_rank_by_a_vote(wide, tmp_path):
    result = search(wide, tmp_path / "run", trials=8, score="synflow+naswot-params", sampler="random")
    assert len(result.ranking) == 8
    assert all(-1 < row.score.value < 1 for row in result.ranking)
    again = search(wide, tmp_path / "run", trials=8, score="synflow+naswot-params", sampler="random")
    assert [row.score.value for row in again.ranking] == [row.score.value for row in result.ranking]
    with pytest.raises(NasproxyError, match="objective"):
        search(wide, tmp_path / "run", trials=8, score="synflow+naswot", sampler="random")


RUNGS = {"rungs": "naswot,ipc=1,epochs=2", "trials": 24, "reduction": 2}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_rungs_end_the_worse_and_the_same_whoever_trains_and_however_often_interrupted(wide, tmp_path, sampler):
    whole = search(wide, tmp_path / "whole", sampler=sampler, pending=4, **RUNGS)
    for trials in (3, 10, 24):
        split = search(wide, tmp_path / "split", sampler=sampler, pending=4, **(RUNGS | {"trials": trials}))
    with Processes(3, CPU) as crew:
        search(wide, tmp_path / "crew", sampler=sampler, pending=4, crew=crew, **RUNGS)
    assert seen(tmp_path / "whole") == seen(tmp_path / "split") == seen(tmp_path / "crew")
    assert len(whole.ranking) + len(whole.pruned) == 24
    assert len(whole.pruned) > 6
    assert split.seconds == pytest.approx(sum(row.seconds for row in rows_of(tmp_path / "split")))
    assert {len(trial.intermediate_values) for trial in study_of(tmp_path / "whole").trials} == {0, 1, 2, 3}


def rows_of(run):
    import sqlite3
    from contextlib import closing
    from types import SimpleNamespace

    with closing(sqlite3.connect(run / "evaluations.sqlite")) as connection:
        return [SimpleNamespace(seconds=s) for (s,) in connection.execute("SELECT seconds FROM evaluations")]


@pytest.mark.slow
def test_a_study_that_is_locked_at_the_start_is_waited_for(wide, tmp_path):
    import sqlite3
    import threading

    before = search(wide, tmp_path / "run", trials=3, score="params", sampler="random")
    connection = sqlite3.connect(tmp_path / "run" / "study.sqlite", check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(8, connection.rollback)
    timer.start()
    again = search(wide, tmp_path / "run", trials=3, score="params", sampler="random")
    timer.join()
    connection.close()
    assert [row.candidate.id for row in again.ranking] == [row.candidate.id for row in before.ranking]


def test_a_copy_ends_as_the_first_did_and_has_no_vote_at_a_rung(wide, tmp_path):
    """TPE proposes good candidates again and again; were each a vote, they would keep all others out."""
    result = search(wide, tmp_path / "run", sampler="tpe", pending=1, rungs="naswot", trials=24, reduction=2)
    trials = [trial for trial in study_of(tmp_path / "run").trials if "reason" not in trial.user_attrs]
    states, values = {}, []
    for trial in trials:
        candidate = trial.user_attrs["candidate"]
        if candidate in states:
            assert trial.state == states[candidate]
            continue
        states[candidate] = trial.state
        value = trial.intermediate_values[1]
        others = sorted([*values, value], reverse=True)  # successive halving by hand: the best half goes on
        goes_on = value >= others[max(0, len(others) // 2 - 1)]
        assert goes_on == (trial.state == optuna.trial.TrialState.COMPLETE)
        values.append(value)
    assert len(trials) > len(states) == 24, "nothing was proposed twice: the test says nothing"
    assert len(result.ranking) + len(result.pruned) == 24


def test_rungs_train_only_what_they_let_go_on(wide, tmp_path):
    result = search(wide, tmp_path / "run", sampler="random", **RUNGS)
    by_score = {}
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / "run" / "evaluations.sqlite")) as connection:
        for score, setting, count in connection.execute(
            "SELECT score, setting, COUNT(*) FROM evaluations GROUP BY score, setting"
        ):
            by_score.setdefault(score, []).append((count, setting))
    assert by_score["naswot"][0][0] == 24
    proxies = sorted(count for count, _ in by_score["proxy"])
    assert proxies[0] == len(result.ranking) < proxies[1] < proxies[2] < 24
    assert result.unpruned_seconds > 0


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_several_objectives_give_a_pareto_front(wide, tmp_path, sampler):
    result = search(wide, tmp_path / "run", trials=14, sampler=sampler, against="params,flops")
    assert len(result.ranking) == 14
    for row in result.ranking:
        counts = wide[2].counts(row.candidate)
        assert row.against == (counts.params, counts.flops)
    assert {row.candidate.id for row in result.front} == {
        trial.user_attrs["candidate"] for trial in study_of(tmp_path / "run").best_trials
    }
    search(wide, tmp_path / "split", trials=5, pending=4, sampler=sampler, against="params,flops")
    search(wide, tmp_path / "split", trials=14, pending=4, sampler=sampler, against="params,flops")
    assert seen(tmp_path / "split") == seen(tmp_path / "run")


@pytest.mark.slow
def test_latency_is_measured_alone(wide, tmp_path):
    with Processes(2, CPU) as crew:
        beside = []
        hand = crew._hand

        def watch(worker, job):
            beside.append((job.task.score, sum(other.job is not None for other in crew._workers)))
            hand(worker, job)

        crew._hand = watch
        result = search(wide, tmp_path / "run", trials=6, against="latency", sampler="random", crew=crew)
    assert all(row.against[0] > 0 for row in result.ranking)
    assert {others for score, others in beside if score == "latency"} == {0}


KILLED = """
import sys
from pathlib import Path
import torch
for folder in sys.argv[1].split(":"):
    sys.path.insert(0, folder)
import test_loop as t
class Folder:
    pass
folder = Path(sys.argv[2])
path = folder / "tiny.yaml"
path.write_text(t.SPACE)
space = t.load_space(path)
dataset = t.toy_dataset()
proxy = t.toy_proxy(dataset, epochs=2)
task = t.proxy_task(proxy, dataset)
parts = space, task, t.inspect_space(space, dataset.input_shape, dataset.num_classes)
print("ready", flush=True)
import nasproxy.training.tasks as e
real = e.train_candidate
def slow(*a, **k):
    import time
    result = real(*a, **k)
    time.sleep(0.3)
    return result
e.train_candidate = slow
t.search(parts, folder / "killed", trials=6)
"""


@pytest.mark.slow
def test_kill_9_loses_no_finished_trial_and_changes_nothing(parts, tmp_path):
    """Killed three times in the middle of a candidate, the search ends with the trials of an undisturbed one."""
    run = tmp_path / "killed"
    finished = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, f"{Path(__file__).parent}:{Path(__file__).parents[1]}", str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (run / "study.sqlite").exists():
            try:
                complete = len(study_of(run).get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
            except KeyError:  # a slow machine: killed between the making of the file and that of the study
                complete = 0
            assert complete >= finished
            finished = complete
    resumed = search(parts, run, trials=6)
    whole = search(parts, tmp_path / "whole", trials=6)
    assert [row.candidate for row in resumed.ranking] == [row.candidate for row in whole.ranking]
    assert resumed.history == whole.history
    states = {t.state for t in study_of(run).trials}
    assert optuna.trial.TrialState.RUNNING not in states


@pytest.mark.parametrize(
    ("sets", "seeds", "text"),
    [
        (3, 1, "candidates train on the first of 3; with --seeds 3 they train once on each"),
        (3, 2, "every seed of a candidate trains on another one; of 3 sets the first 2"),
        (3, 3, "every seed of a candidate trains on another one"),
        (3, 5, "every seed of a candidate trains on another one; after 3 from the first again"),
    ],
)
def test_which_sets_candidates_train_on_is_said(sets, seeds, text):
    assert sets_text(sets, seeds) == text


@pytest.mark.parametrize(
    ("recipe", "epochs", "said"),
    [
        ("dsa", 100, True),
        ("dsa", 400, False),
        ("published", 100, True),
        ("published", 101, False),
        ("one_cycle", 1, False),
    ],
)
def test_a_recipe_that_is_cut_short_is_told_of(recipe, epochs, said):
    hint = recipe_hint(RECIPES[recipe], epochs)
    assert (f"{RECIPES[recipe].epochs} epochs, of which {epochs} are trained" in hint) == said == bool(hint)
