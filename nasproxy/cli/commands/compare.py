"""``nasproxy compare``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasproxy.cli.commands.build import build
from nasproxy.cli.commands.evaluate import evaluate
from nasproxy.cli.commands.output import Source, say
from nasproxy.config import METHODS
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.validation.set_page import Evaluated

PAGE_FILE, TABLE_FILE = "compare.html", "trainings.csv"


def compare_methods(
    source: Source,
    methods: Sequence[str],
    sizes: Sequence[int],
    *,
    overrides: dict[str, Any],
    budget: str | None,
    networks: Sequence[str],
    cross: bool,
    num_nets: int,
    recipe: str | None,
    epochs: int | None,
    folder: Path | None,
    run_folder: Path,
    offline: bool,
    device: str,
    workers: int | None,
) -> list[Evaluated]:
    """``nasproxy compare``: a set by every method and size, evaluated and written to one page.

    A method that cannot make a set of some size is named and left out.
    """
    if not methods or not sizes:
        raise NasproxyError("`compare` needs at least one method and one number of images per class, but got none.")
    for method in methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    folder = folder or run_folder / f"compare-{Path(source.spec).stem}"
    files, left_out = [], []
    for ipc in dict.fromkeys(sizes):
        for method in dict.fromkeys(methods):
            say("method", f"{method}, {ipc} per class")
            own = {name: value for name, value in overrides.items() if name in METHODS[method].reads}
            try:
                files.append(
                    build(
                        source,
                        own | {"method": method, "ipc": ipc},
                        budget=budget,
                        out=None,
                        folder=folder,
                        offline=offline,
                        device=device,
                        force=False,
                    )
                )
            except NasproxyError as error:
                left_out.append(f"{method}, {ipc} per class: {error}")
                say("left out", left_out[-1])
    if not files:
        raise NasproxyError(f"No set could be made: {left_out[0]}")
    options: dict[str, Any] = {"nets": num_nets, "cross": cross or None, "network": list(networks)} | overrides
    options |= {"budget": budget, "recipe": recipe, "epochs": epochs}
    found = evaluate(
        files,
        nets=networks,
        cross=cross,
        num_nets=num_nets,
        recipe=recipe,
        epochs=epochs,
        baseline=True,
        seed=overrides["seed"],
        table=folder / TABLE_FILE,
        page=folder / PAGE_FILE,
        commands=[_command(source.spec, methods, sizes, options)],
        dataset=None,
        data_dir=source.data_dir,
        offline=offline,
        device=device,
        workers=workers,
    )
    for line in left_out:
        say("left out", line)
    return found


def _command(spec: str, methods: Sequence[str], sizes: Sequence[int], options: dict[str, Any]) -> str:
    """The command that repeats it; an option of None was not given, one of True is a flag, a list repeats it."""
    words = ["nasproxy", "compare", "--dataset", spec, "--methods", ",".join(methods)]
    words += ["--ipc", ",".join(map(str, sizes))]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words += [option] if each is True else [option, str(each)]
    return shlex.join(words)
