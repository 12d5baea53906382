"""The runs that are compared, read from their reports, and what stands in these side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import Estimate
from nasproxy.report.data import CandidateRow, CorrelationReport, ScoreSummary, read_report
from nasproxy.report.verdict import TRAINED


@dataclass(frozen=True)
class Run:
    """A run under its letter ``key`` and the ``name`` of its folder, with as many parents as tell it from others."""

    key: str
    name: str
    report: CorrelationReport

    @property
    def proxy(self) -> ScoreSummary | None:
        return self.report.score("proxy")

    @property
    def rho(self) -> Estimate:
        """Spearman of the proxy with full accuracy."""
        if self.proxy is None or self.proxy.agreement.n == 0:
            return Estimate(None, None, None, 0, "it was not validated")
        return self.proxy.agreement.spearman

    @property
    def validated(self) -> dict[str, CandidateRow]:
        """The uniform sample's candidates that have both truth and a place in the proxy's ranking, by id."""
        rows = self.report.candidates
        return {
            row.id: row for row in rows if row.group == "sample" and row.truth is not None and "proxy" in row.ranking
        }

    def setting(self, name: str) -> str | None:
        """A row of the report's record."""
        return dict(self.report.reproducibility).get(name)

    @property
    def description(self) -> str:
        """Method, size and data of the proxy set."""
        recorded = self.setting("proxy set")
        if recorded is None:
            return self.report.pictures_note.partition(". ")[0]
        return re.sub(r", content \w+$", "", recorded)

    def seconds(self, what: str) -> float | None:
        """What the row ``what`` of the report's costs took."""
        return next((cost.seconds for cost in self.report.costs if cost.what == what), None)

    @property
    def untrained(self) -> ScoreSummary | None:
        """The score with the highest ρ of those that train nothing."""
        free = [
            score
            for score in self.report.scores
            if not score.trained
            and not any(word in score.name for word in TRAINED)
            and score.agreement.spearman.value is not None
        ]
        return max(free, key=lambda score: score.agreement.spearman.value or 0.0, default=None)


def load_runs(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Reads the reports of two or more runs.

    Raises:
        NasproxyError: for fewer than two, one named twice, or one whose report is missing or cannot be read.
    """
    if len(folders) < 2:
        raise NasproxyError(f"A comparison takes at least two runs, but got {len(folders)}: name more.")
    places: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise NasproxyError(f"'{folder}' is no folder: name folders of runs, such as those in reports/.")
        place = folder.resolve()
        if place in places:
            also = "" if places[place] == folder else f" (as '{places[place]}', too)"
            raise NasproxyError(f"Every run may be named once, but '{folder}' is named twice{also}: leave one out.")
        places[place] = folder
    names = _names(list(places))
    return tuple(Run(_key(i), names[i], read_report(folder)) for i, folder in enumerate(folders))


def _key(number: int) -> str:
    """A, B, …, Z, R27, R28 …"""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"R{number + 1}"


def _names(places: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as tell it from all others."""
    found = []
    for place in places:
        parts = [part for part in place.parts if part != place.anchor] or [str(place)]
        depth = 1
        while depth < len(parts) and any(
            other is not place and other.parts[-depth:] == place.parts[-depth:] for other in places
        ):
            depth += 1
        found.append("/".join(parts[-depth:]))
    return found


@dataclass(frozen=True)
class Row:
    """One ``name`` and what each run has under it, None for nothing."""

    name: str
    values: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def _settings(report: CorrelationReport) -> dict[str, str]:
    """The record of a run; a row that lists ``name=value, name=value`` counts as that many."""
    found = {"full accuracy": report.truth_note, "searched by": report.objective}
    for name, value in report.reproducibility:
        parts = re.split(r", (?=\w+=)", value)
        if all(re.match(r"\w+=", part) for part in parts):
            found |= {f"{name}: {part.partition('=')[0]}": part.partition("=")[2] for part in parts}
        else:
            found[name] = value
    return found


def side_by_side(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Every setting that any run has, in the order of the reports."""
    columns = [_settings(run.report) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    return tuple(Row(name, tuple(column.get(name) for column in columns)) for name in names)


def notes_of(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Every note, and the keys of the runs that have it."""
    notes = dict.fromkeys(note for run in runs for note in run.report.notes)
    return {note: tuple(run.key for run in runs if note in run.report.notes) for note in notes}


def common_scores(runs: Sequence[Run]) -> tuple[tuple[str, str, tuple[Estimate | None, ...]], ...]:
    """Name, label and ρ by run of every score that at least two runs have."""
    names = dict.fromkeys(score.name for run in runs for score in run.report.scores)
    found = []
    for name in names:
        own = [run.report.score(name) for run in runs]
        labels = [score.label for score in own if score is not None]
        if len(labels) >= 2:
            rhos = tuple(None if score is None else score.agreement.spearman for score in own)
            found.append((name, labels[0], rhos))
    return tuple(found)
