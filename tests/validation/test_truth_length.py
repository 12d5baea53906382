"""Whether full training is long enough: who is trained longer, what is concluded, and what survives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import TINY_SPACE, toy_dataset, toy_proxy

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import Estimate, spearman
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.loop import run_search
from nasproxy.spaces import Candidate, inspect_space, load_space
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import FailureKind, MeanScore, failed_fit
from nasproxy.training.session import Session
from nasproxy.validation.measured import ValidatedCandidate
from nasproxy.validation.truth_length import _never_certain, spread_over_ranking
from nasproxy.validation.validate import validate

CPU = torch.device("cpu")


def drawn(truths):
    """Candidates of the sample with these full accuracies; None failed."""
    return [
        ValidatedCandidate(
            Candidate("space", {"width": place}, f"c{place:03}"),
            "sample",
            {
                "full": MeanScore(None, None, 0.0, "diverged", FailureKind.DIVERGED)
                if truth is None
                else MeanScore(truth, 1.0, 0.0)
            },
        )
        for place, truth in enumerate(truths)
    ]


@pytest.fixture
def parts(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    dataset = toy_dataset()
    proxy = toy_proxy(dataset, epochs=3)
    return dataset, proxy, inspect_space(load_space(path), dataset.input_shape, dataset.num_classes)


def run(parts, folder, cpu, *, progress=None, **settings):
    dataset, proxy, inspection = parts
    ledger = Ledger(folder / "evaluations.sqlite")
    try:
        session = Session(folder, ledger, Inline(CPU), cpu)
        result = run_search(inspection, proxy_task(proxy, dataset), SearchConfig(trials=4), session)
        config = ValidateConfig(**({"sample": 12, "top": 2, "epochs": 1, "k": 2, "scores": "none"} | settings))
        return validate(result, proxy, dataset, config, session, progress=progress)
    finally:
        ledger.close()


def test_they_are_spread_evenly_over_the_ranking():
    truths = np.random.default_rng(0).permutation(20) / 20
    chosen = spread_over_ranking(drawn(truths), 8)
    assert [one.scores["full"].value for one in chosen] == [0.9, 0.8, 0.65, 0.55, 0.4, 0.3, 0.15, 0.05]


def test_a_larger_sample_keeps_those_that_were_trained_longer():
    truths = np.random.default_rng(0).permutation(60) / 60
    small, large = (spread_over_ranking(drawn(truths[:n]), 8) for n in (20, 60))
    assert [one.candidate.id for one in small] == [one.candidate.id for one in large]


def test_few_candidates_and_failures_are_no_trouble():
    assert spread_over_ranking(drawn([]), 8) == []
    assert spread_over_ranking(drawn([None, None]), 8) == []
    chosen = spread_over_ranking(drawn([None, 0.3, 0.5]), 8)
    assert [one.scores["full"].value for one in chosen] == [0.5, 0.3]


@pytest.mark.slow
def test_some_are_trained_longer_and_compared(parts, tmp_path, cpu):
    seen = []
    report = run(parts, tmp_path, cpu, long_sample=4, progress=lambda *told: seen.append(told))
    longer = [row for row in report.candidates if row.long_truth is not None]
    assert len(longer) == 4
    assert all(row.group == "sample" for row in longer)
    length = report.length
    assert (length.epochs, length.long_epochs, length.images, length.full_length) == (1, 4, 120, False)
    expected = spearman(np.array([row.truth for row in longer]), np.array([row.long_truth for row in longer]))
    if np.isfinite(expected):
        assert length.agreement.value == pytest.approx(float(expected))
    assert length.agreement.n == 4
    assert length.long_seconds > 0
    (cost,) = [cost for cost in report.costs if cost.what.startswith("Longer training")]
    assert cost.seconds == pytest.approx(4 * length.long_seconds)
    assert cost.note == "4 candidates, 4 epochs, 1 seed"
    per_image = sum(row.scores["flops"] for row in longer)
    assert cost.flops == pytest.approx(per_image * (3 * 4 * 120 + 60))
    done, totals = [told[0] for told in seen], {told[1] for told in seen if told[1]}
    assert done == sorted(done)
    assert len(totals) <= 2  # what the search counts, and what the validation does
    assert "longer" not in report.scores[0].label
    assert "long" not in report.candidates[0].scores


def test_the_longer_training_is_full_training_of_as_many_epochs(parts, tmp_path, cpu, monkeypatch):
    checked = run(parts, tmp_path, cpu, sample=4, top=0, long_sample=4)
    longer = {row.id: row.long_truth for row in checked.candidates}
    trained = []
    from nasproxy.training import tasks

    real = tasks.train_candidate
    monkeypatch.setattr(tasks, "train_candidate", lambda *a, **k: (trained.append(a), real(*a, **k))[1])
    again = run(parts, tmp_path, cpu, sample=4, top=0, epochs=4, long_sample=0)
    assert {row.id: row.truth for row in again.candidates} == longer
    assert trained == []  # what checked the short training is kept and used


@pytest.mark.slow
def test_more_candidates_are_checked_in_the_same_run(parts, tmp_path, cpu):
    first = run(parts, tmp_path, cpu, sample=12, long_sample=4)
    second = run(parts, tmp_path, cpu, sample=12, long_sample=12)
    assert sum(row.long_truth is not None for row in second.candidates) == 12
    assert first.length.agreement.n == 4


def test_no_check_where_none_is_asked_for_or_full_training_is_long(parts, tmp_path, cpu):
    none = run(parts, tmp_path / "a", cpu, long_sample=0)
    assert none.length.agreement is None
    assert not none.length.full_length
    config = ValidateConfig(epochs=100)
    assert config.is_full_length(120)
    assert config.num_checked(120) == 0
    assert replace(config, images=50).num_checked(120) == 8
    assert replace(config, long_epochs=300).num_checked(120) == 8  # asked for
    assert replace(config, epochs=60).epochs_of_check() == 200


def test_a_check_must_be_longer():
    with pytest.raises(NasproxyError, match="long_epochs=3 and epochs=4: give more"):
        ValidateConfig(epochs=4, long_epochs=3)
    with pytest.raises(NasproxyError, match="long_sample >= 0"):
        ValidateConfig(long_sample=-1)


def test_a_continued_validation_may_take_the_longer_training_as_its_truth():
    known = {"epochs": 3, "long_epochs": 15, "long_sample": 40}
    assert ValidateConfig.continued(known, {}).epochs_of_check() == 15
    assert ValidateConfig.continued(known, {"epochs": 15}).epochs_of_check() == 60
    assert ValidateConfig.continued(known, {"epochs": 15, "long_epochs": 45}).epochs_of_check() == 45
    with pytest.raises(NasproxyError, match="long_epochs=9 and epochs=15"):
        ValidateConfig.continued(known, {"epochs": 15, "long_epochs": 9})
    assert ValidateConfig(epochs=4, long_epochs=3, long_sample=0).num_checked(100) == 0


def test_what_is_given_is_checked_before_the_other_settings_are_known():
    assert ValidateConfig.check({"long_epochs": 5, "scores": "synflow"}) == "synflow"  # the run may have three epochs
    with pytest.raises(NasproxyError, match="long_sample >= 0"):
        ValidateConfig.check({"long_epochs": 5, "long_sample": -1})


@pytest.mark.slow
def test_a_failed_check_is_counted(parts, tmp_path, cpu, monkeypatch):
    from nasproxy.training import tasks

    real = tasks.train_candidate

    def failing(build, train, held_out, recipe, **named):
        if recipe.epochs == 4 and build()[0].out_channels == 4:
            return failed_fit(FailureKind.DIVERGED, "diverged: the training loss became nan", 0.1)
        return real(build, train, held_out, recipe, **named)

    monkeypatch.setattr(tasks, "train_candidate", failing)
    with torch.random.fork_rng():
        report = run(parts, tmp_path, cpu, long_sample=12)
    assert report.length.num_failed > 0
    assert report.length.agreement.n == 12 - report.length.num_failed
    assert any("longer training" in failure.stage for failure in report.failures)
    # A failed check leaves the candidate in the sample.
    assert report.scores[0].agreement.n == 12


@pytest.mark.slow
def test_every_score_is_compared_with_every_length(parts, tmp_path, cpu):
    report = run(parts, tmp_path, cpu, epochs=3, long_sample=6, long_epochs=5, scores="synflow")
    sample = [row for row in report.candidates if row.group == "sample"]
    for score in report.scores:
        assert [(point.epochs, point.within) for point in score.lengths] == [
            (1, True),
            (2, True),
            (3, False),
            (5, False),
        ]
        column = np.array([row.ranking[score.name] for row in sample])
        then = np.array([dict(row.curve)[2] for row in sample])
        expected = float(spearman(column, then))
        assert score.lengths[1].spearman.value == pytest.approx(expected, nan_ok=True)
        assert score.lengths[2].spearman == score.agreement.spearman
        assert score.lengths[3].spearman.n == 6
    first = np.array([dict(row.curve)[1] for row in sample])
    truth = np.array([row.truth for row in sample])
    size = np.array([row.scores["params"] for row in sample])
    fall = {score.name: score.fall for score in report.scores}["params"]
    assert fall.value == pytest.approx(float(spearman(size, truth) - spearman(size, first)))
    checked = [row for row in sample if row.long_truth is not None]
    size, truth, longer = np.array([[row.scores["params"], row.truth, row.long_truth] for row in checked]).T
    fall = {score.name: score.long_fall for score in report.scores}["params"]
    assert fall.value == pytest.approx(float(spearman(size, longer) - spearman(size, truth)), nan_ok=True)


def test_perfect_agreement_of_few_is_not_certain():
    assert _never_certain(Estimate(1.0, 1.0, 1.0, 8)).low == pytest.approx(0.9, abs=0.01)
    assert _never_certain(Estimate(-1.0, -1.0, -1.0, 8)).high == pytest.approx(-0.9, abs=0.01)
    wide = Estimate(0.9, 0.5, 1.0, 8)
    assert _never_certain(wide) == wide
    assert _never_certain(Estimate(None, None, None, 2, "few")).low is None


@pytest.mark.parametrize("n", [5, 8, 16])
def test_at_the_lower_end_perfect_agreement_is_rare(n):
    rho = _never_certain(Estimate(1.0, 1.0, 1.0, n)).low
    pearson = 2 * math.sin(math.pi * rho / 6)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, n))
    y = pearson * x + math.sqrt(1 - pearson**2) * rng.normal(size=x.shape)
    perfect = (x.argsort(1) == y.argsort(1)).all(1).mean()
    assert 0.005 < perfect < 0.035
