import base64
import csv
import hashlib
import html
import io
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import amount, compact, energy_text, percent, precise_duration, signed
from nasproxy.correlation import (
    Bias,
    Difference,
    Effect,
    Estimate,
    Part,
    differences,
    parts,
    rank_agreement,
)
from nasproxy.report.data import (
    ClassPicture,
    read_report,
    save_report,
)
from nasproxy.report.page import QUESTIONS, candidates_csv, render_report, write_report
from nasproxy.report.png import class_strips
from nasproxy.report.verdict import VERDICTS, advice, break_even, last_lines, verdict, warnings_of
from reports import HOSTILE, downloads, make_report, modern, nothing, parsed, several_objectives


def from_a_table():
    """Full accuracies that nobody trained: no spread, no curves, no seconds."""
    report = modern()
    rows = tuple(replace(row, truth_std=None, truth_seeds=1, curve=()) for row in report.candidates)
    return replace(report, candidates=rows, full_seconds=None, epochs=(), pick=replace(report.pick, curve=()))


def constant():
    """A proxy that says the same of all: no correlation is defined."""
    report = modern()
    rows = tuple(
        replace(row, scores=row.scores | {"proxy": 0.1}, ranking=row.ranking and row.ranking | {"proxy": 0.1})
        for row in report.candidates
    )
    truth = np.array([row.truth for row in rows if row.group == "sample"])
    own = rank_agreement(np.full(len(truth), 0.1), truth, k=5)
    proxy = replace(report.scores[0], agreement=own, biases=())
    return replace(report, candidates=rows, scores=(proxy, *report.scores[1:]), difference=None)


def unvalidated():
    report = make_report()
    return replace(report, pick=replace(report.pick, truth=None), pick_test_accuracy=None)


