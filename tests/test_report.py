import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from nasproxy.correlation import Difference, Estimate, Part, differences, paired_difference, parts, rank_agreement
from nasproxy.errors import NasproxyError
from nasproxy.figures import image_grid_png
from nasproxy.page import render_report, write_report
from nasproxy.report import (
    VERDICTS,
    CandidateRow,
    ClassPicture,
    CorrelationReport,
    Cost,
    Failure,
    ScoreSummary,
    break_even,
    duration_text,
    percent,
    read_report,
    save_report,
    signed,
    three_lines,
    verdict,
)

HOSTILE = "<script>alert('x')</script>\"&$"


def make_report(n=20, *, noise=0.3, random_noise=1.5, top=3, hostile="", failures=2):
    rng = np.random.default_rng(0)
    truth = np.sort(rng.uniform(0.3, 0.9, n))
    columns = {
        "proxy": truth + noise * rng.normal(0, 0.2, n),
        "random_subset": truth + random_noise * rng.normal(0, 0.2, n),
        "params": rng.integers(1000, 100_000, n).astype(float),
        "flops": np.full(n, 5e6),
    }
    labels = {
        "proxy": "Proxy set",
        "random_subset": "Random real images",
        "params": "Parameter count",
        "flops": "FLOPs",
    }
    rows = tuple(
        CandidateRow(
            id=f"c{i}",
            params={"width": i, f"norm{hostile}": f"batch{hostile}"},
            group="sample",
            truth=float(truth[i]),
            truth_std=0.01,
            truth_seeds=2,
            scores={name: float(column[i]) for name, column in columns.items()},
            ranking={name: float(column[i]) for name, column in columns.items()},
        )
        for i in range(n)
    )
    best = tuple(replace(rows[-1 - i], group="top", ranking={}) for i in range(min(top, n)))
    scores = tuple(
        ScoreSummary(name, labels[name] + hostile, rank_agreement(column, truth, k=5), 10, 0.5, 12.0)
        for name, column in columns.items()
    )
    png = base64.b64encode(image_grid_png(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), 2)).decode()
    return CorrelationReport(
        title=f"space on data{hostile}",
        dataset="data",
        space=f"space{hostile}",
        space_size=720,
        num_invalid=12,
        created="2026-01-01 00:00 UTC",
        candidates=rows + best,
        scores=scores,
        difference=paired_difference(columns["proxy"], columns["random_subset"], truth),
        history=tuple((i + 1, float(v)) for i, v in enumerate(columns["proxy"])),
        pick=best[0] if best else None,
        pick_test_accuracy=0.812,
        pick_test_std=None,
        failures=tuple(Failure("c0", {"width": 1}, "full training", f"diverged{hostile}") for _ in range(failures)),
        costs=(Cost("Building the proxy set", 12.0, None, f"CPU{hostile}"),),
        pictures=(ClassPicture(f"cat{hostile}", png),),
        pictures_note="Ten images.",
        truth_note="validation accuracy after 2 epochs",
        notes=(f"A note{hostile}.",),
        reproducibility=(("seed", "0"), ("hostile", hostile)),
        commands=(f"nasproxy search --space x{hostile}",),
    )


VOID = {"meta", "img", "br", "link"}


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser.tags


def nothing():
    report = make_report(0, top=0, failures=0)
    return replace(report, history=(), pictures=(), costs=(), notes=(), scores=(), difference=None, commands=())


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
}


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
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page
    assert not re.search(r"\bnan\b|\bNone\b|\bTrue\b", re.sub(r"base64,[^\"]*", "", page))
    assert len(page) < 1_500_000
    assert render_report(report) == page


def test_a_thousand_candidates_stay_under_five_megabytes():
    assert len(render_report(make_report(1000, top=10)).encode()) < 5_000_000


def test_hostile_names_are_text():
    page = render_report(make_report(hostile=HOSTILE))
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") >= 10


def test_every_score_stands_in_the_table_with_its_numbers():
    report = make_report()
    page = render_report(report)
    for score in report.scores:
        assert f'<td class="label">{score.label}</td>' in page
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
    assert not any("is few" in detail for detail in found.details)


def test_verdict_of_few_or_no_candidates():
    assert verdict(replace(make_report(), scores=())).level == "unknown"
    found = verdict(make_report(3))
    assert found.level == "unknown"
    assert "n = 3" in found.sentence
    assert any("is few" in detail for detail in verdict(make_report(20)).details)


def test_a_better_free_score_is_named():
    report = make_report(60, noise=8.0)
    params = report.scores[2]
    strong = replace(params, agreement=replace(params.agreement, spearman=estimate(0.95, 0.9, 0.99)))
    details = verdict(replace(report, scores=(*report.scores[:2], strong, report.scores[3]))).details
    assert any("Parameter count ranks better than the proxy set" in detail for detail in details)


def test_three_lines():
    first, second, third = three_lines(make_report())
    assert "Spearman ρ" in first
    assert "random real subset" in first
    assert "test accuracy 81.2 %" in second
    assert "building the proxy set 12 s" in third
    assert "not trained on the full data" in three_lines(unvalidated())[1]
    assert "No pick" in three_lines(replace(make_report(), pick=None))[1]


def test_numbers_for_people():
    assert signed(-0.104) == "−0.10"
    assert signed(0.0) == signed(-0.001) == "0.00"
    assert percent(0.5432) == "54.3 %"
    assert percent(0.5, 0.012) == "50.0 ± 1.2 %"
    assert percent(None) == "–"
    texts = {None: "–", 0: "0", 0.123: "0.12 s", 45: "45 s", 600: "10.0 min", 9000: "2.5 h"}
    assert {seconds: duration_text(seconds) for seconds in texts} == texts


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("name", ["ordinary", "hostile", "large"])
def test_no_sideways_scrolling_in_a_real_browser(tmp_path, width, name):
    """The page as Chromium lays it out: its content is as wide as the window; the picture of it is written, too."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    page = render_report(EXTREMES[name]())
    # The page itself forbids scripts: a frame around it measures, from a copy without the policy.
    page = re.sub(r"<meta http-equiv=[^>]*>", "", page)
    page = page.replace(
        "</body>", "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    )
    path = tmp_path / "page.html"
    path.write_text(page)
    result = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    content, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", result.stdout).groups())
    assert window == width
    assert content <= window


def test_break_even_by_hand():
    """12 s of making, 0.5 s on the proxy, 2.5 s of full training: six candidates take as long, the seventh pays."""
    report = replace(make_report(), full_seconds=2.5)
    assert "from 7 candidates on: each takes 2.5 s of full training and 0.5 s on the proxy" in break_even(report)
    assert break_even(replace(report, full_seconds=0.4)).startswith("It never pays here")
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
    assert "activation: sigmoid" in page
    assert "log parameters taken out" in page
    assert "ρ = +0.90 (95 % interval +0.85 to +0.95)" in page
    assert "it takes at least two seeds" in page
    assert "+0.61 to +0.88" in page
    assert "without the noise of seeds<br>" not in render_report(report)
    assert re.search(r"<small>p (= 0\.\d\d|&lt; 0\.01|< 0\.01)</small>", page)


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
