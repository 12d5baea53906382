"""Seeds that stayed at chance, medians beside means, and failures that rank last."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_dataset

from nasproxy.correlation import differences, rank_correlation
from nasproxy.data import LabeledImages
from nasproxy.spaces import Candidate
from nasproxy.training.results import MeanScore
from nasproxy.validation.measured import ValidatedCandidate
from nasproxy.validation.seeds import chance_accuracy, medians_of, stuck_seeds, with_medians
from nasproxy.validation.summary import differences_of


def held_out(counts):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return LabeledImages(torch.zeros((len(labels), 1, 2, 2), dtype=torch.uint8), labels)


def candidate(name, **by_seed):
    return ValidatedCandidate(Candidate("space", {"net": name}, name), "sample", {}, by_seed)


def test_chance_is_to_name_the_most_frequent_class():
    chance, error = chance_accuracy(held_out((100, 300)))
    assert chance == 0.75
    assert error == pytest.approx((0.75 * 0.25 / 400) ** 0.5)


def test_a_seed_at_chance_beside_one_that_learned_is_named():
    images = held_out([500] * 10)
    stuck = candidate("stuck", full=(0.102, 0.61), proxy=(0.3, 0.31))
    hard = candidate("hard", full=(0.1, 0.11), proxy=(0.1, 0.12))  # both near chance: no seed learned
    good = candidate("good", full=(0.6, 0.62), proxy=(0.1, 0.35))
    failed = candidate("failed", full=())
    found = stuck_seeds([stuck, hard, good, failed], ("full", "proxy"), images)
    assert [(one.candidate, one.score, one.accuracies) for one in found] == [
        ("stuck", "full", (0.102, 0.61)),
        ("good", "proxy", (0.1, 0.35)),
    ]
    assert found[0].label == "net=stuck"


def test_uneven_classes_have_a_higher_chance():
    images = held_out((800, 100, 100))
    assert stuck_seeds([candidate("a", full=(0.8, 0.95))], ("full",), images)
    assert not stuck_seeds([candidate("b", full=(0.8, 0.81))], ("full",), images)


def test_the_median_stands_beside_the_mean_from_three_seeds_on():
    rng = np.random.default_rng(0)
    rows = [candidate(str(place), full=tuple(rng.random(3))) for place in range(12)]
    medians = medians_of(rows)
    assert medians.tolist() == [sorted(one.by_seed["full"])[1] for one in rows]
    column = rng.random(12)
    assert with_medians(column, rows, 0) == rank_correlation(column, medians, seed=0)
    two = [replace(one, by_seed={"full": one.by_seed["full"][:2]}) for one in rows]
    assert with_medians(column, two, 0) is None
    assert with_medians(np.array([]), [], 0) is None


def test_the_toy_data_have_equal_classes():
    assert chance_accuracy(toy_dataset().val)[0] == pytest.approx(1 / 3)


def test_the_intervals_of_differences_hold_the_luck_of_the_sets():
    rng = np.random.default_rng(0)
    truth = rng.random(30)
    proxy, random = (truth[:, None] * rng.normal(1, 0.8, 3) + rng.normal(0, 0.2, (30, 3)) for _ in range(2))
    rows = []
    for place in range(30):
        by_seed = {"proxy": tuple(proxy[place]), "random_subset": tuple(random[place])}
        scores = {name: MeanScore(float(np.mean(own)), 1.0, 0.0) for name, own in by_seed.items()}
        scores |= {"full": MeanScore(float(truth[place]), 1.0, 0.0), "synflow": MeanScore(1.0, None, 0.0)}
        one = candidate(str(place), **by_seed, synflow=(1.0, 1.0, 1.0))
        rows.append(replace(one, scores=scores))
    columns = {"proxy": proxy.mean(1), "random_subset": random.mean(1), "synflow": truth**2}
    gap, found = differences_of(rows, columns, 0)
    expected = differences(
        proxy.mean(1), {"random_subset": random.mean(1)}, truth, first_sets=proxy, other_sets={"random_subset": random}
    )
    assert gap == expected[0].difference
    alone = [replace(one, by_seed={name: own[:1] for name, own in one.by_seed.items()}) for one in rows]
    narrow, _ = differences_of(alone, columns, 0)
    assert gap.high - gap.low > narrow.high - narrow.low
    assert [one.score for one in found] == ["random_subset", "synflow"]
