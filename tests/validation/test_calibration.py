"""The calibrated score of a validation, on made-up candidates."""

from types import SimpleNamespace

import numpy as np
import pytest

from nasproxy.report.calibration import Added, Calibration, ColumnSet, calibration_words
from nasproxy.training.results import MeanScore
from nasproxy.validation.calibration import calibration_of
from nasproxy.validation.loss_curves import loss_curves_of

LABELS = {"proxy": "Proxy set", "random_subset": "Random real images", "params": "Parameters", "naswot": "NASWOT"}


def made(n=32, seed=0, proxy=0.0, known=1.0, losses=None):
    """Size tells ``known`` of the truth of these candidates, the proxy score ``proxy``, and random images nothing.

    The training losses on the proxy set tell ``losses`` of the truth; None: there are none.
    """
    rng = np.random.default_rng(seed)
    size, own, rest = rng.normal(size=(3, n))
    curve = rng.normal(size=n)
    truth = 0.7 + 0.05 * (known * size + proxy * own + 0.3 * rest - (losses or 0.0) * curve)
    columns = {
        "proxy": own,
        "random_subset": rng.normal(size=n),
        "params": size + 0.2 * rng.normal(size=n),
        "naswot": size + 0.5 * rng.normal(size=n),
    }
    complete = [
        SimpleNamespace(
            candidate=SimpleNamespace(params={"norm": rng.choice(["a", "b"])}),
            scores={"full": MeanScore(value, None, 1.0)}
            | ({} if losses is None else {"proxy": MeanScore(0.5, 1.0, 1.0, train_losses=(3 + loss, 2 + loss))}),
        )
        for value, loss in zip(truth, curve, strict=True)
    ]
    inspection = SimpleNamespace(space=SimpleNamespace(parameters=[SimpleNamespace(name="norm")]))
    return calibration_of(complete, columns, LABELS, inspection, seed)


def test_what_the_proxy_adds_is_found():
    found = made(proxy=1.0)
    added = found.added_by("free_proxy", "free").difference
    assert added.low > 0
    assert found.added_by("free_random", "free").difference.low < 0
    alone = found.added_by("everything", "score random_subset").difference
    everything = found.set_named("everything").spearman.value
    assert alone.value > everything - 0.4  # random images as they rank: noise in this sample
    assert found.set_named("everything").spearman.value > found.set_named("parameters").spearman.value
    assert "It is shown to add something: the interval lies above 0." in calibration_words(found)


@pytest.mark.slow
def test_a_proxy_that_knows_nothing_adds_nothing():
    differences = [made(seed=seed).added_by("free_proxy", "free").difference for seed in range(2)]
    assert np.mean([one.value for one in differences]) < 0.03
    assert not any(one.low > 0 for one in differences)
    assert "It is not shown that the proxy set adds anything to the scores that train nothing." in calibration_words(
        made()
    )


def test_the_best_single_score_is_named_and_its_sets_are_complete():
    found = made()
    assert found.best_single in ("Parameters", "NASWOT")
    assert [one.name for one in found.sets] == [
        "everything",
        "no_proxy",
        "free",
        "free_proxy",
        "free_random",
        "proxy",
        "parameters",
    ]
    assert found.set_named("free").columns == ("params", "naswot")
    assert found.reliable


@pytest.mark.slow
def test_few_truths_rest_on_the_vote_and_fewer_say_nothing():
    few = made(n=9)
    assert not few.reliable
    assert "9 full trainings are few: the model rests on its prior" in " ".join(calibration_words(few))
    assert made(n=7) is None


def test_words_are_left_out_where_there_is_no_number():
    from nasproxy.correlation import Estimate

    nothing = Estimate(None, None, None, 8, "all 8 values are equal")
    found = Calibration(
        8,
        True,
        (ColumnSet("everything", "Every cheap column", (), nothing),),
        (Added("free_proxy", "free", "x", nothing),),
        "",
    )
    assert calibration_words(found) == []


@pytest.mark.parametrize("missing", ["random_subset", "proxy"])
def test_a_score_that_is_missing_leaves_its_sets_out(missing):
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=12) for name in LABELS if name != missing}
    complete = [
        SimpleNamespace(candidate=SimpleNamespace(params={}), scores={"full": MeanScore(value, None, 1.0)})
        for value in rng.normal(size=12)
    ]
    inspection = SimpleNamespace(space=SimpleNamespace(parameters=[]))
    found = calibration_of(complete, columns, LABELS, inspection, 0)
    assert all(missing not in one.columns for one in found.sets)
    assert found.set_named("everything") is not None


@pytest.mark.slow
def test_the_losses_of_a_training_are_columns_beside_its_accuracy():
    found = made(losses=1.0)
    named = found.set_named("free_proxy").columns
    assert named == (
        "params",
        "naswot",
        "proxy",
        "proxy: held-out loss",
        "proxy: training losses",
        "proxy: late training loss",
    )
    assert found.set_named("free").columns == found.set_named("no_proxy").columns[:2]
    assert not any("proxy" in name for name in found.set_named("no_proxy").columns)
    assert found.added_by("free_proxy", "free").difference.low > 0
    assert found.set_named("proxy").columns[0] == "proxy"


def test_how_training_losses_agree_with_the_truth():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=24)
    losses = [(2 - 0.1 * value, 1.5, 1.2, 1.0, 0.5 + 0.1 * value) for value in truth]
    complete = [
        SimpleNamespace(
            scores={
                "full": MeanScore(value, None, 1.0),
                "proxy": MeanScore(value, 1.0, 1.0, train_losses=curve),
                "early_stop": MeanScore(value, 1.0, 1.0, train_losses=curve[:1]),
                "old": MeanScore(value, 1.0, 1.0),
            }
        )
        for value, curve in zip(truth, losses, strict=True)
    ]
    columns = dict.fromkeys(("proxy", "early_stop", "old"), truth)
    rows = loss_curves_of(complete, columns, {"proxy": "Proxy set", "early_stop": "Early stop", "old": "Old"}, 0)
    proxy, early = rows
    assert (proxy.name, early.name) == ("proxy", "early_stop")
    assert proxy.accuracy.value == proxy.late.value == 1.0
    assert early.total.value == -1.0
    assert early.late is None
    assert loss_curves_of([], {}, {"proxy": "Proxy set"}, 0) == ()
