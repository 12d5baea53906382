"""The report as one HTML page that carries everything and asks no network for anything."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from nasproxy.atomic import write_atomically
from nasproxy.correlation import recall_at_k, spearman
from nasproxy.correlation.ranks import regret_at_k
from nasproxy.figures import curves_svg, forest_svg, history_svg
from nasproxy.plots import Dot, dots_svg
from nasproxy.report import (
    MAX_ROWS,
    VERDICTS,
    CandidateRow,
    CorrelationReport,
    ScoreSummary,
    break_even,
    compact,
    duration_text,
    percent,
    picked_by,
    rho_text,
    signed,
    verdict,
)

MAX_K = 20  # of curves against k
NUM_SUBSETS = 200  # of a size, in the curve of ρ against n


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _svg_uri(svg: str) -> str:
    return _data_uri("image/svg+xml", svg.encode())


def _ranks_from_best(values: Sequence[float]) -> list[float]:
    """Average ranks, 1 the highest."""
    from scipy.stats import rankdata

    return [float(rank) for rank in rankdata([-value for value in values])]


def _figures(report: CorrelationReport) -> dict[str, Any]:
    """Every figure as ``{"src", "alt", "caption"}``; pairs of plots for the trained scores."""
    sample = [row for row in report.candidates if row.group == "sample" and row.truth is not None]
    top = [row for row in report.candidates if row.group == "top" and row.truth is not None]
    forest = [(s.label, s.agreement.spearman) for s in report.scores]
    pairs = []
    for score in report.scores:
        if score.name not in ("proxy", "random_subset"):
            continue
        points = [row for row in sample if score.name in row.ranking]
        if not points:
            continue
        special = [row for row in top if row.scores.get(score.name) is not None]
        named = [("uniform sample", points), ("search's top", special)]
        scatter = dots_svg(
            [
                (
                    group,
                    [
                        Dot(
                            100 * (row.scores[score.name] or 0.0),
                            100 * (row.truth or 0.0),
                            f"{row.label}: score {percent(row.scores[score.name])}, full accuracy "
                            f"{percent(row.truth, row.truth_std)}",
                            None if row.truth_std is None else 100 * row.truth_std,
                        )
                        for row in rows
                    ],
                )
                for group, rows in named
            ],
            "score: validation accuracy, %",
            "full accuracy, %",
            f"{score.label}: score against full accuracy of {len(points)} architectures",
        )
        places = zip(
            points,
            _ranks_from_best([row.ranking[score.name] for row in points]),
            _ranks_from_best([row.truth or 0.0 for row in points]),
            strict=True,
        )
        ranks = dots_svg(
            [
                (
                    "",
                    [
                        Dot(a, b, f"{row.label}: rank {a:g} by the score, {b:g} by full accuracy")
                        for row, a, b in places
                    ],
                )
            ],
            "rank by the score (1 is best)",
            "rank by full accuracy",
            f"{score.label}: rank by the score against rank by full accuracy",
            ranks=True,
        )
        rho = rho_text(score.agreement.spearman)
        pairs.append(
            {
                "label": score.label,
                "rho": rho,
                "n": score.agreement.n,
                "scatter": scatter,
                "ranks": ranks,
                "num_top": len(special),
            }
        )
    return {
        "forest": _svg_uri(
            forest_svg([(label, e.value, e.low, e.high) for label, e in forest], "Spearman ρ with 95 % interval")
        )
        if forest
        else None,
        "pairs": pairs,
        "history": _svg_uri(history_svg(report.history, _score_axis(report), percent=report.in_percent))
        if report.history
        else None,
        "fronts": _fronts(report),
        "curves": _curves(report),
    }


def _curves(report: CorrelationReport) -> list[dict[str, str]]:
    """Regret and recall against k, and ρ against the number of candidates, as ``{"src", "alt", "caption"}``."""
    sample = [row for row in report.candidates if row.group == "sample" and row.truth is not None and row.ranking]
    if len(sample) < MIN_CURVE:
        return []
    truth = np.array([row.truth for row in sample])
    columns = {score.label: np.array([row.ranking[score.name] for row in sample]) for score in _baselines(report)}
    ks = list(range(1, min(MAX_K, len(sample)) + 1))
    regrets = [(label, ks, [100 * regret_at_k(score, truth, k) for k in ks]) for label, score in columns.items()]
    recalls = [(label, ks, [float(recall_at_k(score, truth, k)) for k in ks]) for label, score in columns.items()]
    chance = ("at random", ks, [k / len(sample) for k in ks])
    found = [
        {
            "src": _svg_uri(
                curves_svg(regrets, "k, candidates of a score that are trained fully", "regret, points", name="regret")
            ),
            "alt": "Regret against k for the proxy and its baselines",
            "caption": "What is lost by training only the first k of a score and taking the best of them.",
        },
        {
            "src": _svg_uri(curves_svg([*recalls, chance], "k", "share of the true top k found", name="recall")),
            "alt": "Recall of the true top k against k for the proxy and its baselines",
            "caption": "How many of the true best k are among a score's first k.",
        },
    ]
    first = columns[next(iter(columns))]
    if report.scores[0].agreement.spearman.value is not None:
        rng = np.random.default_rng(0)
        sizes = sorted({int(n) for n in np.linspace(MIN_CURVE, len(sample), 12)})
        drawn = {n: [spearman(first[chosen], truth[chosen]) for chosen in _subsets(len(sample), n, rng)] for n in sizes}
        bands = [(n, *np.nanquantile(values, [0.025, 0.5, 0.975])) for n, values in drawn.items()]
        lines = [
            (name, sizes, [float(band[place]) for band in bands])
            for place, name in ((2, "median"), (1, "95 % of them"), (3, ""))
        ]
        found.append(
            {
                "src": _svg_uri(curves_svg(lines, "candidates drawn from the sample", "Spearman ρ", name="against-n")),
                "alt": "Spearman correlation of the proxy on random parts of the sample, against their size",
                "caption": f"ρ of the proxy had fewer been trained: {NUM_SUBSETS} random parts of each size. The band "
                "closes at the whole sample because it is one sample, not because it is known exactly.",
            }
        )
    return found


MIN_CURVE = 8


def _subsets(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices ``(NUM_SUBSETS, size)`` without repetition in a row."""
    return np.argsort(rng.random((NUM_SUBSETS, n)), axis=1)[:, :size]


