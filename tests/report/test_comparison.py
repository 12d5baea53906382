"""Several runs compared: the statistics against independent computation, what may be concluded, and the page."""

import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html import escape

import numpy as np
import pytest
from commands import nasproxy
from scipy.stats import spearmanr

from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate, holm, paired_difference, rank_correlation
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, p_value
from nasproxy.report.comparison import compare, load_runs, render_comparison, unpaired_difference, write_comparison
from nasproxy.report.comparison.conclusions import listed, same_picks
from nasproxy.report.comparison.pairs import all_pairs
from nasproxy.report.comparison.runs import Run, common_scores, notes_of, side_by_side
from nasproxy.report.data import DATA_FILE, TruthLength, save_report
from nasproxy.report.forest import ForestRow, forest_svg
from nasproxy.report.verdict import VERDICTS
from nasproxy.report.wording import rho_text
from reports import HOSTILE, make_report, nothing, parsed


def sample_of(report):
    return [row for row in report.candidates if row.group == "sample" and row.ranking]


def columns(rows):
    return np.array([row.ranking["proxy"] for row in rows]), np.array([row.truth for row in rows])


def summarised(report, rows, **changes):
    """The report with ``rows`` as its sample, and what follows from them."""
    truth = np.array([row.truth for row in rows])
    of = {score.name: np.array([row.ranking[score.name] for row in rows]) for score in report.scores}
    scores = tuple(
        replace(s, agreement=replace(s.agreement, n=len(rows), spearman=rank_correlation(of[s.name], truth)))
        for s in report.scores
    )
    gap = paired_difference(of["proxy"], of["random_subset"], truth)
    return replace(report, **{"candidates": tuple(rows), "scores": scores, "difference": gap, **changes})


base_report = cache(make_report)


@cache
def variant(n=60, *, seed=1, noise=0.3, ids="c", keep=None, shift=0.0, **changes):
    """A run of another proxy set: more ``noise`` ranks worse. Candidates and truth are those of all others of ``n``."""
    report = base_report(n)
    rng = np.random.default_rng(seed)
    rows = []
    for place, row in enumerate(sample_of(report)):
        value = row.truth + noise * float(rng.normal(0, 0.2))
        rows.append(
            replace(
                row,
                id=f"{ids}{place}",
                truth=row.truth + shift * float(rng.normal()),
                scores=row.scores | {"proxy": value},
                ranking=row.ranking | {"proxy": value},
            )
        )
    return summarised(report, rows[slice(*keep) if keep else slice(None)], **changes)


def runs_of(*reports):
    return tuple(Run(chr(65 + place), f"run-{place}", report) for place, report in enumerate(reports))


# ----------------------------------------------------------------------------------------------------------- statistics


def test_the_same_candidates_are_compared_in_pairs():
    first, second = variant(seed=1), variant(seed=2, noise=1.0)
    (pair,) = compare(runs_of(first, second)).pairs
    (x, truth), (y, _) = columns(sample_of(first)), columns(sample_of(second))
    assert pair.paired
    assert pair.difference == paired_difference(x, y, truth)
    assert pair.rhos == pytest.approx((spearmanr(x, truth).statistic, spearmanr(y, truth).statistic))
    assert (pair.shared, pair.n, pair.unlike, pair.averaged, pair.loose) == (60, (60, 60), (), False, None)


def test_only_the_shared_candidates_count_whatever_their_order():
    first, second = variant(keep=(0, 40)), variant(seed=2, keep=(20, 60))
    second = replace(second, candidates=second.candidates[::-1])
    (pair,) = compare(runs_of(first, second)).pairs
    (x, truth), (y, _) = columns(sample_of(first)[20:]), columns(sample_of(variant(seed=2))[20:40])
    assert pair.shared == 20
    assert pair.difference == paired_difference(x, y, truth)
    assert pair.loose is None  # half of each is shared


