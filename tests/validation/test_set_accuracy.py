from dataclasses import replace

import pytest
import torch
from scipy import stats
from toy import toy_dataset, toy_proxy

from nasproxy.cli.commands.evaluate import evaluate as evaluate_command
from nasproxy.cli.commands.evaluate import lines
from nasproxy.cli.commands.options import DataOptions, EvaluateOptions
from nasproxy.core.errors import NasproxyError
from nasproxy.data.proxy_set import save_proxy
from nasproxy.networks import num_params, seeded
from nasproxy.training import tasks
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import Evaluation, FailureKind
from nasproxy.validation.set_accuracy import (
    CROSS,
    Comparison,
    NetSpec,
    Row,
    difference_interval,
    evaluate_proxy,
    mean_interval,
    own_net,
    parse_net,
)

CPU = torch.device("cpu")
TINY = NetSpec("convnet", (("width", 4), ("depth", 1)))


def measured(accuracy, number=0, failure=None):
    kind = FailureKind.DIVERGED if failure else None
    key = {"candidate": "net", "params": {}, "score": "test", "setting": "s", "seed": number}
    return Evaluation(accuracy, None if failure else 1.0, 0.1, failure, kind, **key)


def run(path, proxy=None, dataset=None, **options):
    dataset = dataset or toy_dataset()
    proxy = proxy or toy_proxy(dataset)
    ledger = Ledger(path / "evaluations.sqlite")
    settings = {
        "num_nets": 2,
        "recipes": [proxy.recipe] * proxy.num_sets,
        "baseline": True,
        "seed": 0,
        "ledger": ledger,
    }
    settings["crew"] = Inline(CPU)
    try:
        return evaluate_proxy(proxy, dataset, options.pop("nets", [TINY]), **(settings | options))
    finally:
        ledger.close()


# ------------------------------------------------------------------------------------------------------------ the nets


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("mlp", {}),
        ("convnet:width=32", {"width": 32}),
        ("resnet18:norm=batch, width=16", {"norm": "batch", "width": 16}),
        ("convnet:dropout=0.5", {"dropout": 0.5}),
    ],
)
def test_a_net_is_read_as_it_is_written(text, options):
    spec = parse_net(text)
    assert spec.family == text.partition(":")[0]
    assert dict(spec.options) == options
    assert parse_net(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("convnett", "'convnett'. Did you mean 'convnet'"),
        ("convnet:width", "got 'width' in 'convnet:width'"),
        ("convnet:=3", "got '=3'"),
        ("convnet:width=", "got 'width='"),
        ("", "Unknown network ''"),
    ],
)
def test_what_is_no_net_is_named(text, message):
    with pytest.raises(NasproxyError, match=message):
        parse_net(text)


@pytest.mark.parametrize("text", ["convnet:wide=3", "mlp:norm=batch", "convnet:width=thin"])
def test_an_option_that_a_family_lacks_is_named(text):
    with pytest.raises(NasproxyError, match=rf"'{text}' is no net"):
        parse_net(text).build((1, 8, 8), 3)


def test_the_cross_architecture_table_has_the_published_families():
    assert {spec.family for spec in CROSS} == {"convnet", "mlp", "lenet", "alexnet", "vgg11", "resnet18"}
    for spec in CROSS:
        assert num_params(seeded(lambda spec=spec: spec.build((3, 32, 32), 10), 0)) > 60_000


def test_the_own_net_is_the_one_that_the_set_was_matched_with():
    proxy = toy_proxy()
    assert own_net(proxy) is None  # random images were matched with none

    def matched(**config):
        return replace(
            proxy, provenance=proxy.provenance | {"config": {"norm": "batch", "width": 8, "depth": 1} | config}
        )

    assert str(own_net(matched(network="convnet"))) == "convnet:width=8,depth=1,norm=batch"
    assert str(own_net(matched(network="mlp"))) == "mlp:width=8,depth=1"
    assert str(own_net(matched(network="resnet18"))) == "resnet18:norm=batch"
    assert own_net(matched(network="convnet", match_space="grid.yaml")) is None


# ------------------------------------------------------------------------------------------------------ the statistics


def test_intervals_equal_scipys():
    a, b = [0.31, 0.35, 0.28, 0.4], [0.22, 0.27, 0.21]
    found = mean_interval(a)
    expected = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (found.value, found.n) == (pytest.approx(sum(a) / 4), 4)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    difference = difference_interval(a, b)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert difference.value == pytest.approx(sum(a) / 4 - sum(b) / 3)
    assert (difference.low, difference.high) == pytest.approx((welch.low, welch.high))


