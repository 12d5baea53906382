"""The report as one HTML page that holds everything and loads nothing."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.core.files import write_atomically
from nasproxy.core.wording import amount, compact, energy_text, percent, precise_duration, signed
from nasproxy.correlation import attainable
from nasproxy.report import charts
from nasproxy.report.calibration import calibration_words
from nasproxy.report.charts import MANY, is_accuracy, main_score, numbered
from nasproxy.report.data import MAX_ROWS, CandidateRow, CorrelationReport
from nasproxy.report.length import agrees_with_its_end, checked_by
from nasproxy.report.rivals import parameters_text, rival_rows
from nasproxy.report.verdict import ANSWERS, VERDICTS, advice, break_even, picked_by, verdict, warnings_of
from nasproxy.report.wording import p_value, rho_text

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_TABLE = 1000  # candidates
MAX_PLAIN = 400_000  # bytes of a download
MAX_STRIP, MAX_FACTOR = 192, 6  # pixels of height, and how many one is shown as
MAX_SCORES = 8  # in the first table; of more, those that are neither trained nor baselines stand behind a summary

QUESTIONS = (
    ("trust", "Can I trust this proxy?"),
    ("choose", "Which architectures should I train?"),
    ("errors", "Where is it wrong?"),
    ("cost", "What did it cost?"),
    ("images", "What do the images look like?"),
    ("made", "How was it made?"),
)


@dataclass(frozen=True)
class Cell:
    """What a table shows, and what it sorts by; empty for unknown."""

    text: str
    value: str


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _download(name: str, kind: str, text: str) -> tuple[str, str]:
    """A link's file name and address; a large file is compressed, which opens as well and takes a third."""
    data = text.encode()
    if len(data) <= MAX_PLAIN:
        return name, _data_uri(kind, data)
    return f"{name}.gz", _data_uri("application/gzip", gzip.compress(data, mtime=0))


def _union(names: Sequence[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for some in names for name in some))


def candidates_csv(report: CorrelationReport) -> str:
    """One row per validated candidate: parameters, full accuracy, every score, their spreads, the learning curve."""
    rows = report.candidates
    parameters = _union([list(row.params) for row in rows])
    scores, stds = _union([list(row.scores) for row in rows]), _union([list(row.stds) for row in rows])
    epochs = sorted({epoch for row in rows for epoch, _ in row.curve})
    num_seeds = max((len(row.by_seed) for row in rows), default=0)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["id", "group", *parameters, "full_accuracy", "full_std", "full_seeds", *scores]
        + [f"full_accuracy_seed_{seed}" for seed in range(num_seeds)]
        + ["longer_accuracy"]
        + [f"{name}_std" for name in stds]
        + [f"accuracy_epoch_{epoch}" for epoch in epochs]
    )
    for row in rows:
        curve = dict(row.curve)
        measured = [row.truth, row.truth_std, row.truth_seeds, *(row.scores.get(name) for name in scores)]
        measured += [*row.by_seed, *[None] * (num_seeds - len(row.by_seed)), row.long_truth]
        measured += [*(row.stds.get(name) for name in stds), *(curve.get(epoch) for epoch in epochs)]
        values = [row.params.get(name, "") for name in parameters]
        writer.writerow([row.id, row.group, *values, *("" if value is None else value for value in measured)])
    return out.getvalue()


def _table(report: CorrelationReport) -> dict[str, Any]:
    """Every candidate once, with full accuracy and all scores, the best first."""
    rows: dict[str, CandidateRow] = {}
    groups: dict[str, list[str]] = {}
    for row in report.candidates:  # one that is drawn and among the search's best is the drawn one: it has all scores
        rows.setdefault(row.id, row)
        if row.group not in groups.setdefault(row.id, []):
            groups[row.id].append(row.group)
    ordered = sorted(rows.values(), key=lambda row: (-(row.truth if row.truth is not None else -1.0), row.id))
    parameters = _union([list(row.params) for row in ordered])
    scores = [score for score in report.scores if any(score.name in row.scores for row in ordered)]
    ids = numbered(report)

    def cells(row: CandidateRow) -> list[Cell]:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.params.items()}
        found = [Cell(texts.get(name, "–"), texts.get(name, "")) for name in parameters]
        found.append(_accuracy(row.truth, row.truth_std))
        for score in scores:
            value = row.scores.get(score.name)
            found.append(_accuracy(value, row.stds.get(score.name)) if is_accuracy(score) else _number(value))
        found.append(Cell(", ".join(groups[row.id]), ", ".join(groups[row.id])))
        return found

    return {
        "heads": [*parameters, "full accuracy", *(score.name for score in scores), "group"],
        "rows": [
            (ids[row.id], row.label if len(report.candidates) > MANY else "", cells(row)) for row in ordered[:MAX_TABLE]
        ],
        "hidden": max(0, len(ordered) - MAX_TABLE),
    }