def test_where_few_are_shared_all_candidates_are_told_too():
    first, second = variant(keep=(0, 36)), variant(seed=2, keep=(24, 60))
    (pair,) = compare(runs_of(first, second)).pairs
    assert (pair.paired, pair.shared) == (True, 12)
    assert pair.loose == unpaired_difference(*columns(sample_of(first)), *columns(sample_of(second)))[0]
    assert "All candidates of both, not paired" in render_comparison(compare(runs_of(first, second)))
    (pair,) = compare(runs_of(variant(keep=(0, 36)), variant(seed=2, keep=(27, 60)))).pairs
    assert (pair.paired, pair.shared, pair.why) == (False, 9, "different candidates")


def test_candidates_without_truth_or_score_are_not_shared():
    first, second = variant(), variant(seed=2)
    rows = list(second.candidates)
    rows[0], rows[1] = replace(rows[0], truth=None), replace(rows[1], ranking={})
    rows[2] = replace(rows[2], group="top")
    (pair,) = compare(runs_of(first, replace(second, candidates=tuple(rows)))).pairs
    assert (pair.shared, pair.n) == (57, (60, 57))


def test_unpaired_difference_against_resamples_written_out():
    """The same quantiles, within their noise, from scipy's ρ on resamples of another generator."""
    rng = np.random.default_rng(5)
    (x, s), (y, t) = columns(sample_of(variant(40, noise=0.5))), columns(sample_of(variant(60, seed=2, noise=2.0)))
    found, p = unpaired_difference(x, s, y, t)

    def resampled(score, truth):
        index = rng.integers(len(truth), size=len(truth))
        return spearmanr(score[index], truth[index]).statistic

    gaps = np.array([resampled(x, s) - resampled(y, t) for _ in range(1500)])
    assert found.value == pytest.approx(spearmanr(x, s).statistic - spearmanr(y, t).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])), abs=0.04)
    assert p == pytest.approx(p_value(gaps), abs=0.02)
    assert found.n == 100
    assert unpaired_difference(x, s, y, t) == (found, p)


def test_the_two_samples_are_drawn_apart():
    """One and the same run on both sides: drawn with equal indices, all differences would be 0."""
    x, truth = columns(sample_of(variant()))
    found, p = unpaired_difference(x, truth, x, truth)
    assert found.value == 0
    assert found.low < -0.02 < 0.02 < found.high
    assert p > 0.8


def test_unpaired_intervals_cover_the_true_difference():
    """Two independent normal samples with known ρ: 95 % intervals hold the difference nearly as often as they say."""
    rng = np.random.default_rng(0)

    def drawn(n, r):
        a = rng.normal(size=n)
        return a, r * a + np.sqrt(1 - r * r) * rng.normal(size=n)

    def population(r):  # Spearman of a normal pair
        return 6 / np.pi * np.arcsin(r / 2)

    true, hits, num = population(0.7) - population(0.3), 0, 300
    for trial in range(num):
        found, _ = unpaired_difference(*drawn(40, 0.7), *drawn(60, 0.3), num_resamples=300, seed=2 * trial)
        hits += found.low <= true <= found.high
    assert 0.90 <= hits / num <= 0.985


def test_undefined_differences_say_why():
    flat = variant()
    rows = [replace(row, ranking=row.ranking | {"proxy": 0.1}) for row in flat.candidates]
    flat = summarised(flat, rows)
    (pair,) = compare(runs_of(variant(), flat)).pairs
    assert (pair.difference.value, pair.p) == (None, None)
    assert "second score are equal" in pair.difference.undefined
    (pair,) = compare(runs_of(variant(ids="x"), flat)).pairs
    assert (pair.difference.value, pair.p) == (None, None)
    assert "in the second run all 60 values of the score are equal" in pair.difference.undefined
    found = compare(runs_of(variant(), flat))
    assert "B (run-1) has no ρ: all 60 values of the score are equal." in found.verdict.details
    assert "A (run-0) is the only one with a defined ρ" in found.verdict.sentence