def _baselines(report: CorrelationReport) -> list[ScoreSummary]:
    """The proxy, its baselines, and what was searched by."""
    names = ("proxy", "random_subset", "early_stop", report.objective, "params")
    return [score for name in dict.fromkeys(names) for score in report.scores if score.name == name]


def candidates_csv(report: CorrelationReport) -> str:
    """One row per validated candidate: parameters, full accuracy, and every score."""
    parameters = list(dict.fromkeys(name for row in report.candidates for name in row.params))
    scores = list(dict.fromkeys(name for row in report.candidates for name in row.scores))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "group", *parameters, "full_accuracy", "full_std", "full_seeds", *scores])
    for row in report.candidates:
        values = [row.params.get(name, "") for name in parameters]
        measured = [row.truth, row.truth_std, row.truth_seeds, *(row.scores.get(name) for name in scores)]
        writer.writerow([row.id, row.group, *values, *("" if value is None else value for value in measured)])
    return out.getvalue()


def _table(report: CorrelationReport) -> dict[str, Any]:
    """The sampled candidates with full accuracy and every score, best first: heads and rows of (value, text)."""
    sample = [row for row in report.candidates if row.group == "sample"]
    sample.sort(key=lambda row: -(row.truth if row.truth is not None else -1.0))
    parameters = list(dict.fromkeys(name for row in sample for name in row.params))
    scores = [score for score in report.scores if any(score.name in row.scores for row in sample)]
    accuracies = {"proxy", "random_subset", "early_stop"}

    def cells(row: CandidateRow) -> list[tuple[str, str]]:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.params.items()}
        found = [(texts.get(name, ""), texts.get(name, "–")) for name in parameters]
        found.append(("" if row.truth is None else repr(row.truth), percent(row.truth, row.truth_std)))
        for score in scores:
            value = row.scores.get(score.name)
            text = percent(value) if score.name in accuracies else compact(value)
            found.append(("" if value is None else repr(value), text))
        return found

    return {
        "heads": [*parameters, "full accuracy", *(score.name for score in scores)],
        "rows": [cells(row) for row in sample[:MAX_TABLE]],
        "hidden": max(0, len(sample) - MAX_TABLE),
    }


MAX_TABLE = 1000


def _score_axis(report: CorrelationReport) -> str:
    if report.objective == "proxy":
        return "validation accuracy on the proxy, %"
    return f"{report.objective}{', %' if report.in_percent else ''}"


def _fronts(report: CorrelationReport) -> list[tuple[str, str]]:
    """What the score was held against, and the picture."""
    scale = 100 if report.in_percent else 1
    found = []
    for place, name in enumerate(report.against):
        groups = [
            (
                words,
                [
                    Dot(
                        point.against[place],
                        scale * point.score,
                        f"{point.label}: {report.objective} "
                        f"{percent(point.score) if report.in_percent else compact(point.score)}, {name} "
                        f"{compact(point.against[place])}",
                    )
                    for point in report.front
                    if point.on_front == on_front
                ],
            )
            for words, on_front in (("beaten by another", False), ("on the front", True))
        ]
        title = f"{report.objective} against {name} of {len(report.front)} architectures"
        found.append((name, dots_svg(groups, name, _score_axis(report), title)))
    return found


def _data(report: CorrelationReport) -> dict[str, Any]:
    """What report.json holds, without the pictures."""
    return {name: value for name, value in asdict(report).items() if name != "pictures"}


def render_report(report: CorrelationReport) -> str:
    """The page: one HTML document without outside references; equal reports give equal text.

    Its only script sorts a table; the page's policy names it by its digest and allows no other.
    """
    script = files("nasproxy").joinpath("templates", "sort.js").read_text(encoding="utf-8")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nasproxy"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "percent": percent, "duration": duration_text, "compact": compact}
    return environment.get_template("report.html.j2").render(
        report=report,
        verdict=verdict(report),
        picked_by=picked_by(report),
        break_even=break_even(report),
        rules=VERDICTS,
        figures=_figures(report),
        pictures=[(p.name, f"data:image/png;base64,{p.png}") for p in report.pictures],
        sample=[row for row in report.candidates if row.group == "sample"],
        top=[row for row in report.candidates if row.group == "top"],
        front=[point for point in report.front if point.on_front],
        compared={one.score: one for one in report.differences},
        shown=[score for score in _baselines(report) if score.parts],
        seeded=any(score.corrected is not None and score.corrected.value is not None for score in report.scores),
        bars=any(row.truth_std is not None for row in report.candidates),
        table=_table(report),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        downloads={
            "candidates.csv": _data_uri("text/csv", candidates_csv(report).encode()),
            "report.json": _data_uri("application/json", json.dumps(_data(report), ensure_ascii=False).encode()),
        },
        max_rows=MAX_ROWS,
    )


def write_report(report: CorrelationReport, path: Path) -> Path:
    """Writes the page to ``path``, atomically."""
    write_atomically(path, render_report(report).encode())
    return path
