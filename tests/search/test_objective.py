from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_dataset, toy_proxy, toy_sets

from nasproxy.config import RECIPES, SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.scores.proxy import smaller_proxy_task
from nasproxy.search.objective import check_objective, make_objective, parse_rungs, parse_terms, single
from nasproxy.search.reference_ranks import ReferenceRanks, combined_score, reference_rank
from nasproxy.training.results import FailureKind, MeanScore


def objective(**settings):
    dataset = toy_dataset()
    return make_objective(SearchConfig(**settings), toy_proxy(dataset, ipc=3, epochs=5), dataset)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("proxy", ((1.0, "proxy"),)),
        ("0.7*proxy+0.3*naswot", ((0.7, "proxy"), (0.3, "naswot"))),
        (" synflow + jacob_cov + snip ", ((1.0, "synflow"), (1.0, "jacob_cov"), (1.0, "snip"))),
        ("proxy - .5 * latency", ((1.0, "proxy"), (-0.5, "latency"))),
        ("-params", ((-1.0, "params"),)),
    ],
)
def test_a_score_is_a_name_or_a_sum(text, terms):
    assert parse_terms(text) == terms


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name or a sum"),
        ("proxy naswot", "a name or a sum"),
        ("proxy*2", "a name or a sum"),
        ("proxy+", "a name or a sum"),
        ("2*", "a name or a sum"),
        ("nasswot", "naswot"),
        ("proxy+proxy", "named once"),
        ("0*proxy+naswot", "must count"),
    ],
)
def test_what_is_no_score_is_refused(text, said):
    with pytest.raises(NasproxyError, match=said):
        parse_terms(text)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"against": "param"}, "params"),
        ({"against": "proxy"}, "must name different scores"),
        ({"against": "params", "rungs": "naswot"}, "leave one of the two out"),
        ({"rungs": "epochs=0"}, "epochs=N"),
        ({"rungs": "widths=3"}, "epochs=N"),
        ({"rungs": "proxy"}, "rung"),
        ({"rungs": "naswot,,"}, "rung"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(settings, said):
    with pytest.raises(NasproxyError, match=said):
        check_objective(SearchConfig(**settings))


def test_rungs_cost_less_than_what_comes_after():
    assert parse_rungs("naswot, epochs=2,ipc=1") == (("naswot", 0), ("epochs", 2), ("ipc", 1))
    found = objective(rungs="naswot,ipc=2,epochs=2")
    assert [task.score for task in found.rungs] == ["naswot", "proxy", "proxy"]
    assert len(found.rungs[1].train.images) == 6
    assert found.rungs[2].recipe.epochs == 2
    assert len({task.setting for task in (*found.rungs, *found.tasks)}) == 4
    with pytest.raises(NasproxyError, match="the 5 epochs after it, but got epochs=5"):
        objective(rungs="epochs=5")
    with pytest.raises(NasproxyError, match="proxy's 3, but got ipc=3"):
        objective(rungs="ipc=3")


def test_candidates_train_by_the_recipe_that_is_asked_for():
    own = objective(epochs=2).tasks[0].recipe
    assert (own.schedule, own.lr, own.epochs) == ("one_cycle", 0.05, 2)
    assert objective().tasks[0].recipe.epochs == 5
    other = objective(recipe="dsa", epochs=2).tasks[0].recipe
    assert other == replace(RECIPES["dsa"], augmentation="dsa_no_flip", epochs=2)  # digits have no mirror images
    assert objective(recipe="dsa", rungs="epochs=2").rungs[0].recipe == other
    assert objective(recipe="dsa").tasks[0].recipe.epochs == 1000
    with pytest.raises(NasproxyError, match="one_cycle"):
        SearchConfig(recipe="onecycle")


def test_a_recipe_that_is_asked_for_is_that_of_every_set():
    dataset = toy_dataset()
    proxy = toy_sets(dataset, lrs=(0.1, 0.2, 0.3))
    (task,) = make_objective(SearchConfig(recipe="published"), proxy, dataset).tasks
    assert [task.of_seed(seed).recipe for seed in range(3)] == [RECIPES["published"]] * 3


def test_a_smaller_proxy_has_the_first_images_of_each_class():
    dataset = toy_dataset()
    proxy = toy_proxy(dataset, ipc=3)
    task = smaller_proxy_task(proxy, dataset, proxy.recipe, 2)
    assert task.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(task.train.images, proxy.images[0][[0, 1, 3, 4, 6, 7]])
    soft = torch.nn.functional.one_hot(proxy.labels, 3).float()
    task = smaller_proxy_task(replace(proxy, labels=soft), dataset, proxy.recipe, 1)
    assert task.train.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_smaller_proxy_of_several_sets_is_a_part_of_each():
    dataset = toy_dataset()
    proxy = toy_sets(dataset, ipc=3)
    task = smaller_proxy_task(proxy, dataset, proxy.recipe, 2)
    for seed in range(3):
        assert torch.equal(task.of_seed(seed).train.images, proxy.images[seed][[0, 1, 3, 4, 6, 7]])
    assert task.setting not in (
        smaller_proxy_task(proxy, dataset, proxy.recipe, 1).setting,
        smaller_proxy_task(toy_sets(dataset, ipc=3, num_sets=2), dataset, proxy.recipe, 2).setting,
    )


values = st.floats(-1e30, 1e30)


@given(st.lists(values, min_size=2, max_size=12), values, values)
def test_standing_is_increasing_and_a_rank(reference, one, other):
    reference = sorted(reference)
    a, b = reference_rank(one, reference), reference_rank(other, reference)
    assert 0 <= a <= 1
    assert a <= b if one <= other else a >= b


def test_a_value_far_beyond_a_tiny_range_has_the_last_rank():
    assert reference_rank(2938.0, [0.0, 1.6e-305]) == 1.0
    assert reference_rank(-2938.0, [0.0, 1.6e-305]) == 0.0


def test_standing_is_the_mean_rank_of_the_members():
    reference = [1.0, 2.0, 2.0, 5.0]
    assert [reference_rank(v, reference) for v in (1.0, 2.0, 5.0)] == pytest.approx([1 / 5, 2.5 / 5, 4 / 5])
    assert reference_rank(3.5, reference) == pytest.approx((2.5 + 4) / 2 / 5)
    assert 4 / 5 < reference_rank(6.0, reference) < reference_rank(60.0, reference) < 1
    assert 0 < reference_rank(-60.0, reference) < reference_rank(0.0, reference) < 1 / 5
    assert reference_rank(5.0, [5.0, 5.0]) == pytest.approx(0.5)


def score(value, seconds=1.0, failure=None):
    kind = FailureKind.UNDEFINED if failure else None
    return MeanScore(value, None, seconds, failure, kind)


def test_a_sum_is_of_standings_and_a_vote_does_not_see_scales():
    found = objective(score="synflow+jacob_cov-2*params", against="flops")
    assert found.is_sum
    assert [task.score for task in found.tasks] == ["synflow", "jacob_cov", "params", "flops"]
    reference_ranks = ReferenceRanks(((1.0, 1e9, 1e30), (-80.0, -70.0, -60.0), (10.0, 20.0, 30.0)))
    total, against = combined_score(found, reference_ranks, [score(1e30), score(-70.0), score(10.0), score(7.0)])
    assert total.value == pytest.approx((3 / 4 + 2 / 4 - 2 * 1 / 4) / 4)
    assert total.seconds == 4.0
    assert against == (7.0,)
    failed, _ = combined_score(
        found, reference_ranks, [score(1.0), score(None, failure="undefined: nan"), score(1.0), score(1.0)]
    )
    assert failed.value is None
    assert failed.failure == "undefined: nan"


def test_one_score_is_taken_as_it_is():
    found = objective(score="naswot")
    assert not found.is_sum
    assert found.trained is None
    assert combined_score(found, None, [score(123.4)])[0].value == 123.4
    assert found.show(123.4) == "123.4"
    assert objective().show(0.5) == "50.0 %"
    assert objective(score="-params").is_sum  # so that lower ranks better


def test_identity_tells_searches_apart():
    identities = [
        str(objective(**settings).identity())
        for settings in (
            {},
            {"score": "naswot"},
            {"against": "params"},
            {"rungs": "naswot"},
            {"score": "2*proxy+naswot"},
        )
    ]
    assert len(set(identities)) == len(identities)
    assert str(single(objective().tasks[0]).identity()) == identities[0]


def test_a_random_vote_agrees_with_mean_ranks():
    """Among the references themselves the vote is the mean of scipy's ranks."""
    from scipy.stats import rankdata

    table = np.random.default_rng(0).normal(size=(3, 20)) ** 3
    reference_ranks = ReferenceRanks(tuple(tuple(sorted(row)) for row in table))
    mean_rank = np.mean([rankdata(row) for row in table], axis=0) / 21
    for place in range(20):
        assert reference_ranks.combine([1, 1, 1], list(table[:, place])) == pytest.approx(mean_rank[place])
