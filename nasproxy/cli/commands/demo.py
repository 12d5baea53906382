"""``nasproxy demo``: the whole pipeline on the digits data set."""

from __future__ import annotations

from pathlib import Path

from nasproxy.cli.commands.build import build
from nasproxy.cli.commands.options import DataOptions, SearchOptions, Source
from nasproxy.cli.commands.search import search
from nasproxy.scores.registry import SCORES

# These settings take less than three minutes on two cores and still run every stage.
DEMO_CONDENSE = {"ipc": 1, "outer_steps": 200}
DEMO_SEARCH = {"trials": 30, "epochs": 100}
# All scores but the baselines at equal total cost: those would take longer than everything else.
DEMO_SCORES = ",".join(name for name, score in SCORES.items() if not score.total)
DEMO_VALIDATE = {"sample": 20, "top": 3, "epochs": 10, "scores": DEMO_SCORES}

# With these settings the report has all its parts.
COMPLETE_SEARCH = {"seeds": 2}
COMPLETE_VALIDATE = {"sample": 60, "seeds": 2, "scores": "all"}


def demo(out: Path, device: str, *, complete: bool = False) -> Path:
    """``nasproxy demo``: builds a proxy set of the digits, searches, validates and writes the report.

    Args:
        out: the folder for the proxy set and the run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        complete: whether the run uses two seeds, 60 candidates and every baseline.

    Returns:
        The run folder.
    """
    more_search, more_validate = (COMPLETE_SEARCH, COMPLETE_VALIDATE) if complete else ({}, {})
    proxy = build(
        Source("digits"),
        dict(DEMO_CONDENSE),
        budget="quick",
        out=None,
        folder=out,
        offline=True,
        device=device,
        force=False,
    )
    return search(
        SearchOptions(
            "convnet_small",
            search=DEMO_SEARCH | more_search,
            validate=DEMO_VALIDATE | more_validate,
            data=DataOptions(offline=True, device=device),
            proxy=proxy,
            proxy_folder=out,
            run_folder=out,
            budget="quick",
            out=out / ("complete" if complete else "run"),
        )
    )
