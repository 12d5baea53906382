import io
import json
import sys
from dataclasses import replace

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import SearchConfig
from nasproxy.core.devices import choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.search.callbacks import (
    FinishedTrial,
    LiveTable,
    SearchProgress,
    all_callbacks,
    json_lines,
    make_tracker,
    tracker_names,
)
from nasproxy.search.loop import run_search
from nasproxy.search.objective import make_objective
from nasproxy.spaces import inspect_space, load_space
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.session import Session


def finished(number, score=0.5, state="complete", before=False, **more):
    return FinishedTrial(
        number, f"c{number}", {"width": number}, state, score if state == "complete" else None, before=before, **more
    )


class Recorder:
    def __init__(self):
        self.calls, self.closed = [], False

    def update(self, done, total, finished):
        self.calls.append((done, total, tuple(finished)))

    def close(self):
        self.closed = True

    @property
    def seen(self):
        return [one for _, _, found in self.calls for one in found]


def search(folder, watcher, **settings):
    space = load_space("convnet_small")
    dataset = toy_dataset()
    config = SearchConfig(**({"sampler": "random"} | settings))
    ledger = Ledger(folder / "evaluations.sqlite")
    try:
        inspection = inspect_space(space, dataset.input_shape, dataset.num_classes, max_candidates=1, sample=1)
        objective = make_objective(config, toy_proxy(dataset), dataset)
        session = Session(folder, ledger, Inline(torch.device("cpu")), choose_device("cpu"))
        return run_search(inspection, objective, config, session, callback=watcher)
    finally:
        ledger.close()


def test_every_answer_is_told_once_and_those_of_before_are_marked(tmp_path):
    first, second = Recorder(), Recorder()
    search(tmp_path, first, trials=5, score="params", rungs="naswot")
    result = search(tmp_path, second, trials=12, score="params", rungs="naswot")
    assert [one.number for one in second.seen if one.before] == [one.number for one in first.seen]
    numbers = [one.number for one in second.seen]
    assert sorted(set(numbers)) == sorted(numbers)
    assert second.calls[-1][:2] == (12, 12)
    states = [one.state for one in second.seen]
    assert states.count("complete") == len(result.ranking)
    assert states.count("pruned") == len(result.pruned) > 0
    assert all(len(one.rungs) == 1 for one in second.seen)
    assert {one.candidate: one.score for one in second.seen if one.state == "complete"} == {
        row.candidate.id: row.score.value for row in result.ranking
    }


def test_what_a_score_is_held_against_is_told_by_name(tmp_path):
    watcher = Recorder()
    search(tmp_path, watcher, trials=3, score="naswot", against="params,flops")
    assert all(set(one.against) == {"params", "flops"} for one in watcher.seen)


def test_the_tally_counts_and_estimates_from_what_is_fresh(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("nasproxy.search.callbacks.time.monotonic", lambda: clock[0])
    tally = SearchProgress()
    tally.add(4, 10, [finished(n, n / 10, before=True) for n in range(4)])
    assert tally.text() == "4 of 10 candidates"
    clock[0] += 120
    tally.add(8, 10, [finished(4, 0.9), finished(5, 0.05), finished(6, state="pruned"), finished(7, state="failed")])
    expected = "8 of 10 candidates, 2 per minute, about 60 s left, 1 pruned at a rung, 1 failed"
    assert tally.text() == expected
    tally.add(8, 10, [replace(finished(6, state="pruned"), number=number) for number in (8, 9)])  # copies
    assert tally.text() == expected
    assert [one.number for one in tally.best] == [4, 3, 2, 1, 5]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_best_in_place(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    table = LiveTable(lambda score: f"{100 * score:.1f} %", out)
    table.update(2, 9, [finished(1, 0.25, against={"latency": 0.001}), finished(2, 0.75, against={"latency": 0.0025})])
    table.close()
    text = out.getvalue()
    assert text.index("75.0 %") < text.index("25.0 %")
    assert "latency" in text
    assert "width=2" in text
    assert "searching: 2 of 9 candidates" in text.rstrip().splitlines()[-1]


def test_a_log_has_a_line_at_the_end():
    out = io.StringIO()
    table = LiveTable(lambda score: f"{score:.2f}", out)
    table.update(1, 2, [finished(1, 0.25)])
    table.update(2, 2, [finished(2, 0.75)])
    table.close()
    (line,) = out.getvalue().splitlines()
    assert line.startswith("searching: 2 of 2 candidates")
    assert line.endswith("best 0.75")


def test_json_lines_are_one_object_each_and_leave_out_what_was_before(capsys):
    with json_lines(True) as lines:
        print("for people")
        lines.update(2, 3, [finished(0, before=True), finished(1, 0.5, rungs=(0.1,)), finished(2, state="failed")])
        lines.say("report", run="here")
    out, err = capsys.readouterr()
    assert err == "for people\n"
    first, second, last = map(json.loads, out.splitlines())
    assert first == {
        "event": "candidate", "done": 2, "total": 3, "trial": 1, "candidate": "c1", "params": {"width": 1},
        "state": "complete", "score": 0.5, "against": {}, "rungs": [0.1],
    }  # fmt: skip
    assert (second["state"], second["score"]) == ("failed", None)
    assert last == {"event": "report", "run": "here"}
    with json_lines(False) as lines:
        assert lines is None


def test_tensorboard_gets_every_trial(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = make_tracker("tensorboard", tmp_path, {"trials": 3})
    with all_callbacks([tracker]) as watch:
        watch.update(1, 3, [finished(0, 0.2, before=True)])
        watch.update(3, 3, [finished(1, 0.1, against={"params": 5.0}), finished(2, 0.7, rungs=(0.3,))])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    read = {tag: [(e.step, round(e.value, 3)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert read == {
        "search/score": [(1, 0.1), (2, 0.7)],
        "search/best": [(1, 0.2), (2, 0.7)],
        "search/params": [(1, 5.0)],
        "search/rung 0": [(2, 0.3)],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.integration
def test_mlflow_gets_settings_and_every_trial_in_one_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        for numbers in ((0, 1), (2,)):  # two processes of one search
            tracker = make_tracker("mlflow", tmp_path, {"sampler": "tpe", "against": ""})
            tracker.update(3, 3, [finished(n, n / 10) for n in numbers])
            tracker.close()
        (run,) = mlflow.search_runs(output_format="list")
        assert run.data.params == {"sampler": "tpe"}
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "score")
        assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("tensorboard", "torch.utils.tensorboard", r"nasproxy\[tensorboard\]"),
        ("mlflow", "mlflow", r"nasproxy\[mlflow\]"),
    ],
)
def test_a_missing_package_is_named(name, module, said, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NasproxyError, match=said):
        make_tracker(name, tmp_path, {})


def test_an_unknown_tracker_is_refused():
    assert tracker_names(" mlflow, tensorboard") == ("mlflow", "tensorboard")
    assert tracker_names("") == ()
    with pytest.raises(NasproxyError, match="tensorboard"):
        tracker_names("tensorbord")


def test_watchers_are_closed_when_the_search_is_interrupted():
    recorder = Recorder()

    def interrupted():
        with all_callbacks([recorder]) as watch:
            watch.update(1, 2, [finished(1)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert recorder.closed
