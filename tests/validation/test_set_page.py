"""Several sets on one page and in one table: what is concluded, what is written, and what the page does with names."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from toy import toy_dataset

from nasproxy.cli.commands.evaluate import matrix_lines
from nasproxy.core.errors import NasproxyError
from nasproxy.validation.set_accuracy import Interval, difference_interval
from nasproxy.validation.set_page import (
    CSV_COLUMNS,
    Evaluated,
    findings,
    named,
    nets_of,
    percent_interval,
    points_interval,
    render_sets,
    trainings_csv,
    write_sets,
)
from reports import NET, OTHER, comparison, evaluated, proxy_of, some_sets


def test_the_best_is_named_with_its_lead_and_what_is_no_better_than_chance():
    (finding,) = findings(some_sets())
    assert finding.size == "2 per class"
    gap = difference_interval([0.71, 0.72], [0.51, 0.505])
    assert f"kmeans trains best: {percent_interval(some_sets()[1].comparisons[0].row.mean)}." in finding.sentence
    assert f"Its lead over herding is {points_interval(gap)}, more than chance explains." in finding.sentence
    assert "Not shown" not in finding.sentence


def test_a_lead_that_may_be_chance_and_sets_no_better_than_random_are_said():
    close = [evaluated("kmeans", (0.4, 0.3), (0.3, 0.4)), evaluated("dsa", (0.4, 0.3), (0.3, 0.41))]
    (finding,) = findings(close)
    assert "dsa trains best" in finding.sentence
    assert "which may be chance" in finding.sentence
    assert "Not shown to train better than random real images: dsa, kmeans." in finding.sentence


def test_without_random_images_nothing_is_said_of_them_and_one_set_each_is_said():
    sets = [evaluated("kmeans", (0.7, 0.71)), evaluated("dsa", (0.4, 0.41))]
    bare = [replace(one, comparisons=(replace(one.comparisons[0], baseline=None),)) for one in sets]
    (finding,) = findings(bare)
    assert "Not shown" not in finding.sentence
    assert finding.sentence.endswith(
        "more than chance explains. Only one set of a method was measured; another seed may give another result."
    )


def test_sizes_are_judged_apart_and_only_on_shared_nets():
    sets = [
        evaluated("dsa", (0.5, 0.6), ipc=1),
        evaluated("dsa", (0.6, 0.7)),
        evaluated("kmeans", (0.1,), nets=(OTHER,)),
    ]
    assert [finding.size for finding in findings(sets)] == ["1 per class"]


def test_one_set_with_every_training_failed_gives_no_finding():
    assert findings([evaluated("dsa", (None, None))]) == []


def test_names_are_short_and_distinct():
    proxies = [proxy_of("dsa"), proxy_of("dsa"), proxy_of("random", 1)]
    names = named([Path("a.safetensors"), Path("b.safetensors"), Path("c.safetensors")], proxies)
    assert names == ["dsa, 2 per class (a)", "dsa, 2 per class (b)", "random, 1 per class"]


def test_intervals_are_cut_to_what_accuracies_can_be():
    assert percent_interval(Interval(0.5, -0.3, 1.4, 2)) == "50.0 (0.0 to 100.0)"
    assert percent_interval(Interval(0.5, None, None, 1)) == "50.0"
    assert percent_interval(None) == "every training failed"
    assert points_interval(Interval(-0.05, -0.1, 0.0, 3)) == "−5.0 (−10.0 to 0.0)"
    assert points_interval(None) == ""


def test_the_matrix_has_nets_in_rows_and_a_star_at_the_best():
    lines = matrix_lines(some_sets())
    assert lines[:3] == ["A  random, 2 per class", "B  kmeans, 2 per class", "C  herding, 2 per class"]
    rows = {line.split("  ")[0]: line for line in lines[6:]}
    assert re.search(r"71\.5 ± 6\.4\*", rows[str(NET)])
    assert [line.count("*") for line in rows.values()] == [1, 1]
    assert "–" in rows["mlp"]  # kmeans was not evaluated with it
    assert nets_of(some_sets()) == [NET, OTHER]


def test_the_csv_has_every_training_once():
    rows = list(csv.DictReader(io.StringIO(trainings_csv(some_sets()))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 2 * (4 + 3) + (4 + 3) + 2 * (4 + 3)
    failed = list(csv.DictReader(io.StringIO(trainings_csv([evaluated("dsa", (None,))]))))
    assert (failed[0]["accuracy"], failed[0]["failure"]) == ("", "diverged")


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.addresses = [], 0, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        self.images += tag == "img"
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_carries_everything():
    text = render_sets(some_sets(), toy_dataset(), commands=["nasproxy compare --dataset digits"])
    tags = Tags(text)
    assert tags.images == 3
    assert all(address.startswith("data:") for address in tags.addresses)
    assert "71.5 (65.1 to 77.9)" in text
    assert "nasproxy compare --dataset digits" in text
    assert text == render_sets(some_sets(), toy_dataset(), commands=["nasproxy compare --dataset digits"])


def test_names_are_escaped():
    hostile = replace(evaluated("dsa", (0.5,)), name='<script>alert("x")</script>')
    text = render_sets([hostile], toy_dataset(), commands=["a & <b>"])
    assert "<script>" not in text
    assert "a &amp; &lt;b&gt;" in text


@pytest.mark.parametrize(
    ("method", "said"),
    [("soft_label", "Learned images, with soft"), ("label_distillation", "Real images, with learned")],
)
def test_soft_labels_are_shown_by_their_likeliest_class_and_said(method, said):
    soft = torch.softmax(torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    one = Evaluated("soft", proxy_of(method, labels=soft), (comparison([(0.5, 0.6)]),))
    assert f"{said} labels; shown by their likeliest class." in render_sets([one], toy_dataset())


def test_soft_labels_may_leave_the_first_classes_without_an_image():
    soft = torch.tensor([[0.1, 0.1, 0.8]]).expand(1, 6, 3)
    one = Evaluated("soft", proxy_of("soft_label", labels=soft), (comparison([(0.5, 0.6)]),))
    assert "data:image/png" in render_sets([one], toy_dataset())


def test_a_page_of_nothing_is_refused():
    with pytest.raises(NasproxyError, match="at least one"):
        render_sets([], toy_dataset())


def test_the_page_is_written(tmp_path):
    path = write_sets(some_sets(), toy_dataset(), tmp_path / "deep" / "page.html")
    assert path.read_text() == render_sets(some_sets(), toy_dataset())