EXTREMES = {
    "ordinary": make_report,
    "hostile": lambda: make_report(hostile=HOSTILE),
    "large": lambda: make_report(300, top=10, failures=100),
    "three": lambda: make_report(3),
    "nothing": nothing,
    "infinite space": lambda: replace(make_report(), space_size=None),
    "no truth for the pick": unvalidated,
    "modern": modern,
    "modern, hostile": lambda: modern(hostile=HOSTILE),
    "modern, three": lambda: modern(3),
    "modern, many": lambda: modern(310, top=10),
    "from a table": from_a_table,
    "constant score": constant,
    "one parameter": lambda: modern(num_parameters=1),
    "twenty parameters": lambda: modern(num_parameters=20),
    "several objectives": several_objectives,
    "failed sample": lambda: replace(
        modern(), candidates=tuple(replace(row, truth=None, ranking={}) for row in modern().candidates)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREMES)
def test_page_is_whole_and_asks_nobody_for_anything(name):
    report = EXTREMES[name]()
    page = render_report(report)
    tags = parsed(page)
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object")]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)  # the one that the policy names by its digest
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    for tag, attributes in tags:
        for key in ("src", "href", "srcset", "action"):
            assert attributes.get(key, "data:").startswith(("data:", "#")), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\((?!#)|@import", page)  # figures clip by what stands in themselves
    assert "default-src 'none'" in page
    assert not re.search(r"\bnan\b|\bNone\b|\bTrue\b", re.sub(r"base64,[^\"]*", "", page))
    assert len(page) < 1_500_000
    assert render_report(report) == page
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"][1:] for _, attributes in tags if attributes.get("href", "").startswith("#")]
    targets += [attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes]
    assert set(targets) <= set(ids)


@pytest.mark.slow
@pytest.mark.parametrize("num_parameters", [5, 20])
def test_a_thousand_candidates_stay_under_five_megabytes(num_parameters):
    """With everything that is measured, and an image of noise for every class, which does not compress."""
    report = modern(1000, num_parameters=num_parameters, top=10)
    noise = np.random.default_rng(0).integers(0, 256, (100, 3, 32, 32)).astype(np.uint8)
    strips = class_strips(noise, np.arange(100) % 10, list("abcdefghij"), max_classes=10, max_images=10)
    pngs = [base64.b64encode(png).decode() for _, png in strips]
    page = render_report(replace(report, pictures=tuple(ClassPicture("a", png, png) for png in pngs)))
    assert len(page.encode()) < 5_000_000
    assert "300 of 1000 are drawn" in page


def test_questions_stand_in_their_order():
    page = render_report(modern())
    headings = [html.unescape(text) for text in re.findall(r"<h2[^>]*>(.*?)</h2>", page)]
    assert headings == [question for _, question in QUESTIONS]
    assert headings[0] == "Can I trust this proxy?"
    assert page.index('class="card verdict') < page.index("<table")  # no numbers before the verdict
    assert re.search(r"ρ\s=\s", page).start() < page.index("<svg")


def test_what_an_old_report_lacks_is_left_out():
    """Spreads, curves, effects, biases, FLOPs and energy came later."""
    old, new = render_report(make_report()), render_report(modern())
    for words in (
        "Learning curves of",
        "Importance of parameters",
        "By parameter",
        "epochs of full training",
        "Energy",
    ):
        assert words in new
        assert words not in old


def test_every_figure_has_a_text_alternative():
    tags = parsed(render_report(modern()))
    figures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(figures) >= 14
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for attributes in figures)
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")


def test_tables_have_captions_and_heads():
    page = render_report(several_objectives())
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert len(tables) >= 10
    for table in tables:
        assert "<caption" in table
        assert 'scope="col"' in table


def test_one_candidate_has_one_number_in_all_figures_and_tables():
    report = modern()
    page = render_report(report)
    named = re.findall(r'data-id="(\d+)"><title>(.*?): ', page)
    label = {str(i): html.escape(row.label) for i, row in enumerate(report.candidates[:24])}
    assert len(named) > 100
    assert all(label[number] == name.removeprefix("the ") for number, name in named)


@pytest.mark.slow
def test_names_of_many_candidates_stand_once():
    report = modern(310, num_parameters=20)
    page = render_report(report)
    assert page.count(f'data-name="{report.candidates[0].label}"') == 1
    assert page.count(f"<title>{report.candidates[0].label}") == 0


@pytest.mark.parametrize(("limit", "suffix"), [(400_000, ""), (1_000, ".gz")])
def test_downloads_are_the_data(limit, suffix, monkeypatch):
    monkeypatch.setattr("nasproxy.report.page.MAX_PLAIN", limit)
    report = modern()
    found = downloads(render_report(report))
    assert found["candidates.csv" + suffix] == candidates_csv(report)
    data = json.loads(found["report.json" + suffix])
    assert data == json.loads(json.dumps({k: v for k, v in asdict(report).items() if k != "pictures"}))
    (first, *_) = csv.DictReader(io.StringIO(found["candidates.csv" + suffix]))
    row = report.candidates[0]
    assert float(first["full_accuracy"]) == row.truth
    assert float(first["proxy_std"]) == 0.02
    assert float(first["accuracy_epoch_4"]) == row.truth


def test_outliers_are_named_with_their_ranks():
    report = make_report(20)
    rows = list(report.candidates)
    rows[0] = replace(rows[0], ranking=rows[0].ranking | {"proxy": 99.0})  # the truly worst
    page = render_report(replace(report, candidates=tuple(rows)))
    over = page[page.index("Most overrated by the proxy</h4>") :]
    assert re.search(r'<tr data-id="0"><th[^>]*>width=0 norm=batch</th><td>1</td><td>20</td>', over)


def test_strongest_misjudgements_are_said():
    report = modern()
    told = (
        Bias("norm", "batch", Estimate(0.17, 0.08, 0.25, 9)),
        Bias("norm", "none", Estimate(-0.02, -0.1, 0.1, 9)),
        Bias("depth", "4", Estimate(-0.21, -0.3, -0.1, 9)),
    )
    page = render_report(replace(report, scores=(replace(report.scores[0], biases=told), *report.scores[1:])))
    assert "It ranks depth = 4 too low, by 21; norm = batch too high, by 17 places in a hundred" in page
    assert "for 2 of 3 values" in page
    page = render_report(replace(report, scores=(replace(report.scores[0], biases=told[1:2]), *report.scores[1:])))
    assert "For none of the 1 values" in page


def test_importance_stands_side_by_side():
    report = modern()
    effect = Effect("depth", Estimate(0.4, 0.2, 0.6, 24))
    own = Effect("depth", Estimate(0.1, -0.1, 0.3, 24))
    scores = (replace(report.scores[0], effects=(own,)), *report.scores[1:])
    page = render_report(replace(report, effects=(effect,), scores=scores))
    assert "depth +40 % (+20 to +60) and +10 % (−10 to +30)" in page


def test_hostile_names_are_text():
    page = render_report(make_report(hostile=HOSTILE))
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") >= 10
    page = render_report(modern(hostile=HOSTILE))
    assert page.count("<script") == 1
    assert "<title><script" not in page


def test_every_score_stands_in_the_table_with_its_numbers():
    report = make_report()
    page = render_report(report)
    for score in report.scores:
        assert f'<th scope="row">{score.label}</th>' in page
        if score.agreement.spearman.value is not None:
            assert signed(score.agreement.spearman.value) in page
    assert "all 20 values of the score are equal" in page  # flops
    assert "n = 20" in page


def test_long_lists_are_cut_and_say_so():
    page = render_report(make_report(failures=100))
    assert page.count("diverged") == 40
    assert "and 60 more" in page


def test_data_survive_the_disk_and_give_the_same_page(tmp_path):
    report = make_report()
    save_report(report, tmp_path)
    again = read_report(tmp_path)
    assert again == report
    write_report(again, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == render_report(report)


def test_unfinished_and_damaged_runs_are_named(tmp_path):
    with pytest.raises(NasproxyError, match="nasproxy validate"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"title": 3}')
    with pytest.raises(NasproxyError, match=r"report\.json"):
        read_report(tmp_path)


def estimate(value, low, high, n=60):
    return Estimate(value, low, high, n)


@pytest.mark.parametrize(
    ("rho", "difference", "level"),
    [
        ((0.7, 0.5, 0.8), (0.3, 0.1, 0.5), "believe"),
        ((0.7, 0.5, 0.8), (0.1, -0.1, 0.3), "weak"),
        ((0.7, 0.5, 0.8), None, "weak"),
        ((0.4, 0.2, 0.6), (-0.3, -0.5, -0.1), "worse"),
        ((0.1, -0.2, 0.4), (0.0, -0.2, 0.2), "not_shown"),
        ((0.1, -0.2, 0.4), (0.3, 0.1, 0.5), "not_shown"),
        ((-0.5, -0.7, -0.2), (-0.8, -1.0, -0.5), "harmful"),
    ],
)
def test_verdicts(rho, difference, level):
    base = make_report()
    agreement = replace(base.scores[0].agreement, n=60, spearman=estimate(*rho))
    report = replace(
        base,
        scores=(replace(base.scores[0], agreement=agreement), *base.scores[1:]),
        difference=None if difference is None else estimate(*difference),
    )
    found = verdict(report)
    assert found.level == level
    assert level in VERDICTS
    assert "n = 60" in found.sentence
    assert f"ρ = {signed(rho[0])} (95 % interval {signed(rho[1])} to {signed(rho[2])})" in found.sentence


def test_verdict_of_few_or_no_candidates():
    assert verdict(replace(make_report(), scores=())).level == "unknown"
    found = verdict(make_report(3))
    assert found.level == "unknown"
    assert "n = 3" in found.sentence


def test_a_better_free_score_is_named():
    report = make_report(60, noise=8.0)
    params = report.scores[2]
    strong = replace(params, agreement=replace(params.agreement, spearman=estimate(0.95, 0.9, 0.99)))
    details = verdict(replace(report, scores=(*report.scores[:2], strong, report.scores[3]))).details
    assert any("Parameter count ranks better than the proxy set" in detail for detail in details)


def test_last_lines():
    first, second, third = last_lines(make_report())
    assert "Spearman ρ" in first
    assert "random real subset" in first
    assert "test accuracy 81.2 %" in second
    assert "building the proxy set 12 s" in third
    assert "not trained on the full data" in last_lines(unvalidated())[1]
    assert "No pick" in last_lines(replace(make_report(), pick=None))[1]


def test_numbers_for_people():
    assert signed(-0.104) == "−0.10"
    assert signed(0.0) == signed(-0.001) == "0.00"
    assert percent(0.5432) == "54.3 %"
    assert percent(0.5, 0.012) == "50.0 ± 1.2 %"
    assert percent(None) == "–"
    texts = {None: "–", 0: "0", 0.123: "0.12 s", 45: "45 s", 600: "10.0 min", 9000: "2.5 h"}
    assert {seconds: precise_duration(seconds) for seconds in texts} == texts


def test_break_even_by_hand():
    """12 s of making, 0.5 s on the proxy, 2.5 s of full training: six candidates take as long, the seventh pays."""
    report = replace(make_report(), full_seconds=2.5)
    assert "from 7 candidates on: each takes 2.5 s of full training and 0.5 s on the proxy" in break_even(report)
    assert break_even(replace(report, full_seconds=0.4)).startswith("The proxy set never saves time here")
    assert break_even(replace(report, full_seconds=None)) is None
    assert "from 7 candidates" in render_report(report)


def test_the_rival_at_equal_cost_is_named_first_after_the_random_subset():
    report = make_report(60)
    rival = replace(report.scores[1], name="early_stop", label="Full data, stopped")
    gap = Difference("early_stop", Estimate(-0.2, -0.3, -0.1, 60), 0.01)
    found = verdict(replace(report, scores=(*report.scores, rival), differences=(gap,)))
    assert "equal training cost" in found.details[1]
    assert "−0.20 (95 % interval −0.30 to −0.10)" in found.details[1]


def test_parts_reliability_and_differences_are_on_the_page():
    rng = np.random.default_rng(0)
    report = make_report(60)
    truth = np.array([row.truth for row in report.candidates if row.group == "sample"])
    strata = {"activation": ["relu", "sigmoid"] * 30}
    few = Estimate(None, None, None, 60, "it takes at least two seeds")
    of = {
        row.name: np.array([r.ranking[row.name] for r in report.candidates if r.group == "sample"])
        for row in report.scores
    }
    scores = tuple(
        replace(
            score,
            parts=parts(of[score.name], truth, size=rng.integers(1, 9, 60).astype(float), strata=strata),
            reliability=Estimate(0.8, 0.7, 0.9, 60),
            corrected=Estimate(0.77, 0.61, 0.88, 60) if score.name == "proxy" else few,
        )
        for score in report.scores
    )
    compared = differences(of["proxy"], {"params": of["params"]}, truth)
    page = render_report(replace(report, scores=scores, differences=compared, ceiling=Estimate(0.9, 0.85, 0.95, 60)))
    parsed(page)
    assert "activation = sigmoid" in page
    assert "log parameters taken out" in page
    assert "ρ = +0.90 (95 % interval +0.85 to +0.95)" in page
    assert "it takes at least two seeds" in page
    assert "+0.61 to +0.88" in page
    assert "without the noise of seeds<br>" not in render_report(report)
    assert re.search(r"<td>(0\.\d\d|&lt; 0\.01)</td>", page)


def test_a_score_that_trains_nothing_and_ranks_better_is_named_with_its_luck():
    report = make_report(60, noise=8.0)
    good = report.scores[2].agreement
    better = replace(good, spearman=Estimate(0.9, 0.8, 0.95, 60))
    naswot = replace(report.scores[2], name="naswot", label="NASWOT")
    untrained = [replace(naswot, name="synflow", label="SynFlow", agreement=better), naswot]
    gap = Difference("synflow", Estimate(-0.5, -0.7, -0.3, 60), 0.002)
    found = verdict(replace(report, scores=(*report.scores, *untrained), differences=(gap,)))
    (detail,) = [detail for detail in found.details if "trains nothing" in detail]
    assert detail.startswith("SynFlow, which trains nothing, ranks better on this sample: +0.90")
    assert "p < 0.01 adjusted; it is the best of 2 such scores" in detail
    assert not any("trains nothing" in detail for detail in verdict(make_report(60)).details)


def test_a_proxy_that_only_tells_values_of_a_parameter_apart_is_found_out():
    report = make_report(60)
    weak = Part("activation", "within, on average", Estimate(0.07, -0.28, 0.41, 60))
    strong = Part("width", "within, on average", Estimate(0.6, 0.4, 0.8, 60))
    scores = (replace(report.scores[0], parts=(strong, weak)), *report.scores[1:])
    details = verdict(replace(report, scores=scores)).details
    assert any("Among candidates of equal activation it is not shown to rank: +0.07" in detail for detail in details)
    scores = (replace(report.scores[0], parts=(strong,)), *report.scores[1:])
    assert not any("Among candidates" in detail for detail in verdict(replace(report, scores=scores)).details)


# ------------------------------------------------------------------------------------------------------------- warnings


def warned(report):
    return dict(warnings_of(report))


def with_truth(report, truths, std=0.01):
    sample = [replace(row, truth=float(t), truth_std=std) for row, t in zip(report.candidates, truths, strict=False)]
    return replace(report, candidates=tuple(sample))


def test_a_good_report_has_no_warnings():
    assert warnings_of(make_report(60)) == ()
    assert 'class="card warnings"' not in render_report(make_report(60))


def test_few_candidates_are_warned_of():
    assert "n = 20 is few" in warned(make_report(20))["few candidates"]
    assert "nasproxy validate RUN --sample N" in warned(make_report(20))["few candidates"]
    assert "Reasons for caution" in render_report(make_report(20))


@pytest.mark.parametrize(("low", "high", "shown"), [(-0.2, 0.4, True), (0.1, 0.4, False), (-0.4, -0.1, False)])
def test_an_interval_with_0_in_it_is_warned_of(low, high, shown):
    report = make_report(60)
    agreement = replace(report.scores[0].agreement, spearman=Estimate(0.1, low, high, 60))
    found = warned(replace(report, scores=(replace(report.scores[0], agreement=agreement), *report.scores[1:])))
    assert ("no sign of agreement" in found) == shown
    if shown:
        assert "−0.20 to +0.40, includes 0" in found["no sign of agreement"]


def test_candidates_that_differ_less_than_seeds_are_warned_of():
    """Accuracies 50.0, 50.1 … 55.9 %: the middle half is 2.95 points wide, their standard deviation is 1.7."""
    truths = 0.5 + np.arange(60) / 1000
    assert "little to tell apart" not in warned(with_truth(make_report(60), truths, std=0.005))
    sentence = warned(with_truth(make_report(60), truths, std=0.02))["little to tell apart"]
    assert "within 2.9 points" in sentence or "within 3.0 points" in sentence
    assert "standard deviation 1.7" in sentence
    assert "varies by 2.0 from seed to seed" in sentence
    assert "little to tell apart" not in warned(with_truth(make_report(60), truths, std=None))


def test_ties_are_counted_in_pairs():
    """Ten values six times each: 15 of the 1770 / 10 pairs of each value, 150 of 1770 in all; two values: half."""
    few = with_truth(make_report(60), np.arange(60) // 6 / 20)
    assert "ties" not in warned(few)
    half = with_truth(make_report(60), np.arange(60) // 30 / 20)
    assert "49.2 % of all pairs of candidates have the same full accuracy" in warned(half)["ties"]
    assert "--full-seeds" not in warned(half)["ties"]  # it was not trained
    assert "--full-seeds" in warned(replace(half, full_seconds=3.0))["ties"]
    rows = tuple(
        replace(row, ranking=row.ranking and row.ranking | {"proxy": 0.1}) for row in make_report(60).candidates
    )
    found = warned(replace(make_report(60), candidates=rows))
    assert "100.0 % of all pairs of candidates have the same score" in found["ties"]


def test_candidates_that_failed_are_counted():
    report = make_report(60)
    failed = tuple(replace(report.candidates[0], id=f"f{i}", truth=None, ranking={}) for i in range(3))
    found = warned(replace(report, candidates=report.candidates + failed))
    assert "3 of the 63 candidates that were drawn" in found["candidates left out"]


def test_nothing_is_warned_of_where_nothing_was_validated():
    assert warnings_of(nothing()) == ()


# ---------------------------------------------------------------------------------------------------------------- words


def test_advice_says_what_is_lost():
    report = make_report(60)
    agreement = replace(
        report.scores[0].agreement,
        k=5,
        regret=Estimate(0.031, 0.0, 0.1, 60),
        regret_at_k=Estimate(0.004, 0.0, 0.02, 60),
    )
    advised = advice(replace(report, scores=(replace(report.scores[0], agreement=agreement),)))
    assert "first 5 fully" in advised
    assert "loses 0.4 points (95 % interval 0.0 to 2.0)" in advised
    assert "first alone would lose 3.1 points" in advised
    assert "chance" not in advised
    lost = replace(agreement, spearman=Estimate(0.1, -0.1, 0.3, 60))
    assert "not shown to be better than chance" in advice(
        replace(report, scores=(replace(report.scores[0], agreement=lost),))
    )
    assert advice(nothing()) == ""


def test_large_numbers_and_energy_for_people():
    texts = {None: "–", 0.0: "0", 12.0: "12", 2500.0: "2.5 k", 3.2e12: "3.2 T", 1e21: "1e+03 E"}
    assert {value: amount(value) for value in texts} == texts
    assert amount(2e6, "FLOP") == "2 MFLOP"
    assert energy_text(7200.0) == "2 Wh"
    assert energy_text(3.6e6) == "1 kWh"
    assert energy_text(18.0) == "5 mWh"
    assert energy_text(None) == "–"
    assert compact(-0.5) == "−0.5"
