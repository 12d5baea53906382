"""``nasproxy demo``."""

from __future__ import annotations

from pathlib import Path

from nasproxy.commands.build import build
from nasproxy.commands.search import search
from nasproxy.commands.shared import Source

# Small enough for three minutes on two cores, large enough that every part of the road is walked.
DEMO_CONDENSE = {"ipc": 1, "outer_steps": 200}
DEMO_SEARCH = {"trials": 30, "epochs": 100}
DEMO_VALIDATE = {"sample": 20, "top": 3, "epochs": 10}


def demo(out: Path, device: str) -> Path:
    """``nasproxy demo``: condense, search, validate and report on the embedded digits; returns the run folder."""
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
        "convnet_small",
        proxy=proxy,
        proxy_folder=out,
        run_folder=out,
        search_overrides=dict(DEMO_SEARCH),
        validate_overrides=dict(DEMO_VALIDATE),
        budget="quick",
        validation=True,
        truth=None,
        out=out / "run",
        dataset=None,
        data_dir=None,
        offline=True,
        device=device,
        workers=None,
        storage=None,
        forked=False,
    )
