"""What the page says of rules of the space's parameters alone."""

from dataclasses import replace

import pytest

from nasproxy.correlation import AgainstRival, Estimate
from nasproxy.report.data import ParameterRival, read_report, save_report
from nasproxy.report.page import render_report
from nasproxy.report.rivals import best_rival, knows_more, parameters_alone, rival_rows
from nasproxy.report.verdict import verdict
from reports import make_report, parsed

RHO = Estimate(0.6, 0.4, 0.8, 60)
NOTHING = Estimate(None, None, None, 60, "fewer than two parameters vary")


def with_rivals(first=0.1, second=0.1):
    """Leads over two rivals have intervals from ``first`` and ``second`` on; a third rival is undefined."""
    report = make_report(60)
    rivals = (
        ParameterRival("main_effects", "main effects of all parameters", tuple("abcdef"), RHO),
        ParameterRival("best_parameter", "best single parameter", ("a",), replace(RHO, value=0.3)),
        ParameterRival("best_rule_of_two", "best rule of two parameters", (), NOTHING),
    )
    leads = {"main_effects": Estimate(0.2, first, 0.3, 60), "best_parameter": Estimate(0.4, second, 0.5, 60)}
    against = tuple(
        AgainstRival(score.name, rival.name, rival.spearman, leads.get(rival.name, NOTHING))
        for rival in rivals
        for score in report.scores
    )
    return replace(report, rivals=rivals, against_rivals=against)


@pytest.mark.parametrize(("first", "second", "more"), [(0.1, 0.1, True), (-0.1, 0.1, False), (0.1, -0.1, False)])
def test_a_score_must_lead_over_every_rival(first, second, more):
    report = with_rivals(first, second)
    assert knows_more(report, "proxy") is more
    text = parameters_alone(report)
    assert ("So it knows more" in text) == more
    assert ("not shown to know more" in text) != more
    assert "main effects of all parameters: a, b, c, d, …" in text
    assert "+0.60 (95 % interval +0.40 to +0.80)" in text
    assert text in verdict(report).details


def test_the_page_has_a_row_for_every_score_and_rival():
    report = with_rivals(-0.1)
    rows = rival_rows(report)
    assert [row.label for row in rows] == [score.label for score in report.scores]
    assert [lead is None for lead in rows[0].leads] == [False, False, True]
    page = render_report(report)
    parsed(page)
    assert "Do the scores know more than the parameters?" in page
    assert "fewer than two parameters vary" in page
    assert "not shown" in page


def test_old_reports_have_none():
    assert best_rival(make_report()) is None
    assert rival_rows(make_report()) == []
    assert parameters_alone(make_report()) == ""
    assert "know more than the parameters" not in render_report(make_report())


def test_it_survives_the_file(tmp_path):
    report = with_rivals()
    save_report(report, tmp_path)
    assert read_report(tmp_path) == report
