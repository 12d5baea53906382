"""The comparison as one HTML page that holds everything, loads nothing and has no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasproxy.core.files import write_atomically
from nasproxy.core.wording import compact, percent, precise_duration, signed
from nasproxy.report.comparison.conclusions import Comparison, listed, same_picks, significant
from nasproxy.report.comparison.pairs import MIN_SHARED, Pair
from nasproxy.report.comparison.runs import Run, common_scores, notes_of, side_by_side
from nasproxy.report.forest import ForestRow, forest_svg
from nasproxy.report.page import environment
from nasproxy.report.verdict import picked_by
from nasproxy.report.wording import p_value, rho_text

SEARCH, FULL = "Search", "Full training, for validation"  # rows of a report's costs


def _rho_forest(comparison: Comparison) -> str:
    rows = []
    for run in comparison.runs:
        intervals = [("proxy", run.rho)]
        random = run.report.score("random_subset")
        if random is not None and random.agreement.spearman.value is not None:
            intervals.append(("random", random.agreement.spearman))
        rows.append(ForestRow(f"{run.key}  {run.name}", tuple(intervals)))
    return forest_svg(rows, "Spearman ρ with full accuracy, 95 % interval", "Spearman correlation of every run")


def _pair_forest(comparison: Comparison) -> str:
    rows = [
        ForestRow(f"{pair.first} − {pair.second}", (("paired" if pair.paired else "unpaired", pair.difference),))
        for pair in comparison.pairs
    ]
    return forest_svg(rows, "difference of Spearman ρ, 95 % interval", "Difference of the correlations of two runs")


def remarks(pair: Pair) -> list[str]:
    """How a pair was compared, and what must be known of it."""
    found = ["Paired." if pair.paired else f"Not paired: {pair.why}."]
    if pair.averaged:
        found.append("Both trained the truth by one protocol; its mean is used.")
    if pair.unlike:
        found.append(f"Not like for like: {' and '.join(f'another {name}' for name in pair.unlike)}.")
    if pair.loose is not None and pair.loose.value is not None:
        found.append(f"All candidates of both, not paired: {rho_text(pair.loose)}.")
    return found


def _picks(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Rows of the table of picks: parameters, then what is known of them."""
    picks = [run.report.pick for run in runs]
    names = dict.fromkeys(name for pick in picks if pick is not None for name in pick.params)
    rows = [
        (name, ["–" if pick is None or name not in pick.params else str(pick.params[name]) for pick in picks])
        for name in names
    ]
    sizes = ["–" if pick is None else compact(pick.scores.get("params")) for pick in picks]
    full = ["–" if pick is None else percent(pick.truth, pick.truth_std) for pick in picks]
    test = [percent(run.report.pick_test_accuracy, run.report.pick_test_std) for run in runs]
    searched = ["–" if run.report.pick is None else picked_by(run.report) for run in runs]
    return [
        *rows,
        ("parameter count", sizes),
        ("searched by", searched),
        ("full accuracy", full),
        ("test accuracy", test),
    ]


def _context(comparison: Comparison) -> dict[str, Any]:
    runs = comparison.runs
    rows, notes = side_by_side(runs), notes_of(runs)
    return {
        "comparison": comparison,
        "runs": runs,
        "verdict": comparison.verdict,
        "rho_forest": _rho_forest(comparison),
        "pair_forest": _pair_forest(comparison),
        "unpaired": any(not pair.paired for pair in comparison.pairs),
        "random": any(run.report.score("random_subset") is not None for run in runs),
        "ks": sorted({run.proxy.agreement.k for run in runs if run.proxy is not None}),
        "hardware_differs": any(row.name == "hardware" and row.differs for row in rows),
        "different": [row for row in rows if row.differs],
        "common": [row for row in rows if not row.differs],
        "own_notes": {note: keys for note, keys in notes.items() if len(keys) < len(runs)},
        "common_notes": [note for note, keys in notes.items() if len(keys) == len(runs)],
        "picks": _picks(runs),
        "same_picks": same_picks(comparison),
        "scores": common_scores(runs),
        "search": SEARCH,
        "full": FULL,
        "min_shared": MIN_SHARED,
    }


def render_comparison(comparison: Comparison) -> str:
    """The page: one HTML document without outside references; equal comparisons give equal text."""
    templates = environment()
    templates.filters |= {
        "signed": signed,
        "percent": percent,
        "duration": precise_duration,
        "p": p_value,
        "listed": listed,
        "remarks": remarks,
    }
    templates.tests |= {"significant": significant}
    return templates.get_template("compare.html.j2").render(_context(comparison))


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Writes the page to ``path``, atomically."""
    write_atomically(path, render_comparison(comparison).encode())
    return path
