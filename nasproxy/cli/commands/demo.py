"""``nasproxy demo``."""

from __future__ import annotations

from pathlib import Path

from nasproxy.cli.commands.build import build
from nasproxy.cli.commands.options import DataOptions, SearchOptions
from nasproxy.cli.commands.output import Source
from nasproxy.cli.commands.search import search
from nasproxy.scores.registry import SCORES

# Small enough for three minutes on two cores, large enough that every part of the road is walked.
DEMO_CONDENSE = {"ipc": 1, "outer_steps": 200}
DEMO_SEARCH = {"trials": 30, "epochs": 100}
# Everything but rivals at equal total cost, which here would take longer than all the rest.
DEMO_SCORES = ",".join(name for name, score in SCORES.items() if not score.total)
DEMO_VALIDATE = {"sample": 20, "top": 3, "epochs": 10, "scores": DEMO_SCORES}

# A report that leaves nothing out.
COMPLETE_SEARCH = {"seeds": 2}
COMPLETE_VALIDATE = {"sample": 60, "seeds": 2, "scores": "all"}


def demo(out: Path, device: str, *, complete: bool = False) -> Path:
    """``nasproxy demo``: condense, search, validate and report on the embedded digits; returns the run folder."""
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
