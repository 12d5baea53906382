import sqlite3

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.errors import NasproxyError
from nasproxy.evaluations import Evaluation, Ledger, evaluate_candidate, mean_score
from nasproxy.scores import on_device, proxy_task
from nasproxy.spaces import load_space

CPU = torch.device("cpu")


def evaluation(seed=0, accuracy=0.5, failure=None):
    loss = None if failure else 1.0
    return Evaluation(
        "abc", {"width": 8, "norm": "batch", "on": True}, "proxy", "s", seed, accuracy, loss, 1.5, failure
    )


def toy_task(epochs=2):
    dataset = toy_dataset()
    proxy = toy_proxy(dataset, epochs=epochs)
    return proxy_task(proxy, on_device(dataset, dataset.val, CPU), proxy.recipe, dataset, CPU)


def test_ledger_keeps_rows_between_openings(tmp_path):
    rows = [evaluation(0), evaluation(1, None, "diverged")]
    ledger = Ledger(tmp_path / "e.sqlite")
    for row in rows:
        ledger.add(row)
    ledger.close()
    again = Ledger(tmp_path / "e.sqlite")
    assert [again.get("abc", "proxy", "s", seed) for seed in (0, 1)] == rows
    assert again.get("abc", "proxy", "other setting", 0) is None
    assert again.get("abc", "full", "s", 0) is None
    again.close()


def test_foreign_file_is_named(tmp_path):
    path = tmp_path / "e.sqlite"
    path.write_text("no database" * 1000)
    with pytest.raises(NasproxyError, match=r"e\.sqlite"):
        Ledger(path)


def test_nothing_is_trained_twice(tmp_path, monkeypatch):
    ledger, space, task = Ledger(tmp_path / "e.sqlite"), load_space("convnet_small"), toy_task()
    candidate = space.candidate({"width": 8, "depth": 1, "activation": "relu", "norm": "batch", "pooling": "avg"})
    first = evaluate_candidate(task, space, candidate, 0, ledger=ledger, device=CPU)
    assert first.failure is None
    monkeypatch.setattr("nasproxy.evaluations.train_candidate", lambda *a, **k: pytest.fail("trained again"))
    assert evaluate_candidate(task, space, candidate, 0, ledger=ledger, device=CPU) == first
    ledger.close()


def test_setting_changes_with_images_recipe_and_held_out():
    a, b = toy_task(), toy_task(epochs=3)
    assert a.setting == toy_task().setting
    assert a.setting != b.setting


def test_rows_are_on_disk_when_add_returns(tmp_path):
    ledger = Ledger(tmp_path / "e.sqlite")
    ledger.add(evaluation())
    other = sqlite3.connect(tmp_path / "e.sqlite")
    assert other.execute("SELECT candidate, accuracy FROM evaluations").fetchall() == [("abc", 0.5)]
    other.close()
    ledger.close()


def test_mean_over_seeds():
    score = mean_score([evaluation(0, 0.4), evaluation(1, 0.6), evaluation(2, 0.8)])
    assert score.accuracy == pytest.approx(0.6)
    assert score.std == pytest.approx(0.2)
    assert score.seconds == pytest.approx(4.5)
    assert mean_score([evaluation()]).std is None


def test_one_failed_seed_fails_the_candidate_with_its_reason():
    score = mean_score([evaluation(0, 0.4), evaluation(1, None, "diverged: nan")])
    assert score.accuracy is None
    assert score.failure == "diverged: nan"
    assert mean_score([]).failure is not None
