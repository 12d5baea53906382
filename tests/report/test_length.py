"""What the page and the terminal say of the length of full training."""

from dataclasses import replace

import pytest

from nasproxy.correlation import Estimate
from nasproxy.report import charts
from nasproxy.report.data import LengthPoint, StuckSeed, TruthLength, read_report, save_report
from nasproxy.report.length import HOLDS, Standing, agrees_with_its_end, falling, plan_lines, short_truth, standing
from nasproxy.report.page import candidates_csv, render_report
from nasproxy.report.verdict import ANSWERS, VERDICTS, last_lines, verdict, warnings_of
from reports import make_report, modern, parsed


def of(epochs=3, rho=None, *, full_length=False, base=None, **more):
    """A report whose truth had ``epochs``; ``rho``: value and interval of its agreement with longer training."""
    agreement = None if rho is None else Estimate(*rho, 8)
    length = TruthLength(
        epochs,
        10_000,
        full_length,
        long_epochs=None if rho is None else 4 * epochs,
        agreement=agreement,
        long_seconds=None if rho is None else 40.0,
        **more,
    )
    return replace(base or make_report(60), length=length, full_seconds=10.0)


def with_rho(report, *rho):
    proxy = report.scores[0]
    agreement = replace(proxy.agreement, spearman=Estimate(*rho, 60))
    return replace(report, scores=(replace(proxy, agreement=agreement), *report.scores[1:]))


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (replace(make_report(), full_seconds=None), Standing.TABLE),
        (replace(make_report(), full_seconds=10.0), Standing.UNKNOWN),  # of an earlier version
        (of(), Standing.UNKNOWN),
        (of(rho=(0.61, 0.29, 0.86)), Standing.UNKNOWN),
        (of(rho=(0.2, -0.4, 0.6)), Standing.OTHERWISE),
        (of(rho=(0.95, HOLDS, 1.0)), Standing.HOLDS),
        (of(rho=(None, None, None)), Standing.UNKNOWN),
        (of(200, full_length=True), Standing.FULL_LENGTH),
        (of(200, rho=(0.2, -0.4, 0.6), full_length=True), Standing.OTHERWISE),  # evidence before length
    ],
)
def test_standing(report, known):
    assert standing(report) is known
    assert known.capped == (known in (Standing.UNKNOWN, Standing.OTHERWISE))
    capped = verdict(report).level == "short"
    assert capped == known.capped


def test_the_first_sentence_of_a_short_truth_says_what_it_means():
    first = verdict(of()).sentence
    assert first.startswith("This proxy set ranks what 3 epochs of training rank, and better than random real images; ")
    assert "whether that is what full training ranks is not known" in first
    assert "Spearman ρ" in first
    page = render_report(of())
    assert "what 3 epochs of training rank" in page
    assert ANSWERS["short"] in page
    assert "what 1 epoch of training ranks" in verdict(of(1)).sentence


def test_a_longer_training_that_ranks_otherwise_is_said_first():
    found = verdict(of(rho=(0.2, -0.4, 0.6)))
    assert "but training for 12 epochs ranks these architectures otherwise" in found.sentence
    assert found.level == "short"
    assert found.level in VERDICTS


@pytest.mark.parametrize(("rho", "level"), [((0.1, -0.2, 0.4), "not_shown"), ((-0.5, -0.7, -0.2), "harmful")])
def test_bad_verdicts_name_the_truth_too(rho, level):
    found = verdict(with_rho(of(), *rho))
    assert found.level == level
    assert found.sentence.startswith("The truth here is 3 epochs, and nothing shows that longer training ranks them")
    assert "this proxy set" in found.sentence
    assert "12 epochs rank them otherwise" in verdict(with_rho(of(rho=(0.2, -0.4, 0.6)), *rho)).sentence


def test_a_truth_that_holds_is_said_with_its_evidence():
    report = of(rho=(0.95, 0.8, 1.0))
    found = verdict(report)
    assert found.level == "believe"
    text = "8 candidates were trained for 12 epochs as well: the two rankings agree at ρ = +0.95"
    assert any("long enough to rank" in detail and text in detail for detail in found.details)
    assert not any("short" in kind for kind, _ in warnings_of(report))
    assert "as long as published benchmarks train" in " ".join(verdict(of(200, full_length=True)).details)


def test_the_warning_is_first_and_stands_in_the_terminal():
    report = of(rho=(0.61, 0.29, 0.86))
    kind, sentence = warnings_of(report)[0]
    assert kind == "short full training"
    assert "Full training had 3 epochs." in sentence
    assert "+0.61 (95 % interval +0.29 to +0.86)" in sentence
    assert "--full-epochs 12" in sentence
    assert "--long-sample 16" in sentence
    assert sentence in last_lines(report)
    assert "trains some candidates longer" in short_truth(of())
    assert short_truth(make_report()) == ""


def test_a_table_is_taken_at_its_word_and_that_is_said():
    report = replace(make_report(60), truth_note="accuracy from the table t.csv, column accuracy")
    assert any("comes from a table" in detail for detail in verdict(report).details)
    assert not any("table" in line for line in last_lines(report)[1:])
    assert not any("comes from a table" in detail for detail in verdict(of()).details)