def test_p_values_are_adjusted_over_all_pairs():
    runs = runs_of(variant(), variant(seed=2, noise=0.8), variant(seed=3, noise=2.0, ids="x"))
    pairs = compare(runs).pairs
    assert [(pair.first, pair.second, pair.paired) for pair in pairs] == [
        ("A", "B", True),
        ("A", "C", False),
        ("B", "C", False),
    ]
    alone = [compare((runs[a], runs[b])).pairs[0].p for a, b in ((0, 1), (0, 2), (1, 2))]
    assert [pair.p for pair in pairs] == pytest.approx(holm(alone))


def test_many_runs_can_still_be_told_apart():
    """Eleven runs are 55 pairs: 2000 resamples could not bring an adjusted p-value below 0.05."""
    assert 55 * 2 / (NUM_RESAMPLES + 1) > 0.05
    good, bad = variant(16, noise=0.05), [variant(16, seed=s, noise=50.0) for s in range(10)]
    pairs = all_pairs(runs_of(good, *bad))
    assert len(pairs) == 55
    assert min(pair.p for pair in pairs) < 0.05


# ---------------------------------------------------------------------------------------------------- like for like


def test_truth_is_the_same_by_its_numbers_or_by_its_protocol():
    base = variant()
    (pair,) = compare(runs_of(base, variant(seed=2, truth_note="another name for it"))).pairs
    assert (pair.paired, pair.unlike) == (True, ())  # the numbers are equal
    trained_again = variant(seed=2, shift=0.005)
    (pair,) = compare(runs_of(base, trained_again)).pairs
    (x, s), (y, t) = columns(sample_of(base)), columns(sample_of(trained_again))
    assert (pair.paired, pair.averaged) == (True, True)
    assert pair.difference == paired_difference(x, y, (s + t) / 2)
    (pair,) = compare(runs_of(base, variant(seed=2, shift=0.005, truth_note="after 20 epochs"))).pairs
    assert (pair.paired, pair.why, pair.unlike) == (False, "different truth", ("truth",))
    table = "accuracy from the table truth.csv, column accuracy"
    (pair,) = compare(runs_of(variant(truth_note=table), variant(seed=2, shift=0.005, truth_note=table))).pairs
    assert (pair.paired, pair.unlike) == (False, ("truth",))  # a table has no noise: it was another one


def test_records_tell_spaces_and_data_apart():
    record = (("data set", "data, fingerprint 1"), ("search space", "space, hash 1"))
    other = (("data set", "data, fingerprint 2"), ("search space", "space, hash 2"))
    (pair,) = compare(runs_of(variant(reproducibility=record), variant(seed=2, reproducibility=record))).pairs
    assert pair.unlike == ()
    (pair,) = compare(runs_of(variant(reproducibility=record), variant(seed=2, ids="x", reproducibility=other))).pairs
    assert pair.unlike == ("data set", "space", "truth")
    (pair,) = compare(runs_of(variant(reproducibility=record), variant(seed=2))).pairs
    assert pair.unlike == ()  # without a record the names decide
    (pair,) = compare(runs_of(variant(), variant(seed=2, ids="x", space="other"))).pairs
    assert pair.unlike == ("space",)


# -------------------------------------------------------------------------------------------------------------- verdict


def verdict_of(*reports):
    found = compare(runs_of(*reports)).verdict
    assert found.level in VERDICTS
    return found


def test_a_best_run_is_named_when_its_advantage_is_shown():
    found = verdict_of(variant(seed=2, noise=3.0), variant(noise=0.1), variant(seed=3, noise=3.0))
    assert found.level == "believe"
    assert "B (run-1) can be trusted most: ρ = +0." in found.sentence
    assert "n = 60, and it is shown to rank better than A and C (p < 0.01, adjusted for all pairs)" in found.sentence


def test_a_best_run_by_short_truths_is_best_for_short_training_only():
    length = TruthLength(3, 10_000, False)
    short = [
        replace(report, full_seconds=10.0, length=length)
        for report in (variant(seed=2, noise=3.0), variant(noise=0.1), variant(seed=3, noise=3.0))
    ]
    found = verdict_of(*short)
    assert found.level == "short"
    assert "not shown to rank as longer training does: 3 epochs in A, B and C." in found.sentence
    one = replace(short[0], length=replace(length, full_length=True))
    assert "3 epochs in B and C." in verdict_of(one, *short[1:]).sentence


