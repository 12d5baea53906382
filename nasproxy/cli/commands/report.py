"""``nasproxy report``: the page of one run, or the page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasproxy.cli.commands.output import check_new_file, say
from nasproxy.report.comparison import compare as compare_runs
from nasproxy.report.comparison import load_runs, write_comparison
from nasproxy.report.data import read_report
from nasproxy.report.page import write_report
from nasproxy.report.verdict import last_lines
from nasproxy.report.wording import p_text, value_and_interval
from nasproxy.search.run_folder import REPORT_FILE, load_settings

COMPARE_FILE = "compare.html"
MAX_PAIRS = 6  # on the terminal; the page has all


def report(run: Path, out: Path | None) -> Path:
    """``nasproxy report RUN``: writes the page of a finished run again, from its results; trains nothing.

    Args:
        run: the run folder.
        out: the page to write; None is the page in the run folder.

    Returns:
        The page.

    Raises:
        NasproxyError: when there is no finished run, or ``out`` is a folder.
    """
    check_new_file("--out", out)
    load_settings(run)  # says what is wrong when there is no run
    outcome = read_report(run)
    path = write_report(outcome, out or run / REPORT_FILE)
    for line in last_lines(outcome):
        say("", line)
    say("report", str(path))
    return path


def compare(folders: Sequence[Path], out: Path | None) -> Path:
    """``nasproxy report RUN RUN ...``: writes one page that compares finished runs, from their results; trains nothing.

    Args:
        folders: the run folders, at least two.
        out: the page to write; None is compare.html in the folder that holds all runs.

    Returns:
        The page.

    Raises:
        NasproxyError: when a run is not finished, or ``out`` is a folder.
    """
    check_new_file("--out", out)
    runs = load_runs(folders)
    found = compare_runs(runs)
    width = max(len(run.name) for run in runs)
    say("runs", "Spearman's ρ of proxy score and full accuracy, with its 95 % interval")
    for run in runs:
        gap = run.report.difference
        random = "" if gap is None else f"   difference from random images {value_and_interval(gap)}"
        say(run.key, f"{run.name:<{width}}   n = {run.rho.n}   ρ = {value_and_interval(run.rho)}{random}")
    if len(found.pairs) <= MAX_PAIRS:
        for pair in found.pairs:
            how = f"paired: {pair.shared} shared candidates" if pair.paired else f"not paired: {pair.why}"
            p = "" if pair.p is None else f"   {p_text(pair.p)}"
            say(f"{pair.first} − {pair.second}", f"{value_and_interval(pair.difference)}{p}   {how}")
    say("", found.verdict.sentence)
    path = write_comparison(found, out or _default(folders))
    say("report", str(path))
    return path


def _default(folders: Sequence[Path]) -> Path:
    """The page in the folder that holds all runs, else in the current folder; relative if it is below that one."""
    parents = {folder.resolve().parent for folder in folders}
    if len(parents) > 1:
        return Path(COMPARE_FILE)
    path = parents.pop() / COMPARE_FILE
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
