from dataclasses import replace

import pytest

from nasproxy.report import charts
from nasproxy.report.charts.lines import MAX_LINES, _scale, fifths, thinned
from nasproxy.report.data import CandidateRow
from reports import make_report, modern


def row(number, truth, **params):
    return CandidateRow(f"c{number}", params, "sample", truth, None, 1, {}, {"proxy": truth})


def test_fifths_are_equally_full_and_the_best_is_in_the_first():
    of = fifths([row(i, i / 100) for i in range(50)])
    assert [list(of.values()).count(place) for place in range(1, 6)] == [10] * 5
    assert of["c49"] == 1
    assert of["c0"] == 5


def test_few_of_many_lines_are_even_by_accuracy_with_both_ends():
    rows = [row(i, (i * 37 % 1000) / 1000) for i in range(1000)]
    shown = thinned(rows)
    assert len(shown) == MAX_LINES
    assert len({one.id for one in shown}) == MAX_LINES
    truths = [one.truth for one in shown]
    assert truths == sorted(truths)
    assert truths[0] == 0
    assert truths[-1] == 0.999
    assert thinned(rows[:20]) == sorted(rows[:20], key=lambda one: one.truth)


def test_values_of_a_parameter_stand_evenly_and_inactive_ones_below():
    scale, places = _scale("norm", ["b", None, "a", "b"])
    assert [text for _, text in scale.ticks] == ["–", "a", "b"]
    low, middle, high = (place for place, _ in scale.ticks)
    assert middle - low == pytest.approx(high - middle)
    assert places[1] == low
    assert places[2] == middle
    assert places[0] < high < places[3]  # two with the same value are beside each other
    assert all(0 <= place <= 1 for place in places)


def test_few_numbers_are_values_and_many_are_to_scale():
    scale, _ = _scale("width", [256, 32, 64])
    assert [text for _, text in scale.ticks] == ["32", "64", "256"]
    scale, places = _scale("lr", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 11.0])
    assert [text for _, text in scale.ticks] == ["1", "11"]
    assert places[:2] == [0.0, 0.1]
    assert _scale("constant", [3, 3, 3])[0].ticks == [(0.5, "3")]


def test_precision_and_recall_of_a_perfect_score():
    """Twenty candidates that the proxy ranks as they are: the best fifth are four."""
    report = make_report(20, noise=0.0)
    regret, precision, recall = charts.against_k(report)
    assert "Proxy set 0 at 1, 0 at 5, 0 at 20" in regret.svg
    assert "the truly best 4 of the 20" in precision.caption
    assert "Proxy set 1 at 1, 0.8 at 5, 0.2 at 20" in precision.svg
    assert "Proxy set 1 at 1, 1 at 5, 1 at 20" in recall.svg
    assert "at random 0.2 at 1, 0.2 at 5, 0.2 at 20" in precision.svg


def test_the_front_of_size_by_hand():
    """Of (10, .5), (20, .4), (30, .9) the second is beaten: larger and worse than the first."""
    rows = tuple(
        replace(row(i, truth), scores={"params": size})
        for i, (size, truth) in enumerate([(10, 0.5), (20, 0.4), (30, 0.9)])
    )
    chart = charts.size_front(replace(make_report(), candidates=rows))
    assert "3 architectures, 2 of them on the Pareto front" in chart.svg
    assert chart.svg.count("<polygon") == 2


def test_places_of_the_outliers_by_hand():
    report = make_report(20)
    rows = tuple(
        replace(one, ranking={"proxy": (one.truth if i else 9.0)}) for i, one in enumerate(report.candidates[:20])
    )
    over, under = charts.outliers(replace(report, candidates=rows))
    assert [(one.row.id, one.score_rank, one.true_rank, one.places) for one in over] == [("c0", 1, 20, 19)]
    assert {one.places for one in under} == {-1}
    assert len(under) == 5


def test_curves_name_the_best_and_the_pick():
    chart = charts.curves_of_learning(modern())
    assert "best of the sample, full accuracy" in chart.svg
    assert "the search's pick, full accuracy" in chart.svg.replace("&#x27;", "'")
    assert chart.svg.count("<polyline") == 24 + 1
    assert charts.curves_of_learning(make_report()) is None


def test_every_parameter_has_a_figure_of_misjudgement_on_one_scale():
    found = charts.bias_charts(modern())
    assert [chart.name for chart in found] == ["activation", "depth", "slope"]
    assert all("0" in chart.svg for chart in found)
    assert charts.bias_charts(make_report()) == []