def test_a_best_run_that_does_not_beat_random_images_is_no_more_than_the_best():
    best = variant(noise=0.1)
    found = verdict_of(replace(best, difference=Estimate(0.1, -0.1, 0.3, 60)), variant(seed=2, noise=3.0))
    assert found.level == "weak"
    assert "can be trusted most" in found.sentence


def test_two_that_cannot_be_told_apart():
    first, second = variant(noise=0.8), variant(seed=2, noise=0.8)
    found = verdict_of(first, second)
    assert found.level == "weak"
    assert found.sentence.startswith("Which of these proxy sets ranks better is not shown: ")
    best, other = sorted((first, second), key=lambda r: -r.score("proxy").agreement.spearman.value)
    gap = paired_difference(*(columns(sample_of(r))[0] for r in (first, second)), columns(sample_of(first))[1])
    assert rho_text(best.score("proxy").agreement.spearman) in found.sentence
    low, high = (gap.low, gap.high) if best is first else (-gap.high, -gap.low)
    assert f"is {signed(abs(gap.value))} (95 % interval {signed(low)} to {signed(high)}), p = " in found.sentence
    assert verdict_of(second, first).sentence.count("highest") == 1
    assert other is not best


def test_better_than_one_and_not_than_the_other():
    found = verdict_of(variant(noise=0.3), variant(seed=2, noise=0.3), variant(seed=3, noise=30.0))
    assert "It is shown to rank better than C; that it ranks better than " in found.sentence
    found = verdict_of(variant(noise=0.8), variant(seed=2, noise=0.8), variant(seed=4, noise=0.8))
    assert "Which of these proxy sets ranks best is not shown" in found.sentence


def test_none_is_shown_to_rank():
    found = verdict_of(variant(20, seed=11, noise=60.0), variant(20, seed=12, noise=60.0))
    assert found.level == "not_shown"
    assert found.sentence.startswith("None of these proxy sets is shown to rank architectures better than chance")


def test_a_higher_correlation_whose_interval_includes_zero_does_not_win():
    """The highest of few candidates is the least to be trusted."""
    sure, unsure = variant(noise=1.0), variant(seed=2)
    wide = replace(unsure.scores[0].agreement, spearman=Estimate(0.95, -0.1, 1.0, 6))
    unsure = replace(unsure, scores=(replace(unsure.scores[0], agreement=wide), *unsure.scores[1:]))
    assert verdict_of(sure, unsure).sentence.startswith(
        "Which of these proxy sets ranks better is not shown: A (run-0)"
    )
    assert "the highest ρ of those that are shown to rank" in verdict_of(sure, unsure).sentence


def test_different_spaces_are_not_ranked_against_each_other():
    found = verdict_of(
        variant(noise=0.1), variant(seed=2, noise=3.0), variant(seed=3, ids="x", noise=0.05, space="other")
    )
    assert found.level == "unknown"
    assert "they differ in space: which proxy set ranks best can be said only among A and B." in found.sentence
    assert any("not comparable like for like" in detail for detail in found.details)
    assert any("A (run-0) can be trusted most" in detail for detail in found.details)
    assert any(detail.startswith("C (run-2) ranks architectures better than chance") for detail in found.details)
    alone = verdict_of(variant(), variant(seed=2, ids="x", dataset="other data"))
    assert "they differ in data set and truth: which proxy set ranks best cannot be said." in alone.sentence


def test_random_images_and_scores_that_train_nothing_are_named():
    base = variant(noise=0.3)
    strong = replace(base.scores[2].agreement, spearman=Estimate(0.99, 0.97, 1.0, 60))
    scores = (*base.scores[:2], replace(base.scores[2], agreement=strong), base.scores[3])
    found = verdict_of(replace(base, scores=scores), variant(seed=2, difference=None), variant(20, seed=3, ids="x"))
    (random,) = [detail for detail in found.details if "random images" in detail]
    assert random == "Better than equally many random images: shown for A and C; not known for B."
    (untrained,) = [detail for detail in found.details if "trains nothing" in detail]
    assert "Parameter count +0.99 in A. Each is the best of several" in untrained
    assert any("n = 20 in C" in detail for detail in found.details)
    assert "not methods" in found.details[-1]


