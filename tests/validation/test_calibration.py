"""The calibrated score of a validation, on made-up candidates."""

from types import SimpleNamespace

import numpy as np
import pytest

from nasproxy.report.calibration import Added, Calibration, ColumnSet, calibration_words
from nasproxy.training.results import MeanScore
from nasproxy.validation.calibration import calibration_of

LABELS = {"proxy": "Proxy set", "random_subset": "Random real images", "params": "Parameters", "naswot": "NASWOT"}


def made(n=32, seed=0, proxy=0.0, known=1.0):
    """Size tells ``known`` of the truth of these candidates, the proxy score ``proxy``, and random images nothing."""
    rng = np.random.default_rng(seed)
    size, own, rest = rng.normal(size=(3, n))
    truth = 0.7 + 0.05 * (known * size + proxy * own + 0.3 * rest)
    columns = {
        "proxy": own,
        "random_subset": rng.normal(size=n),
        "params": size + 0.2 * rng.normal(size=n),
        "naswot": size + 0.5 * rng.normal(size=n),
    }
    complete = [
        SimpleNamespace(
            candidate=SimpleNamespace(params={"norm": rng.choice(["a", "b"])}),
            scores={"full": MeanScore(value, None, 1.0)},
        )
        for value in truth
    ]
    inspection = SimpleNamespace(space=SimpleNamespace(parameters=[SimpleNamespace(name="norm")]))
    return calibration_of(complete, columns, LABELS, inspection, seed)


def test_what_the_proxy_adds_is_found():
    found = made(proxy=1.0)
    added = found.added_by("free_proxy", "free").difference
    assert added.low > 0
    assert found.added_by("free_random", "free").difference.low < 0
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
