"""``nasproxy report``."""

from __future__ import annotations

from pathlib import Path

from nasproxy.commands.shared import say
from nasproxy.page import write_report
from nasproxy.report import read_report
from nasproxy.runs import REPORT_FILE, load_settings
from nasproxy.verdict import three_lines


def report(run: Path, out: Path | None) -> Path:
    """``nasproxy report``: writes the page of a finished run again, from its data; trains and loads nothing."""
    load_settings(run)
    outcome = read_report(run)
    path = write_report(outcome, out or run / REPORT_FILE)
    for line in three_lines(outcome):
        say("", line)
    say("report", str(path))
    return path