def test_failed_checks_are_counted():
    assert "2 more failed in it." in short_truth(of(rho=(0.61, 0.29, 0.86), num_failed=2))


def falls(score, value, low, high):
    points = tuple(
        LengthPoint(epochs, Estimate(rho, rho - 0.1, rho + 0.1, 60), epochs < 3)
        for epochs, rho in ((1, 0.9), (2, 0.8), (3, 0.7))
    )
    return replace(score, lengths=points, fall=Estimate(value, low, high, 60))


def test_a_score_that_falls_while_training_goes_on_is_named():
    report = of()
    first, second, *rest = report.scores
    fallen = replace(report, scores=(falls(first, -0.2, -0.3, -0.1), falls(second, -0.2, -0.5, 0.1), *rest))
    text = falling(fallen)
    assert first.label in text
    assert second.label not in text
    assert "from +0.90 after 1 epoch to +0.70 after 3 epochs" in text
    assert text in verdict(fallen).details
    assert any(line.endswith(text) for line in last_lines(fallen))
    assert falling(report) == ""


def test_a_score_that_falls_with_longer_training_is_named():
    report = of(rho=(0.7, 0.4, 0.9))
    first, second, *rest = report.scores
    longer = LengthPoint(12, Estimate(0.26, -0.1, 0.6, 8), within=False)
    fallen = replace(falls(first, 0.0, -0.1, 0.1), long_fall=Estimate(-0.4, -0.6, -0.1, 8))
    fallen = replace(fallen, lengths=(*fallen.lengths, longer))
    text = falling(replace(report, scores=(fallen, second, *rest)))
    assert "from +0.70 after 3 epochs to +0.26 after 12 epochs" in text


def test_where_all_are_checked_a_larger_sample_is_advised():
    few, all_of_them = of(rho=(0.6, 0.3, 0.8)), of(rho=(0.6, 0.3, 0.8), base=make_report(8))
    assert "and --long-sample 16" in short_truth(few)
    assert "and --sample 16 --long-sample 16" in short_truth(all_of_them)


def test_figures_and_table_of_lengths():
    report = of(base=modern(24), rho=(0.61, 0.29, 0.86))
    assert charts.against_length(report) is None  # scores without lengths: an old report
    assert charts.length_table(report) is None
    scores = tuple(falls(score, 0.0, -0.1, 0.1) for score in report.scores)
    rows = tuple(
        replace(row, long_truth=0.5 + place / 100) if place < 8 else row for place, row in enumerate(report.candidates)
    )
    report = replace(report, scores=scores, candidates=rows)
    chart = charts.against_length(report)
    assert "Proxy set" in chart.svg
    table = charts.length_table(report)
    assert table.heads == ("1 epoch, n = 60", "2 epochs, n = 60", "3 epochs, n = 60")
    assert [label for label, _ in table.rows] == [score.label for score in scores]
    longer = charts.longer_training(report)
    assert longer.svg.count("% after 12 epochs") == 8
    page = render_report(report)
    parsed(page)
    assert "Is full training long enough?" in page
    assert "Every score against every length of training" in page
    assert "longer_accuracy" in candidates_csv(report).splitlines()[0]


def test_plan_recommends_a_length_and_its_cost():
    first, second = plan_lines(of(rho=(0.61, 0.29, 0.86)))
    assert first.startswith("3 epochs. 8 candidates were trained for 12 epochs")
    assert "--full-epochs 12" in second
    assert "35 min" in second or "34" in second or "52 " in second  # 52 candidates at 40 s
    assert "not needed" in plan_lines(of(rho=(0.95, 0.8, 1.0)))[1]
    assert "--full-epochs 12" in plan_lines(of())[1]
    assert plan_lines(make_report()) == []


def test_stuck_seeds_are_named():
    stuck = tuple(StuckSeed(f"c{place}", {"width": place}, "full", (0.1, 0.6)) for place in range(5))
    sentence = dict(warnings_of(replace(make_report(60), stuck=stuck)))["seeds that did not learn"]
    assert "width=0 by full training (10.0 %, 60.0 %)" in sentence
    assert "2 more" in sentence


def test_both_figures_where_failures_rank_last():
    report = make_report(60)
    drawn = replace(report.candidates[0], id="failed", truth=None, ranking={})
    proxy = replace(report.scores[0], with_failures=Estimate(0.5, 0.3, 0.7, 61))
    report = replace(report, candidates=(*report.candidates, drawn), scores=(proxy, *report.scores[1:]))
    sentence = dict(warnings_of(report))["candidates left out"]
    assert "ranked last ρ is +0.50 (95 % interval +0.30 to +0.70), n = 61; without them it is" in sentence


def test_it_survives_the_file(tmp_path):
    report = of(rho=(0.61, 0.29, 0.86))
    report = replace(report, scores=tuple(falls(score, 0.0, -0.1, 0.1) for score in report.scores))
    save_report(report, tmp_path)
    assert read_report(tmp_path) == report


def test_agreement_with_the_own_end_is_not_taken_for_a_proof():
    text = agrees_with_its_end(modern())
    assert "After 2 of 4 epochs" in text
    assert "agreement with itself" in text
    assert agrees_with_its_end(make_report()) == ""
    assert text[:40] in render_report(replace(modern(), scores=tuple(falls(s, 0, -1, 1) for s in modern().scores)))
