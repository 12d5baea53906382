"""Ways of picking replayed on made-up candidates."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from nasproxy.report.charts import replays
from nasproxy.training.results import MeanScore
from nasproxy.validation.replays import LEAST, REPLAYS, replayed_ways


@cache
def made(n=24, *, known=1.0, proxy=0.0, seconds=100.0, curve=True, seed=0):
    """Candidates whose size tells ``known`` of their truth, and whose proxy score tells ``proxy``."""
    rng = np.random.default_rng(seed)
    size, own, rest = rng.normal(size=(3, n))
    truth = 0.7 + 0.05 * (known * size + proxy * own + 0.3 * rest)
    columns = {"proxy": own, "params": size, "naswot": size + 0.3 * rng.normal(size=n)}
    points = ((1, 0.3), (2, 0.5)) if curve else ()
    complete = [
        SimpleNamespace(
            candidate=SimpleNamespace(params={"width": int(width > 0)}),
            scores={
                "full": MeanScore(value, 1.0, seconds, curve=(*points, (16, value)) if curve else ()),
                "proxy": MeanScore(0.5, 1.0, 0.1 * seconds),
                "naswot": MeanScore(1.0, None, 0.01 * seconds),
            },
        )
        for value, width in zip(truth, size, strict=True)
    ]
    inspection = SimpleNamespace(space=SimpleNamespace(parameters=[SimpleNamespace(name="width")]))
    return replayed_ways(complete, columns, inspection, seed)


def regrets(found):
    return {way.name: {point.cost: point.regret.value for point in way.points} for way in found}


def test_what_is_known_shows_in_the_regret():
    found = made()
    values = regrets(found)
    assert list(values) == ["plan", "proxy", "vote", "random", "halving"]
    assert list(values["plan"]) == [2, 4, 8]
    assert values["vote"][4] < values["random"][4]
    assert values["plan"][4] < values["random"][4]
    assert values["vote"][4] < values["proxy"][4]
    for way in found:
        assert all(point.regret.n == REPLAYS and point.regret.low <= point.regret.value for point in way.points)


@pytest.mark.slow
def test_random_candidates_lose_what_an_order_statistic_says():
    values = regrets(made())
    rng = np.random.default_rng(0)
    size, _, rest = rng.normal(size=(3, 24))
    truth = 0.7 + 0.05 * (size + 0.3 * rest)
    drawn = [rng.permutation(truth)[:16] for _ in range(4000)]
    expected = np.mean([some.max() - some[:4].max() for some in drawn])
    assert values["random"][4] == pytest.approx(expected, rel=0.35)


def test_without_learning_curves_there_is_no_halving():
    assert "halving" not in regrets(made(curve=False))


@pytest.mark.parametrize("case", [{"n": LEAST - 1}, {"seconds": 0.0}])
def test_too_few_candidates_and_a_truth_of_unknown_cost_are_not_replayed(case):
    assert made(**case) == ()


def test_the_figure_says_the_numbers():
    found = made()
    chart = replays(SimpleNamespace(replays=found))
    assert f"{100 * regrets(found)['plan'][4]:.2g} at 4" in chart.svg
    assert f"over {REPLAYS} replays" in chart.caption
    assert replays(SimpleNamespace(replays=())) is None