def test_one_value_has_no_interval():
    assert (mean_interval([0.3]).low, mean_interval([0.3]).high) == (None, None)
    assert difference_interval([0.3], [0.1, 0.2]).low is None
    assert difference_interval([0.3, 0.3], [0.1, 0.1]).low is None  # no spread to go by


def test_several_sets_are_the_units_not_their_nets():
    row = Row("set", TINY, ((measured(0.2), measured(0.4)), (measured(0.5), measured(0.7)), (measured(0.8),)))
    assert row.units == pytest.approx([0.3, 0.6, 0.8])
    assert row.mean.n == 3
    assert row.std == pytest.approx(torch.tensor([0.2, 0.4, 0.5, 0.7, 0.8]).std().item())


def test_failures_are_named_and_left_out():
    bad = measured(None, 1, "diverged: the training loss became nan")
    row = Row("set", TINY, ((measured(0.4), bad),))
    assert row.units == [0.4]
    none = Row("random real images", TINY, ((bad,),))
    assert none.mean is None
    comparison = Comparison(row, none)
    assert comparison.difference is None
    text = "\n".join(lines([comparison], num_sets=1))
    assert "every training failed" in text
    assert text.count("failed: convnet:width=4,depth=1: diverged") == 2


# ------------------------------------------------------------------------------------------------------- the trainings


def test_every_training_is_done_once_and_the_same_again(tmp_path, monkeypatch):
    first = run(tmp_path)
    monkeypatch.setattr(tasks, "train_candidate", None)
    assert run(tmp_path) == first


def test_half_the_trainings_are_not_lost(tmp_path):
    """More nets add to those that are there, on every set."""
    single = toy_proxy()
    proxy = replace(single, images=single.images.repeat(2, 1, 1, 1, 1), labels=single.labels.repeat(2, 1))
    few, many = run(tmp_path, proxy, num_nets=1), run(tmp_path, proxy, num_nets=3)
    for s in range(2):
        assert many[0].row.sets[s][:1] == few[0].row.sets[s]
    assert all(e in many[0].baseline.sets[0] for e in few[0].baseline.sets[0])


def test_counts_of_sets_nets_and_baseline(tmp_path):
    single = toy_proxy()
    proxy = replace(single, images=single.images.repeat(3, 1, 1, 1, 1), labels=single.labels.repeat(3, 1))
    seen = []
    (found,) = run(tmp_path, proxy, progress=lambda done, total, note: seen.append((done, total)))
    assert [len(own) for own in found.row.sets] == [2, 2, 2]
    assert len(found.baseline.accuracies) == 6
    assert seen == [(i, 12) for i in range(13)]
    assert len({e.seed for own in found.row.sets for e in own}) == 6  # no net is used twice


def test_each_net_of_the_baseline_has_a_draw_of_its_own(tmp_path):
    (found,) = run(tmp_path)
    assert len({e.setting for e in found.baseline.sets[0]}) == 2
    assert len({e.setting for e in found.row.sets[0]}) == 1


def test_test_images_are_measured_on_and_only_they(tmp_path):
    dataset = toy_dataset()
    wrong = replace(dataset, test=replace(dataset.test, labels=(dataset.test.labels + 1) % 3))
    recipe = replace(toy_proxy().recipe, epochs=40)
    right = run(tmp_path / "a", dataset=dataset, recipes=[recipe], baseline=False)[0].row
    inverted = run(tmp_path / "b", dataset=wrong, recipes=[recipe], baseline=False)[0].row
    assert min(right.accuracies) > 0.8
    assert max(inverted.accuracies) < 0.2
    no_val = run(tmp_path / "c", dataset=replace(dataset, val=None), recipes=[recipe], baseline=False)[0].row
    assert no_val.accuracies == right.accuracies


def test_a_proxy_of_other_data_is_refused(tmp_path):
    with pytest.raises(NasproxyError, match="rebuild it"):
        run(tmp_path, dataset=replace(toy_dataset(), fingerprint="e" * 64), proxy=toy_proxy())


def test_a_net_that_does_not_fit_is_refused_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "train_candidate", None)
    with pytest.raises(NasproxyError, match="too small"):
        run(tmp_path, nets=[TINY, NetSpec("vgg11")])


def test_sets_of_different_data_are_not_compared(tmp_path):
    files = []
    for size in (40, 41):
        files.append(tmp_path / f"{size}.safetensors")
        save_proxy(toy_proxy(toy_dataset(num_per_class=size)), files[-1])
    with pytest.raises(NasproxyError, match=r"must come from the same data, but got '.*40\.safetensors' of toy"):
        evaluate_command(files, EvaluateOptions(num_nets=1, baseline=False), DataOptions(offline=True, device="cpu"))
