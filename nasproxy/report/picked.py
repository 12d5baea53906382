"""What a search for a stated compute found, as plain data, in words, and as one HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.wording import epochs_text, percent, precise_duration
from nasproxy.report.charts.common import Chart
from nasproxy.report.data import label_of
from nasproxy.report.page import environment, kept_together
from nasproxy.report.svg import Dot, Span, dots_svg, spans_svg

DATA_FILE = "pick.json"


@dataclass(frozen=True)
class PickRow:
    """One candidate. ``expected`` and ``std`` are what the model believes of its full accuracy."""

    id: str
    params: dict[str, str | int | float | bool | None]
    vote_place: int  # by the vote of the free scores, 1 is best
    short: float | None
    full: float | None
    expected: float | None = None
    std: float | None = None
    failure: str | None = None

    @property
    def label(self) -> str:
        return label_of(self.params)


@dataclass(frozen=True)
class Part:
    """A part of the plan: how many were planned and done, what that was to take, and what it took."""

    name: str
    planned: int
    done: int
    planned_seconds: float
    seconds: float


@dataclass(frozen=True)
class PickReport:
    """Everything that the page of a search for a stated compute shows.

    Args:
        compute: in full trainings.
        protocol: what full training is, in words.
        long_enough: full training is as long as published benchmarks train.
        pick: the place of the pick in ``rows``; None when every full training failed.
        rows: the candidates that were trained fully, in the order of training; then those trained shortly.
        promising: candidates that were not trained fully, of which the model expects most.
        better: the probability that a candidate better than the pick by ``margin`` is left; None where the model
            has too few full trainings to say.
        short_trust: the probability, given the full accuracies, that the short trainings tell them better than the
            free scores alone do; None without short trainings or a model, and in files of earlier versions.
    """

    title: str
    created: str
    dataset: str
    space: str
    space_size: int | None
    compute: float
    protocol: str
    epochs: int
    short_epochs: int | None
    long_enough: bool
    parts: tuple[Part, ...]
    rows: tuple[PickRow, ...]
    promising: tuple[PickRow, ...]
    pick: int | None
    test: float | None
    better: float | None
    margin: float
    expected_loss: float | None
    low: float | None
    high: float | None
    reproducibility: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    short_trust: float | None = None

    @property
    def picked(self) -> PickRow | None:
        return None if self.pick is None else self.rows[self.pick]

    @property
    def trained(self) -> tuple[PickRow, ...]:
        """The candidates that were trained fully, also those whose training failed."""
        (num,) = [part.done for part in self.parts if part.name == "full"]
        return self.rows[:num]


PART_NAMES = {
    "scored": "free scores",
    "short": "short trainings",
    "full": "full trainings",
    "test": "test accuracy of the pick",
}


def pick_sentence(report: PickReport) -> str:
    """What was picked, and how good it is."""
    pick = report.picked
    if pick is None:
        failed = next((row.failure for row in report.rows if row.failure), "no candidate could be trained")
        return f"Nothing can be picked, because every full training failed: {failed}."
    test = "" if report.test is None else f", test accuracy {percent(report.test)}"
    return f"Pick: {pick.label} (full accuracy {percent(pick.full)}{test})."


def left_sentence(report: PickReport) -> str:
    """How far the pick may be from the best."""
    if report.pick is None:
        return ""
    if report.better is None or report.expected_loss is None or report.low is None or report.high is None:
        return (
            "With so few full trainings nothing can be said of how far the pick is from the best candidate of the "
            "space: give more --compute."
        )
    return (
        f"The model expects that the best of {report.parts[0].done:,} scored candidates is "
        f"{100 * report.expected_loss:.1f} points better (95 % interval {100 * report.low:.1f} to "
        f"{100 * report.high:.1f}). The probability that one is better by more than {100 * report.margin:g} "
        f"point{'' if report.margin == 0.01 else 's'} is {_chance(report.better)}."
    )


def _chance(probability: float) -> str:
    if probability < 0.01:
        return "below 1 %"
    return "above 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def short_sentence(report: PickReport) -> str:
    """What the full trainings say of the short ones; empty where both models stay about as likely."""
    trust = report.short_trust
    if trust is None or 0.2 <= trust <= 0.8:
        return ""
    if trust > 0.8:
        return (
            f"The full trainings {'' if trust > 0.95 else 'seem to '}agree with the short ones: the probability that "
            f"reading short trainings tells the full accuracy better is {_chance(trust)}."
        )
    return (
        f"The short trainings {'' if trust < 0.05 else 'seem to '}mislead here: the probability that reading them "
        f"tells the full accuracy better than the free scores alone is {_chance(trust)}. The later full trainings "
        "follow the free scores."
    )


def length_sentence(report: PickReport) -> str:
    """What the length of full training means for the pick; empty where it has full length."""
    if report.long_enough:
        return ""
    return (
        f"Full training had {epochs_text(report.epochs)}. The pick is the best after {epochs_text(report.epochs)}; "
        "whether it is the best after a longer training is not known, because short trainings favour what learns fast."
    )


def failed_sentence(report: PickReport) -> str:
    """How many trainings failed; empty for none."""
    failed = [row for row in report.rows if row.failure is not None]
    if not failed:
        return ""
    return f"{len(failed)} of the trained candidates failed and cannot be picked. The first: {failed[0].failure}."


def pick_lines(report: PickReport) -> list[str]:
    """What the terminal says in the end."""
    says = (pick_sentence, left_sentence, short_sentence, length_sentence, failed_sentence)
    return [line for line in (sentence(report) for sentence in says) if line]


# ---------------------------------------------------------------------------------------------------------- the figures


def short_and_full(report: PickReport) -> Chart | None:
    """Full accuracy against the accuracy after a short training."""
    both = [row for row in report.trained if row.short is not None and row.full is not None]
    if len(both) < 2:
        return None
    dots = [
        Dot(
            100 * (row.short or 0.0),
            100 * (row.full or 0.0),
            f"{row.label}: {percent(row.short)} after a short training, {percent(row.full)} after full training",
        )
        for row in both
    ]
    svg = dots_svg(
        [("trained fully", dots)],
        f"accuracy after {epochs_text(report.short_epochs or 1)}, %",
        f"accuracy after {epochs_text(report.epochs)}, %",
        "Full accuracy against the accuracy after a short training",
    )
    return Chart(svg, f"The {len(both)} candidates that were trained shortly and fully.")


def promises(report: PickReport) -> Chart | None:
    """What the model expects of candidates that were not trained fully, as differences from the pick."""
    pick = report.picked
    rows = [row for row in report.promising if row.expected is not None and row.std is not None]
    if pick is None or pick.full is None or not rows:
        return None
    spans = []
    for row in rows:
        gap, reach = 100 * ((row.expected or 0.0) - pick.full), 196 * (row.std or 0.0)
        text = f"{row.label}: expected {percent(row.expected)}, {gap:+.1f} points against the pick".replace("-", "−")
        spans.append((f"place {row.vote_place} by the vote", [Span(gap, gap - reach, gap + reach, text, "plain")]))
    svg = spans_svg(spans, "expected accuracy minus the pick's, points", "Expected accuracy of candidates not trained")
    return Chart(svg, "What the model expects of the most promising candidates that were not trained fully, ± 1.96 σ.")


# ------------------------------------------------------------------------------------------------------------- the page


def render_pick(report: PickReport) -> str:
    """The page: one HTML document without outside references; equal reports give equal text."""
    templates = environment()
    templates.filters |= {"percent": percent, "duration": precise_duration, "kept": kept_together}
    return templates.get_template("pick.html.j2").render(
        report=report,
        part_names=PART_NAMES,
        pick_sentence=pick_sentence(report),
        left_sentence=left_sentence(report),
        short_sentence=short_sentence(report),
        length_sentence=length_sentence(report),
        charts=[chart for chart in (short_and_full(report), promises(report)) if chart is not None],
        shortly=[row for row in report.rows[len(report.trained) :] if row.short is not None],
        failed_sentence=failed_sentence(report),
    )


def write_pick(report: PickReport, run: Path, page: str) -> Path:
    """Writes the data and the page into the folder ``run``; returns the page."""
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(run / DATA_FILE, text.encode())
    path = run / page
    write_atomically(path, render_pick(report).encode())
    return path


def read_pick(run: Path) -> PickReport:
    """Reads what :func:`write_pick` wrote.

    Raises:
        NasproxyError: when the search has not ended, or its data cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    path = run / DATA_FILE
    if not path.is_file():
        raise NasproxyError(f"The run '{run}' has no {DATA_FILE} yet: repeat its `nasproxy search`, which resumes it.")
    try:
        return TypeAdapter(PickReport).validate_json(path.read_bytes())
    except ValidationError as error:
        raise NasproxyError(
            f"'{path}' cannot be read ({error.errors()[0]['msg']}): repeat the run's `nasproxy search`."
        ) from None