def test_runs_without_a_validation_are_said_to_know_nothing():
    found = verdict_of(nothing(), nothing())
    assert found.level == "unknown"
    assert "Nothing can be said" in found.sentence
    found = verdict_of(variant(), replace(nothing(), truth_note=variant().truth_note))
    assert "B (run-1) has no ρ: it was not validated." in found.details


# --------------------------------------------------------------------------------------------------------- side by side


def test_a_list_of_settings_is_compared_one_by_one():
    a = (("search settings", "trials=20, rungs=, weights=(1.0, 2.0), seed=0"), ("hardware", "one, two"))
    b = (("search settings", "trials=30, rungs=, weights=(1.0, 2.5), seed=0"), ("hardware", "one, two"), ("new", "x"))
    rows = {row.name: row for row in side_by_side(runs_of(variant(reproducibility=a), variant(reproducibility=b)))}
    assert {name for name, row in rows.items() if row.differs} == {
        "search settings: trials",
        "search settings: weights",
        "new",
    }
    assert rows["search settings: weights"].values == ("(1.0, 2.0)", "(1.0, 2.5)")
    assert rows["new"].values == (None, "x")
    assert rows["hardware"].values == ("one, two", "one, two")
    assert notes_of(runs_of(variant(notes=("a", "b")), variant(notes=("b",)))) == {"a": ("A",), "b": ("A", "B")}


def test_scores_of_one_run_only_are_left_out():
    some = variant()
    found = common_scores(runs_of(some, replace(some, scores=some.scores[:2]), replace(some, scores=some.scores[:1])))
    assert [(name, [rho is not None for rho in rhos]) for name, _, rhos in found] == [
        ("proxy", [True, True, True]),
        ("random_subset", [True, True, False]),
    ]


def test_whether_picks_are_the_same():
    base = variant()
    other = replace(base, pick=replace(base.pick, id="another"))
    assert same_picks(compare(runs_of(base, other, base))) == "A and C pick the same architecture."
    assert same_picks(compare(runs_of(base, other))) == "A and B pick 2 different architectures."
    assert "No two runs" in same_picks(compare(runs_of(base, replace(base, pick=None))))
    assert "No two runs" in same_picks(compare(runs_of(base, variant(ids="x", space="other"))))


def test_words():
    assert [listed(list("ABC"[:n])) for n in (1, 2, 3)] == ["A", "A and B", "A, B and C"]


# -------------------------------------------------------------------------------------------------------------- reading


def saved(folder, **reports):
    for name, report in reports.items():
        (folder / name).mkdir(parents=True)
        save_report(report, folder / name)
    return [folder / name for name in reports]


def test_runs_are_read_in_the_order_they_are_named(tmp_path):
    one, two = saved(tmp_path, one=variant(), two=variant(seed=2))
    runs = load_runs([two, one])
    assert [(run.key, run.name) for run in runs] == [("A", "two"), ("B", "one")]
    assert runs[1].report == variant()


def test_folders_of_one_name_are_told_apart_by_their_parents(tmp_path):
    (first,), (second,) = saved(tmp_path / "x", run=variant()), saved(tmp_path / "y", run=variant())
    (third,) = saved(tmp_path, other=variant())
    assert [run.name for run in load_runs([first, second, third])] == ["x/run", "y/run", "other"]