def _accuracy(value: float | None, std: float | None) -> Cell:
    return Cell(percent(value, std), "" if value is None else f"{value:.6g}")


def _number(value: float | None) -> Cell:
    text = compact(value)
    return Cell(text, "" if value is None else f"{value:.6g}" if "," in text or "−" in text else text)


def _magnified(png: str) -> int:
    """The width that a strip of small images is shown at, by a whole factor; ``png`` in base64."""
    width, height = struct.unpack(">II", base64.b64decode(png[:64])[16:24])
    return int(width * max(1, min(MAX_FACTOR, MAX_STRIP // height)))


def kept_together(text: str) -> str:
    """A number stays on the line of its sign."""
    return re.sub(r"(?<=\d) (?=%)|(?<=\b[nρp]) (?=[=<])|(?<=[=<]) (?=[\d+−.])", "\u00a0", text)


def _data(report: CorrelationReport) -> dict[str, Any]:
    """What report.json holds, without the pictures."""
    return {name: value for name, value in asdict(report).items() if name != "pictures"}


def environment() -> Environment:
    """The templates, which escape what they are given and refuse what they do not know."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("nasproxy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_report(report: CorrelationReport) -> str:
    """The page: one HTML document without outside references; equal reports give equal text.

    The page's policy names its one script by its digest and allows no other.
    """
    script = files("nasproxy.report").joinpath("templates", "page.js").read_text(encoding="utf-8")
    templates = environment()
    templates.filters |= {
        "p": p_value,
        "signed": signed,
        "percent": percent,
        "duration": precise_duration,
        "compact": compact,
        "amount": amount,
        "energy": energy_text,
        "rho": rho_text,
        "kept": kept_together,
        "magnified": _magnified,
        "share": charts.share_text,
        "places": charts.places_text,
        "parameters": parameters_text,
    }
    over, under = charts.outliers(report)
    found = verdict(report)
    few = len(report.scores) <= MAX_SCORES
    baselines = {*(score.name for score in charts.baselines(report)), "flops"}
    first_scores = [score for score in report.scores if few or is_accuracy(score) or score.name in baselines]
    return templates.get_template("report.html.j2").render(
        report=report,
        main=main_score(report),
        questions=QUESTIONS,
        verdict=found,
        answer=ANSWERS[found.level],
        warnings=warnings_of(report),
        picked_by=picked_by(report),
        advice=advice(report),
        break_even=break_even(report),
        checked_by=checked_by(report),
        attainable=None if report.ceiling is None else attainable(report.ceiling),
        ndcg_chance=report.scores[0].agreement.ndcg_chance if report.scores else None,
        rival_rows=rival_rows(report),
        calibration_words=[] if report.calibration is None else calibration_words(report.calibration),
        own_end=agrees_with_its_end(report),
        failed_last=any(score.with_failures is not None for score in report.scores),
        medians=any(score.with_medians is not None for score in report.scores),
        rules=VERDICTS,
        charts=charts,
        pairs=charts.pairs(report),
        importances=charts.importances(report),
        misjudged=charts.misjudged(report),
        over=over,
        under=under,
        sample=[row for row in report.candidates if row.group == "sample"],
        top=[row for row in report.candidates if row.group == "top"],
        front=[point for point in report.front if point.on_front],
        first_scores=first_scores,
        other_scores=[score for score in report.scores if score not in first_scores],
        compared={one.score: one for one in report.differences},
        shown=[score for score in charts.baselines(report) if score.parts],
        seeded=any(score.corrected is not None and score.corrected.value is not None for score in report.scores),
        ids=numbered(report),
        table_of=_table(report),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        downloads=(
            _download("candidates.csv", "text/csv", candidates_csv(report)),
            _download("report.json", "application/json", json.dumps(_data(report), ensure_ascii=False)),
        ),
        max_rows=MAX_ROWS,
    )


def write_report(report: CorrelationReport, path: Path) -> Path:
    """Writes the page to ``path``, atomically.

    Args:
        report: what :func:`~nasproxy.validation.validate.validate` gave.
        path: the HTML file.

    Returns:
        ``path``.
    """
    write_atomically(path, render_report(report).encode())
    return path
