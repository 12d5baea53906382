"""``nasproxy report`` of several runs: one page that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasproxy.commands.shared import say
from nasproxy.compare import compare as compare_runs
from nasproxy.compare import load_runs, write_comparison
from nasproxy.compare.conclusions import p_text
from nasproxy.correlation import Estimate
from nasproxy.errors import NasproxyError
from nasproxy.wording import signed

COMPARE_FILE = "compare.html"
MAX_PAIRS = 6  # on the terminal; the page has all


def compare(folders: Sequence[Path], out: Path | None) -> Path:
    """Writes the comparison of several finished runs, from their data; trains and loads nothing."""
    if out is not None and out.is_dir():
        raise NasproxyError(
            f"--out takes a file, but '{out}' is a folder: name one in it, such as {out / 'NAME.html'}."
        )
    runs = load_runs(folders)
    found = compare_runs(runs)
    width = max(len(run.name) for run in runs)
    for run in runs:
        gap = run.report.difference
        random = "" if gap is None else f"   minus random images {_short(gap)}"
        say(run.key, f"{run.name:<{width}}   n = {run.rho.n}   ρ {_short(run.rho)}{random}")
    if len(found.pairs) <= MAX_PAIRS:
        for pair in found.pairs:
            how = f"paired, {pair.shared} shared" if pair.paired else f"not paired: {pair.why}"
            p = "" if pair.p is None else f"   {p_text(pair.p)}"
            say(f"{pair.first} − {pair.second}", f"{_short(pair.difference)}{p}   {how}")
    say("", found.verdict.sentence)
    path = write_comparison(found, out or _default(folders))
    say("report", str(path))
    return path


def _short(estimate: Estimate) -> str:
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return signed(estimate.value)
    return f"{signed(estimate.value)} ({signed(estimate.low)} to {signed(estimate.high)})"


def _default(folders: Sequence[Path]) -> Path:
    """In the folder that holds all runs, as the person would write it; in the current one if there is none."""
    parents = {folder.resolve().parent for folder in folders}
    if len(parents) > 1:
        return Path(COMPARE_FILE)
    path = parents.pop() / COMPARE_FILE
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