def test_bad_runs_are_named(tmp_path, monkeypatch):
    one, two = saved(tmp_path, one=variant(), two=variant(seed=2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(one)
    (tmp_path / "empty").mkdir()
    for folders, message in (
        ([one], "at least two runs, but got 1"),
        ([one, two, one], "named twice"),
        ([one, tmp_path / "link"], "named twice"),
        ([one, tmp_path / "gone"], "gone' is no folder"),
        ([one, tmp_path / "empty"], r"empty' has no report\.json yet: finish it with `nasproxy validate"),
    ):
        with pytest.raises(NasproxyError, match=message):
            load_runs(folders)
    old = (two / DATA_FILE).read_text().replace('"ndcg"', '"gain"')  # a format without a field that must be there
    (two / DATA_FILE).write_text(old)
    with pytest.raises(NasproxyError, match=r"two/report\.json' cannot be read \(.+\).*nasproxy validate"):
        load_runs([one, two])


def test_reports_from_before_a_field_existed_are_read(tmp_path):
    import json

    one, two = saved(tmp_path, one=variant(), two=variant(seed=2))
    data = json.loads((one / DATA_FILE).read_text())
    for name in ("ceiling", "full_seconds", "sample_seconds", "differences", "effects", "epochs", "front", "objective"):
        del data[name]
    for score in data["scores"]:
        for name in ("parts", "reliability", "trained", "flops_per_candidate"):
            del score[name]
    (one / DATA_FILE).write_text(json.dumps(data))
    page = render_comparison(compare(load_runs([one, two])))
    assert page == render_comparison(compare(runs := load_runs([one, two])))
    assert runs[0].untrained.name == "params"


# ----------------------------------------------------------------------------------------------------------------- page

LONG = "a-very-long-name-of-a-run-" * 4

EXTREMES = {
    "two": lambda: runs_of(variant(), variant(seed=2, noise=1.0)),
    "unlike": lambda: runs_of(
        variant(), variant(seed=2, ids="x", space="other"), variant(seed=3, shift=0.01, truth_note="20 epochs")
    ),
    "hostile": lambda: tuple(
        Run(key, HOSTILE * 3, replace(report, notes=(HOSTILE, key), truth_note=f"{HOSTILE}{key}"))
        for key, report in zip("AB", (make_report(hostile=HOSTILE), make_report(30, hostile=HOSTILE)), strict=True)
    ),
    "many": lambda: tuple(replace(run, name=LONG) for run in runs_of(*[variant(20, seed=s) for s in range(7)])),
    "nothing": lambda: runs_of(nothing(), nothing()),
    "three candidates": lambda: runs_of(make_report(3), make_report(3)),
}


@pytest.fixture(scope="module")
def pages():
    """Every page once: bootstraps of many pairs take seconds."""
    return {name: render_comparison(compare(make())) for name, make in EXTREMES.items()}


@pytest.mark.parametrize("name", EXTREMES)
def test_page_is_whole_and_asks_nobody_for_anything(pages, name):
    page = pages[name]
    tags = parsed(page)
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "script", "img")]
    for _, attributes in tags:
        assert not attributes.keys() & {"src", "href", "srcset", "action"}
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'; style-src 'unsafe-inline'\"" in page
    assert not re.search(r"\bnan\b|\bNone\b|\bTrue\b", page.replace("None of these proxy sets", ""))
    assert not re.search(r"\d\d:\d\d|2026-01-01", page)  # no time, not even that of the reports


@pytest.mark.parametrize("name", EXTREMES)
def test_tables_and_pictures_speak(pages, name):
    """Every table has a caption, and heads that say what they are heads of; every picture says its numbers."""
    page = pages[name]
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert len(tables) >= 5
    assert all("<caption" in table for table in tables)
    assert all("scope" in attributes for tag, attributes in parsed(page) if tag == "th")
    pictures = [attributes for tag, attributes in parsed(page) if tag == "svg" and attributes.get("class") == "forest"]
    assert len(pictures) == 2
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    names = [attributes["id"] for _, attributes in parsed(page) if "id" in attributes]
    assert len(names) == len(set(names))
    assert {a["aria-labelledby"] for _, a in parsed(page) if "aria-labelledby" in a} == set(names)


