"""Reports made by hand, for the tests of the page and of comparisons, and readers of a page."""

import base64
import gzip
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
from toy import toy_proxy

from nasproxy.correlation import (
    biases,
    effects,
    grouped,
    paired_difference,
    parts,
    rank_agreement,
    rank_correlation,
)
from nasproxy.report.data import (
    CandidateRow,
    ClassPicture,
    CorrelationReport,
    Cost,
    EpochAgreement,
    Failure,
    FrontPoint,
    ScoreSummary,
)
from nasproxy.report.png import image_grid_png
from nasproxy.training.results import Evaluation, FailureKind
from nasproxy.validation.set_accuracy import Comparison, NetSpec, Row
from nasproxy.validation.set_page import (
    Evaluated,
)

HOSTILE = "<script>alert('x')</script>\"&$"


@cache
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


@cache
def modern(n=24, *, num_parameters=3, hostile="", **kind):
    """A report with everything that today's back end measures: spreads, curves, effects, biases, costs, neighbours.

    The third parameter is conditional on the first; further ones are numbers.
    """
    report = make_report(n, hostile=hostile, **kind)
    rng = np.random.default_rng(1)
    drawn = [
        {"activation": f"relu{hostile}", "depth": 1} if i % 2 else {"activation": "gelu", "depth": 2} for i in range(n)
    ]
    drawn = [p | ({"slope": 0.5 if i % 3 else 0.25} if i % 2 else {}) for i, p in enumerate(drawn)]
    drawn = [p | {f"number_{j}": int(rng.integers(99)) for j in range(num_parameters - 3)} for p in drawn]
    drawn = [dict(list(p.items())[:num_parameters]) for p in drawn]

    def richer(row):
        params, truth = drawn[int(row.id[1:])], row.truth or 0.0
        curve = (*((epoch, truth * (1 - 0.5**epoch)) for epoch in (1, 2, 3)), (4, truth))
        return replace(row, params=params, stds={"proxy": 0.02, "random_subset": 0.01}, curve=curve)

    rows = tuple(richer(row) for row in report.candidates)
    sample = [row for row in rows if row.group == "sample"]
    truth = np.array([row.truth for row in sample])
    names = list(dict.fromkeys(name for row in sample for name in row.params))
    strata = {name: grouped([row.params.get(name) for row in sample]) for name in names}
    columns = {score.name: np.array([row.ranking[score.name] for row in sample]) for score in report.scores}
    size = columns["params"]
    scores = tuple(
        replace(
            score,
            parts=parts(columns[score.name], truth, size=size, strata=strata, num_resamples=50),
            effects=effects(columns[score.name], strata, num_resamples=50),
            biases=biases(columns[score.name], truth, strata, num_resamples=50),
            trained=score.name in ("proxy", "random_subset"),
            flops_per_candidate=3e12,
            joules_per_candidate=7200.0,
        )
        for score in report.scores
    )
    return replace(
        report,
        candidates=rows,
        scores=scores,
        pick=None if report.pick is None else richer(report.pick),
        effects=effects(truth, strata, num_resamples=50),
        epochs=tuple(
            EpochAgreement(
                epoch, rank_correlation(columns["proxy"], truth), rank_correlation(truth + rng.normal(0, 0.1, n), truth)
            )
            for epoch in (1, 2, 4)
        ),
        costs=(Cost("Search", 9.0, 10, "note", 2.5e15, 3.6e6), Cost("Full training", 90.0, None, "")),
        pictures=tuple(replace(picture, nearest=picture.png) for picture in report.pictures),
        full_seconds=10.0,
    )


def several_objectives():
    report = modern()
    front = tuple(
        FrontPoint(row.params, row.scores["proxy"], (row.scores["params"],), i % 5 == 0)
        for i, row in enumerate(report.candidates)
    )
    return replace(report, against=("params",), front=front)


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


def downloads(page):
    found = {}
    for name, kind, text in re.findall(r'<a download="([^"]*)" href="data:([^;]*);base64,([^"]*)"', page):
        data = base64.b64decode(text)
        found[name] = (gzip.decompress(data) if kind == "application/gzip" else data).decode()
    return found


NET, OTHER = NetSpec("convnet", (("width", 4),)), NetSpec("mlp")


def trained(values, net=NET):
    """A training for every value; None failed."""
    rows = []
    for number, value in enumerate(values):
        loss, failure, kind = (None, "diverged", FailureKind.DIVERGED) if value is None else (1.0, None, None)
        key = {"candidate": str(net), "params": {}, "score": "test", "setting": "s", "seed": number}
        rows.append(Evaluation(value, loss, 0.5, failure, kind, **key))
    return tuple(rows)


def comparison(sets, random=(0.3, 0.4, 0.35), net=NET):
    return Comparison(
        Row("method", net, tuple(trained(own, net) for own in sets)), Row("random real", net, (trained(random, net),))
    )


def proxy_of(method, ipc=2, **changes):
    proxy = toy_proxy(ipc=ipc)
    config = proxy.provenance["config"] | {"method": method}
    return replace(proxy, provenance=proxy.provenance | {"config": config}, **changes)


def evaluated(method, *sets, ipc=2, nets=(NET,)):
    own = tuple(comparison(sets, net=net) for net in nets)
    return Evaluated(f"{method}, {ipc} per class", proxy_of(method, ipc), own)


def some_sets():
    return [
        evaluated("random", (0.3, 0.4), (0.31, 0.41), nets=(NET, OTHER)),
        evaluated("kmeans", (0.7, 0.72), (0.71, 0.73)),
        evaluated("herding", (0.5, 0.52), (0.51, 0.5), nets=(NET, OTHER)),
    ]
