import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import written
from toy import TINY_SPACE, toy_dataset, toy_proxy, toy_sets

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import lexicographic_ranks, spearman
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.loop import SearchResult, run_search
from nasproxy.search.objective import single
from nasproxy.spaces import inspect_space, load_space, uniform_sample
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.session import Session
from nasproxy.validation.truth_table import load_truth
from nasproxy.validation.validate import validate

CPU = torch.device("cpu")


@pytest.fixture
def parts(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    space = load_space(path)
    dataset = toy_dataset()
    proxy = toy_proxy(dataset, epochs=3)
    task = proxy_task(proxy, dataset)
    return space, dataset, proxy, task, inspect_space(space, dataset.input_shape, dataset.num_classes)


def run(parts, folder, cpu, *, trials=4, seeds_of_scores=1, truth=None, beside=(), **settings):
    _, dataset, proxy, task, inspection = parts
    search_config = SearchConfig(trials=trials, seeds=seeds_of_scores)
    ledger = Ledger(folder / "evaluations.sqlite")
    try:
        session = Session(folder, ledger, Inline(CPU), cpu)
        result = run_search(inspection, task, search_config, session)
        config = ValidateConfig(**({"sample": 6, "top": 2, "epochs": 1, "k": 2, "scores": "none"} | settings))
        return validate(result, proxy, dataset, config, session, truth=truth, beside=beside)
    finally:
        ledger.close()


def test_sample_is_uniform_distinct_and_nested(parts):
    inspection = parts[4]
    counts = dict.fromkeys((c.id for c in inspection.valid), 0)
    for seed in range(600):
        small, large = (uniform_sample(inspection, size, seed) for size in (3, 5))
        assert large[:3] == small
        assert len({c.id for c in large}) == 5
        for candidate in small:
            counts[candidate.id] += 1
    # 600 × 3 / 16 = 112.5 each, standard deviation 9.6
    assert min(counts.values()) > 70
    assert max(counts.values()) < 155
    assert len(uniform_sample(inspection, 100, 0)) == 16


def test_continuous_spaces_are_sampled_too(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: c\nnetwork: convnet\nparameters:\n  dropout: {range: [0.0, 0.5]}\n  width: [4]\n  depth: [1]\n"
    )
    inspection = inspect_space(load_space(path), (1, 8, 8), 3, sample=5)
    small, large = (uniform_sample(inspection, size, 0) for size in (3, 6))
    assert len({c.id for c in large}) == 6
    assert large[:3] == small


def test_numbers_follow_from_the_rows(parts, tmp_path, cpu):
    report = run(parts, tmp_path / "run", cpu)
    sample = [row for row in report.candidates if row.group == "sample"]
    top = [row for row in report.candidates if row.group == "top"]
    assert (len(sample), len(top)) == (6, 2)
    assert report.num_invalid == 0
    truth = np.array([row.truth for row in sample])
    by_name = {score.name: score for score in report.scores}
    assert list(by_name) == ["proxy", "random_subset", "params", "flops"]
    for name in ("params", "flops"):
        column = np.array([row.scores[name] for row in sample])
        assert by_name[name].agreement.spearman.value == pytest.approx(float(spearman(column, truth)))
        assert by_name[name].agreement.n == 6
    assert report.pick.truth == max(row.truth for row in top)
    assert 0 <= report.pick_test_accuracy <= 1
    assert report.difference.n == 6
    assert all(set(row.scores) == {"proxy", "random_subset", "params", "flops"} for row in sample)
    assert {cost.what for cost in report.costs} >= {"Building the proxy set", "Search"}


def test_proxy_column_ranks_by_accuracy_with_the_loss_breaking_ties(parts, tmp_path, cpu):
    report = run(parts, tmp_path / "run", cpu)
    ledger = Ledger(tmp_path / "run" / "evaluations.sqlite")
    sample = [row for row in report.candidates if row.group == "sample"]
    rows = [ledger.get(row.id, "proxy", parts[3].setting, 0) for row in sample]
    ledger.close()
    ranks = lexicographic_ranks(np.array([r.value for r in rows]), -np.array([r.loss for r in rows]))
    truth = np.array([row.truth for row in sample])
    assert report.scores[0].agreement.spearman.value == pytest.approx(float(spearman(ranks, truth)))


def test_what_is_trained_is_kept(parts, tmp_path, cpu, monkeypatch):
    first = run(parts, tmp_path / "run", cpu)
    monkeypatch.setattr("nasproxy.training.tasks.train_candidate", lambda *a, **k: pytest.fail("trained again"))
    again = run(parts, tmp_path / "run", cpu)
    assert again.scores == first.scores
    assert again.candidates == first.candidates


def test_failures_are_counted_listed_and_left_out(parts, tmp_path, cpu, monkeypatch):
    from nasproxy.training import tasks as evaluations
    from nasproxy.training.results import FailureKind, failed_fit

    real = evaluations.train_candidate

    def failing(build, train, *arguments, **named):
        if len(train.images) == 120 and build()[0].out_channels == 4:  # full training of the narrow ones
            return failed_fit(FailureKind.DIVERGED, "diverged: the training loss became nan", 0.1)
        return real(build, train, *arguments, **named)

    monkeypatch.setattr(evaluations, "train_candidate", failing)
    with torch.random.fork_rng():
        report = run(parts, tmp_path / "run", cpu, sample=12)
    narrow = [row for row in report.candidates if row.params["width"] == 4]
    assert narrow
    assert all(row.truth is None for row in narrow)
    failed = {failure.candidate for failure in report.failures}
    assert failed == {row.id for row in narrow}
    assert all("nan" in failure.reason for failure in report.failures)
    sample = [row for row in report.candidates if row.group == "sample" and row.truth is not None]
    assert {score.agreement.n for score in report.scores} == {len(sample)}


def test_without_candidates_everything_is_undefined_in_words(parts, tmp_path, cpu, monkeypatch):
    monkeypatch.setattr("nasproxy.validation.score_tasks.make_task", None)  # no rival is made for nothing
    report = run(parts, tmp_path / "run", cpu, sample=0, top=0)
    assert all(score.agreement.spearman.value is None for score in report.scores)
    assert all(score.agreement.spearman.undefined for score in report.scores)
    assert report.pick is not None
    assert report.pick.truth is None
    assert report.pick_test_accuracy is None


def test_too_few_real_images_for_the_baseline_is_said(parts, tmp_path, cpu):
    space, dataset, proxy, task, inspection = parts
    many = replace(
        proxy,
        images=proxy.images.repeat_interleave(21, dim=1)[:, : 3 * 41],
        labels=torch.arange(3).repeat_interleave(41)[None],
    )
    report = run((space, dataset, many, task, inspection), tmp_path / "run", cpu)
    assert report.difference is None
    assert any("40 training images and ipc=41" in note for note in report.notes)
    assert [score.name for score in report.scores] == ["proxy", "params", "flops"]


@pytest.mark.slow
def test_truth_from_a_table(parts, tmp_path, cpu):
    lines = ["width,depth,activation,norm,accuracy,more"]
    for i, candidate in enumerate(parts[0].enumerate()):
        if i % 2:
            lines.append(",".join(map(str, candidate.params.values())) + f",{i / 100},x")
    truth = load_truth(written(tmp_path, "\n".join(lines)), parts[0])
    assert len(truth.accuracy) == 8
    report = run(parts, tmp_path / "run", cpu, truth=truth, trials=16, sample=20, top=3)
    sample = [row for row in report.candidates if row.group == "sample"]
    assert len(sample) == 8
    assert all(row.truth == truth.accuracy[row.id] for row in sample)
    assert sum(row.group == "top" for row in report.candidates) == 3
    assert "truth.csv" in report.truth_note


def test_empty_search_still_validates(parts, tmp_path, cpu):
    _, dataset, proxy, task, inspection = parts
    ledger = Ledger(tmp_path / "e.sqlite")
    session = Session(tmp_path, ledger, Inline(CPU), cpu)
    nothing = SearchResult(inspection, SearchConfig(), single(task))
    report = validate(nothing, proxy, dataset, ValidateConfig(sample=3, top=3, epochs=1), session)
    ledger.close()
    assert report.pick is None
    assert len(report.candidates) == 3


@pytest.mark.slow
def test_seeds_give_a_ceiling_and_parts_say_where_a_score_ranks(parts, tmp_path, cpu):
    report = run(parts, tmp_path / "run", cpu, sample=16, seeds=2, scores="synflow,early_stop")
    names = [score.name for score in report.scores]
    assert names == ["proxy", "random_subset", "synflow", "early_stop", "params", "flops"]
    assert report.ceiling.n == 16
    assert report.ceiling.value is not None
    by_name = {score.name: score for score in report.scores}
    assert by_name["params"].reliability.value == 1.0
    assert "two seeds" in by_name["proxy"].reliability.undefined  # the search had one
    kinds = [part.kind for part in by_name["proxy"].parts]
    assert kinds[0] == "top"
    assert {"size", "beyond size", "width", "activation", "norm", "depth"} <= set(kinds)
    assert [one.score for one in report.differences] == names[1:]
    assert report.difference == report.differences[0].difference
    assert report.sample_seconds > 0


def test_a_score_that_cannot_be_measured_is_left_out_with_the_reason(parts, tmp_path, cpu, monkeypatch):
    from nasproxy.scores import zero_cost

    monkeypatch.setitem(
        zero_cost.ZERO_COST, "synflow", zero_cost.ZeroCost(lambda *_: float("nan"), "SynFlow", "broken here")
    )
    report = run(parts, tmp_path / "run", cpu, scores="synflow,naswot")
    assert [score.name for score in report.scores] == ["proxy", "random_subset", "naswot", "params", "flops"]
    assert any("No row for SynFlow" in note and "synflow is nan" in note for note in report.notes)


def test_a_score_of_minus_infinity_ranks_last(parts, tmp_path, cpu, monkeypatch):
    from nasproxy.scores import zero_cost

    def params_or_nothing(fresh):
        count = sum(p.numel() for p in fresh.net.parameters())
        return float(count) if count > 300 else -math.inf

    monkeypatch.setitem(zero_cost.ZERO_COST, "synflow", zero_cost.ZeroCost(params_or_nothing, "SynFlow", "a stand-in"))
    report = run(parts, tmp_path / "run", cpu, scores="synflow", sample=8)
    rows = [row for row in report.candidates if row.group == "sample" and row.ranking]
    lowest = [row for row in rows if row.scores["synflow"] is None]
    assert 0 < len(lowest) < len(rows)
    assert {row.ranking["synflow"] for row in lowest} == {min(row.ranking["synflow"] for row in rows)}
    counts = [max(row.scores["params"], 300) for row in rows]
    expected = spearman(np.array(counts, dtype=float), np.array([row.truth for row in rows]))
    assert report.score("synflow").agreement.spearman.value == pytest.approx(expected)
    text = f"SynFlow is minus infinity for {len(lowest)} of {len(rows)} candidates, which it ranks last."
    assert text in report.notes
    assert report.failures == ()  # the lowest rank is no failure


@pytest.mark.slow
def test_other_sets_stand_beside_and_random_images_are_drawn_for_every_seed(parts, tmp_path, cpu):
    other = toy_proxy(parts[1], ipc=3, epochs=9)
    report = run(parts, tmp_path / "run", cpu, seeds_of_scores=2, seeds=2, epochs=2, beside=[other], sample=8)
    name = f"random-{other.content_id[:8]}"
    assert [score.name for score in report.scores] == ["proxy", name, "random_subset", "params", "flops"]
    by_name = {score.name: score for score in report.scores}
    assert by_name[name].num_images == 9
    assert by_name[name].trained
    ledger = Ledger(tmp_path / "run" / "evaluations.sqlite")
    with ledger._engine.connect() as connection:
        query = "SELECT score, COUNT(DISTINCT setting), COUNT(*) FROM evaluations GROUP BY score"
        found = {score: (settings, rows) for score, settings, rows in connection.exec_driver_sql(query)}
    ledger.close()
    assert found["random_subset"] == (2, 16)
    assert found[name] == (1, 16)
    # Both sets were trained for the epochs of the search, so equally many.
    rows = [row for row in report.candidates if row.group == "sample"]
    assert all(len(row.curve) == 2 and row.curve[-1] == (2, row.truth) for row in rows)
    assert all(set(row.stds) == {"proxy", name, "random_subset"} for row in rows)
    assert [one.epoch for one in report.epochs] == [1, 2]
    assert report.epochs[-1].final.value == 1
    assert report.epochs[-1].proxy.value == pytest.approx(by_name["proxy"].agreement.spearman.value)
    assert {effect.parameter for effect in report.effects} == {"width", "depth", "activation", "norm"}
    assert {bias.parameter for bias in by_name["proxy"].biases} <= {"width", "depth", "activation", "norm"}
    flops = np.mean([row.scores["flops"] for row in rows])
    assert by_name["proxy"].flops_per_candidate == pytest.approx(2 * flops * (3 * 3 * 6 + 60))
    assert by_name["params"].flops_per_candidate == 0
    assert report.costs[0].flops == 0  # random images


def test_sets_of_one_method_and_size_have_labels_of_their_own(parts, tmp_path, cpu):
    proxy = parts[2]
    others = [replace(proxy, images=proxy.images * factor) for factor in (0.9, 0.8)]
    report = run(parts, tmp_path / "run", cpu, epochs=1, beside=others, sample=2)
    labels = [score.label for score in report.scores][:3]
    assert labels[0].endswith("per class)")
    assert [label.removesuffix(")")[-8:] for label in labels[1:]] == [other.content_id[:8] for other in others]


def test_a_set_beside_trains_as_the_search_does_or_as_it_was_learned(parts, tmp_path, cpu):
    proxy = parts[2]
    in_order = replace(proxy, recipe=replace(proxy.recipe, shuffle=False, epochs=4))
    report = run(parts, tmp_path / "own", cpu, epochs=1, beside=[proxy, in_order], sample=2)
    trained = {score.name: score.flops_per_candidate for score in report.scores[:3]}
    own, same, learned = trained.values()
    flops = np.mean([row.scores["flops"] for row in report.candidates if row.group == "sample"])
    assert own == same
    assert learned - own == pytest.approx(3 * 6 * flops)  # one epoch more


@pytest.mark.slow
def test_of_several_sets_every_seed_has_another(parts, tmp_path, cpu):
    space, dataset, _, _, inspection = parts
    proxy = replace(toy_sets(dataset, epochs=3), record=parts[2].record | {"seconds": 30.0})
    own = (space, dataset, proxy, proxy_task(proxy, dataset), inspection)
    first, both = (run(own, tmp_path / str(n), cpu, seeds_of_scores=n, beside=[proxy]) for n in (1, 2))
    labels = [score.label for score in (first.scores[0], both.scores[0], both.scores[1])]
    assert labels[0] == "Proxy set (random, 2 per class)"
    assert labels[1] == "Proxy set (random, 2 per class, 2 sets)"
    assert labels[2] == f"Proxy set (random, 2 per class, {proxy.content_id[:8]}, 2 sets)"
    assert [report.scores[0].one_off_seconds for report in (first, both)] == [10, 20]
    assert {cost.what: cost.seconds for cost in first.costs}["Building 1 of 3 proxy sets"] == 10
    assert {cost.what: cost.seconds for cost in both.costs}["Building 2 of 3 proxy sets"] == 20
    assert first.scores[0].num_images == both.scores[0].num_images == 6  # of each training


def test_a_set_of_other_data_is_refused_beside(parts, tmp_path, cpu):
    other = toy_proxy(replace(parts[1], fingerprint="e" * 64))
    with pytest.raises(NasproxyError, match="must come from the data"):
        run(parts, tmp_path / "run", cpu, beside=[other])


@pytest.mark.slow
def test_rivals_at_equal_total_cost_are_there_where_the_set_cost_something(parts, tmp_path, cpu):
    from nasproxy.condense.build import build_proxy
    from nasproxy.config import condense_config

    names = "random_total,early_stop_total"
    free = run(parts, tmp_path / "free", cpu, scores=names)
    assert "random_total" not in [score.name for score in free.scores]
    space, dataset, _, _, inspection = parts
    config = condense_config(ipc=2, outer_steps=4, inner_steps=2, net_steps=2, width=8, depth=1, batch_real=40)
    learned = build_proxy(dataset, config, choice=cpu)
    learned = replace(learned, recipe=replace(learned.recipe, epochs=10))
    learnt = (space, dataset, learned, proxy_task(learned, dataset), inspection)
    cheap = run(learnt, tmp_path / "cheap", cpu, scores=names, trials=1)  # full training is one epoch
    assert "random_total" not in [score.name for score in cheap.scores]
    assert any("each of them could be trained fully" in note for note in cheap.notes)
    report = run(learnt, tmp_path / "run", cpu, scores=names, trials=2, epochs=40)
    by_name = {score.name: score for score in report.scores}
    assert by_name["random_total"].num_images > by_name["random_subset"].num_images
    assert by_name["early_stop_total"].flops_per_candidate > by_name["proxy"].flops_per_candidate
    assert report.costs[0].flops > 0


def test_the_nearest_real_image_is_found(parts):
    from nasproxy.validation.pictures import nearest_real, pictures_of

    _, dataset, proxy, _, _ = parts
    found = nearest_real(proxy, proxy.labels[0], dataset)
    real = dataset.normalize(dataset.train.images[found])
    assert torch.allclose(real, proxy.images[0])  # it holds real images
    noisy = proxy.images[0] + 0.05 * torch.randn(proxy.images[0].shape, generator=torch.Generator().manual_seed(0))
    moved = replace(proxy, images=noisy[None])
    for place, image in enumerate(noisy):
        own = (dataset.train.labels == proxy.labels[0, place]).nonzero()[:, 0]
        gaps = [float((dataset.normalize(dataset.train.images[i : i + 1])[0] - image).norm()) for i in own.tolist()]
        assert nearest_real(moved, proxy.labels[0], dataset)[place] == own[int(np.argmin(gaps))]
    pictures, _ = pictures_of(proxy, dataset)
    assert all(picture.nearest for picture in pictures)
