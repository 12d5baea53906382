"""What the page says of measures of agreement, beyond ρ: bounds, chance levels, floors of p, the truly best."""

from dataclasses import replace

import numpy as np
import pytest

from nasproxy.correlation import Difference, Estimate, cutoffs
from nasproxy.report import charts
from nasproxy.report.page import render_report
from nasproxy.report.wording import p_text, p_value
from reports import make_report, modern, parsed


def test_a_score_can_agree_better_than_the_truth_with_itself():
    page = render_report(replace(make_report(60), ceiling=Estimate(0.49, 0.36, 0.64, 60)))
    assert "No score can be expected to agree better" not in page
    assert "can be expected to reach +0.70 (95 % interval +0.60 to +0.80)" in page.replace("\u00a0", " ")


def test_ndcg_stands_beside_its_chance_level():
    report = make_report(60)
    chance = report.scores[0].agreement.ndcg_chance
    assert f"chance {chance:.2f}" in render_report(report)
    old = tuple(replace(s, agreement=replace(s.agreement, ndcg_chance=None)) for s in report.scores)
    page = render_report(replace(report, scores=old))
    assert "chance " not in page.split("nDCG")[1][:40]
    assert "about a half" not in page


@pytest.mark.parametrize(
    ("p", "at_floor", "text"),
    [(0.002, True, "< 0.01"), (0.016, True, "≤ 0.02"), (0.016, False, "0.02"), (1.0, True, "1.00")],
)
def test_p_at_the_floor_of_the_resamples(p, at_floor, text):
    assert p_value(p, at_floor=at_floor) == text
    assert p_text(p, at_floor=at_floor) == (f"p {text}" if text[0] in "<≤" else f"p = {text}")


def test_the_table_says_where_p_is_at_its_floor():
    report = make_report(60)
    gap = Difference("random_subset", Estimate(0.2, 0.1, 0.3, 60), 0.016, at_floor=True)
    assert "<td>≤ 0.02</td>" in render_report(replace(report, differences=(gap,)))
    assert "<td>0.02</td>" in render_report(replace(report, differences=(replace(gap, at_floor=False),)))


def test_regrets_stand_without_an_interval_and_recall_with_one():
    page = render_report(make_report(60))
    parsed(page)
    assert "has no interval" in page
    assert "None" not in page.split("Regret of the")[1][:2000]


def test_the_truly_best_of_the_proxy_beside_its_baselines():
    report = modern(60)
    rows = [row for row in report.candidates if row.group == "sample"]
    truth = np.array([row.truth for row in rows])
    assert charts.cutoffs_chart(report) is None  # an old report
    scores = tuple(
        replace(score, cutoffs=cutoffs(np.array([row.ranking[score.name] for row in rows]), truth, num_resamples=50))
        if score.trained
        else score
        for score in report.scores
    )
    report = replace(report, scores=scores)
    chart = charts.cutoffs_chart(report)
    first = scores[0].cutoffs[0]
    assert f"Among the best {100 * first.share:.0f} % (n = {first.n})" in chart.caption
    assert "the restriction alone would leave" in chart.caption
    assert "Random real images" in chart.svg
    assert "Among the truly best" in render_report(report)
