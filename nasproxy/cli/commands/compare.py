"""``nasproxy compare``: a proxy set by each of several methods, evaluated on one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasproxy.cli.commands.build import build
from nasproxy.cli.commands.evaluate import evaluate
from nasproxy.cli.commands.options import DataOptions, EvaluateOptions, Source
from nasproxy.cli.commands.output import say
from nasproxy.config import METHODS
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.validation.set_accuracy import parse_net
from nasproxy.validation.set_page import Evaluated

DATASET = "digits"
PAGE_FILE, TABLE_FILE = "compare.html", "trainings.csv"


def compare_methods(
    methods: Sequence[str],
    sizes: Sequence[int],
    options: EvaluateOptions,
    data: DataOptions,
    *,
    overrides: dict[str, Any],
    budget: str | None,
    folder: Path | None,
    run_folder: Path,
) -> list[Evaluated]:
    """``nasproxy compare``: builds a set by every method and size, evaluates all and writes them to one page.

    A method that cannot build a set of some size is left out, and the terminal says why.

    Args:
        methods: names of condensation methods.
        sizes: numbers of images per class.
        options: which networks are trained on the sets, and how.
        data: the data and the device.
        overrides: settings of :class:`~nasproxy.config.CondenseConfig` for every method that reads them.
        budget: the name of a budget; None chooses one.
        folder: the folder of sets, page and table; None is a folder in ``run_folder`` named after the data.
        run_folder: the default folder of runs.

    Returns:
        What was measured, per set that was built.

    Raises:
        NasproxyError: when a method is unknown, or no set can be built.
    """
    if not methods or not sizes:
        raise NasproxyError(
            "`compare` needs at least one method and one number of images per class, but got none: give --methods and "
            "--ipc."
        )
    for method in methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    for text in options.networks:
        parse_net(text)  # says what is wrong before any set is built
    spec = data.dataset or DATASET
    folder = folder or run_folder / f"compare-{Path(spec).stem}"
    files, left_out = [], []
    for ipc in dict.fromkeys(sizes):
        for method in dict.fromkeys(methods):
            say("method", f"{method}, {ipc} per class")
            own = {name: value for name, value in overrides.items() if name in METHODS[method].reads}
            try:
                files.append(
                    build(
                        Source(spec, data.data_dir),
                        own | {"method": method, "ipc": ipc},
                        budget=budget,
                        out=None,
                        folder=folder,
                        offline=data.offline,
                        device=data.device,
                        force=False,
                    )
                )
            except NasproxyError as error:
                left_out.append(f"{method}, {ipc} per class: {error}")
                say("left out", left_out[-1])
    if not files:
        raise NasproxyError(f"At least one set must be built, but none could be: {left_out[0]}")
    found = evaluate(
        files,
        options,
        replace(data, dataset=None),
        table=folder / TABLE_FILE,
        page=folder / PAGE_FILE,
        commands=[_command(spec, methods, sizes, options, overrides, budget)],
    )
    for line in left_out:
        say("left out", line)
    return found


def _command(
    spec: str,
    methods: Sequence[str],
    sizes: Sequence[int],
    options: EvaluateOptions,
    overrides: dict[str, Any],
    budget: str | None,
) -> str:
    """The command that repeats the comparison."""
    words = ["nasproxy", "compare", "--dataset", spec, "--methods", ",".join(methods)]
    words += ["--ipc", ",".join(map(str, sizes)), "--nets", str(options.num_nets)]
    words += ["--cross"] if options.cross else []
    for network in options.networks:
        words += ["--network", network]
    for name, value in (overrides | {"budget": budget, "recipe": options.recipe, "epochs": options.epochs}).items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
