import pytest
import torch
from toy import toy_dataset

from nasproxy.condense import matching_time as module
from nasproxy.condense.build_plan import estimate
from nasproxy.config import CondenseConfig

CPU = torch.device("cpu")


def small(**settings):
    values = {"ipc": 2, "outer_steps": 3, "inner_steps": 3, "net_steps": 2, "width": 4, "depth": 2, "batch_real": 16}
    return CondenseConfig(**(values | settings))


def test_estimate_grows_with_the_loops():
    dataset = toy_dataset()
    short = estimate(dataset, small(outer_steps=1), CPU)
    long = estimate(dataset, small(outer_steps=1000), CPU)
    assert 0 < short.seconds < long.seconds


def test_fewer_threads_are_taken_only_when_clearly_faster(monkeypatch):
    """The clock is a stand-in; each work takes 8 ticks with 8 threads, and so on."""
    ticks = {8: 8.0, 4: 5.0, 2: 4.8, 1: 1.0}
    threads, now = [8], [0.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: threads.__setitem__(0, number))

    def work(*_args, **_kwargs):
        now[0] += ticks[threads[0]]

    monkeypatch.setattr(module, "match_groups", work)
    monkeypatch.setattr(module, "train_net", work)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    chosen = estimate(toy_dataset(), small(), CPU)
    assert chosen.threads == 4  # 5 against 8 is clear, 4.8 against 5 is not, and 1 is never tried
    assert threads == [8]
    assert estimate(toy_dataset(), small(threads=2), CPU).threads == 2


@pytest.mark.parametrize(("share", "expected"), [(0.5, "bfloat16"), (0.9, "float32"), (2.0, "float32")])
def test_bfloat16_is_taken_only_when_clearly_faster(monkeypatch, share, expected):
    now, tick = [0.0], 10.0

    def match(net, images, groups, real, config, stream, *, loss):
        now[0] += tick * (share if config.precision == "bfloat16" else 1.0)

    monkeypatch.setattr(module, "match_groups", match)
    monkeypatch.setattr(module, "train_net", lambda *_, **__: None)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    found = estimate(toy_dataset(), small(threads=1), CPU)
    assert found.precision == expected
    assert found.seconds == pytest.approx(9 * tick * (share if expected == "bfloat16" else 1.0))
    assert estimate(toy_dataset(), small(threads=1, precision="float32"), CPU).precision == "float32"
    assert estimate(toy_dataset(), small(threads=1, precision="bfloat16"), CPU).precision == "bfloat16"
    tick = 1.0
    assert estimate(toy_dataset(), small(threads=1), CPU).precision == "float32"  # nine seconds are not worth it


def test_estimate_counts_the_pool_and_the_clusterings():
    dataset = toy_dataset()
    plain = estimate(dataset, small(threads=1), CPU).seconds
    assert estimate(dataset, small(threads=1, pool=3, pool_epochs=500), CPU).seconds > 2 * plain
    assert estimate(dataset, small(threads=1, real_choice="kmeans", choice_interval=1), CPU).seconds > plain