def test_the_page_has_the_numbers():
    found = compare(EXTREMES["two"]())
    page = render_comparison(found)
    (pair,) = found.pairs
    for estimate in (found.runs[0].rho, found.runs[1].rho, pair.difference):
        assert page.count(f"{signed(estimate.low)} to {signed(estimate.high)}") >= 3  # table, picture, spoken
    assert escape(found.verdict.sentence, quote=False) in page.replace("&#39;", "'")
    assert "60 shared" in page
    assert "Paired." in page
    assert "Not paired: different candidates." in render_comparison(compare(EXTREMES["unlike"]()))
    assert "Not like for like: another truth." in render_comparison(compare(EXTREMES["unlike"]()))


def test_hostile_names_are_text(pages):
    assert "<script" not in pages["hostile"]
    assert pages["hostile"].count("&lt;script&gt;") >= 10


def test_equal_reports_give_equal_bytes(tmp_path, pages):
    for name in ("one.html", "two.html"):
        write_comparison(compare(EXTREMES["two"]()), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes() == pages["two"].encode()


def test_forest_by_hand():
    svg = forest_svg([ForestRow("A", (("proxy", Estimate(0.5, 0.0, 1.0, 9)),))], "ρ", "Title")
    assert 'd="M12.0 28H388.0"' in svg  # from 0 to 1 over the whole width
    assert '<circle class="proxy" cx="200.0"' in svg
    assert "Title. A: proxy +0.50 (95 % interval 0.00 to +1.00)." in svg
    undefined = forest_svg([ForestRow("A", (("proxy", Estimate(None, None, None, 3, "too few")),))], "ρ", "T")
    assert "undefined" in undefined
    assert "<circle" not in undefined


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["two", "hostile", "many"])
def test_no_sideways_scrolling_in_a_real_browser(tmp_path, pages, width, name):
    """A window of Chromium is at least 500 pixels wide: the page stands in a frame and says how wide its content is."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    page = re.sub(r"<meta http-equiv=[^>]*>", "", pages[name])  # it forbids scripts, and one must measure
    script = "parent.document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    page = page.replace("</body>", f"<script>{script}</script></body>")
    path = tmp_path / "frame.html"
    path.write_text(f'<iframe style="border:0;width:{width}px;height:2000px" srcdoc="{escape(page)}"></iframe>')
    result = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,2000", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    content, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", result.stdout).groups())
    assert window == width
    assert content <= window


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command_compares_and_says_where(tmp_path):
    saved(tmp_path / "reports", one=variant(), two=variant(seed=2, noise=3.0))
    text = nasproxy(tmp_path, "report", "reports/one", "reports/two")
    page = tmp_path / "reports" / "compare.html"
    assert text.splitlines()[-1] == "report    reports/compare.html"
    assert page.read_text() == render_comparison(
        compare(load_runs([tmp_path / "reports" / "one", tmp_path / "reports" / "two"]))
    )
    assert re.search(r"^A +one +n = 60 +ρ = \+0\.\d\d \(", text, re.MULTILINE)
    assert re.search(
        r"^A − B +(?:difference )?\+0\.\d\d \(.*\) +p < 0\.01 +paired: 60 shared candidates$", text, re.MULTILINE
    )
    assert "A (one) can be trusted most" in text
    saved(tmp_path / "elsewhere", three=variant(seed=3))
    text = nasproxy(tmp_path, "report", "reports/one", "elsewhere/three")
    assert text.splitlines()[-1] == "report    compare.html"
    text = nasproxy(tmp_path, "report", "reports/one", "elsewhere/three", "--out", "pages/x.html")
    assert (tmp_path / "pages" / "x.html").is_file()


def test_the_command_explains_what_is_wrong(tmp_path):
    saved(tmp_path, one=variant(20), two=variant(20))
    for arguments, message in (
        (["one", "one"], "'one' is named twice"),
        (["one", "gone"], "'gone' is no folder"),
        (["one", "two", "--out", "."], "--out takes a file, but '.' is a folder"),
    ):
        (line,) = nasproxy(tmp_path, "report", *arguments, code=2).splitlines()
        assert line.startswith("nasproxy: ")
        assert message in line
