"""``nasproxy evaluate``: networks that are trained on proxy sets, and the tables that the terminal shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nasproxy.cli.commands.options import DataOptions, EvaluateOptions
from nasproxy.cli.commands.output import check_new_file, device_named, load_data, say, say_workers, source_of
from nasproxy.condense.build import recipe_named
from nasproxy.config import Recipe
from nasproxy.core.devices import DeviceChoice
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.progress import progress_bar
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, load_proxy
from nasproxy.networks import seeded
from nasproxy.scores.baselines import rival_recipe
from nasproxy.search.run_folder import LEDGER_FILE
from nasproxy.training.crew import hire
from nasproxy.training.ledger import Ledger
from nasproxy.validation.set_accuracy import CROSS, Comparison, NetSpec, evaluate_proxy, own_net, parse_net
from nasproxy.validation.set_page import (
    Evaluated,
    named,
    nets_of,
    percent_interval,
    points_interval,
    trainings_csv,
    write_sets,
)


def evaluate(
    proxies: Sequence[Path],
    options: EvaluateOptions,
    data: DataOptions,
    *,
    table: Path | None = None,
    page: Path | None = None,
    commands: Sequence[str] = (),
) -> list[Evaluated]:
    """``nasproxy evaluate``: trains new networks on each set and on random real images; prints their test accuracy.

    Several sets are also compared in one table. Without ``options.networks`` a set trains the network that it was
    matched with. A set that was matched with none, such as random images, trains that of the first set that has one.

    Args:
        proxies: the proxy files; all must come from the same data.
        options: which networks are trained, and how.
        data: the data and the device.
        table: a CSV file to write, one row per training.
        page: an HTML page to write.
        commands: the commands that repeat this comparison, for the page.

    Returns:
        What was measured, per proxy file.

    Raises:
        NasproxyError: when a file cannot be read, or the sets come from different data.
    """
    for option, file in (("--csv", table), ("--html", page)):
        check_new_file(option, file)
    asked = [parse_net(text) for text in options.networks]
    proxy_sets = [load_proxy(path) for path in proxies]
    _check_same_data(proxies, proxy_sets)
    own_nets = [own_net(proxy) for proxy in proxy_sets]
    common = next(filter(None, own_nets), NetSpec("convnet"))
    choice = device_named(data.device)
    sets: list[Evaluated] = []
    dataset, source_of_data = None, None
    for name, path, proxy, own in zip(named(proxies, proxy_sets), proxies, proxy_sets, own_nets, strict=True):
        source = source_of(proxy, data)
        if source != source_of_data or dataset is None:
            dataset, source_of_data = load_data(source, offline=data.offline), source
        say("proxy", f"{path} ({proxy.describe()})")
        found = _evaluate_set(path, proxy, dataset, asked or [own or common], options, choice)
        sets.append(Evaluated(name, proxy, tuple(found)))
        print("\n" + "\n".join(lines(found, num_sets=proxy.num_sets)) + "\n")
    if len(sets) > 1:
        print("Test accuracy in %, ± half of its 95 % interval; * marks the best set of a network.\n")
        print("\n".join(matrix_lines(sets)), end="\n\n")
    if table is not None:
        write_atomically(table, trainings_csv(sets).encode())
        say("table", str(table))
    if page is not None and dataset is not None:
        say("page", str(write_sets(sets, dataset, page, commands=commands)))
    return sets


def _check_same_data(paths: Sequence[Path], proxy_sets: Sequence[ProxySet]) -> None:
    if len({proxy.provenance["dataset"]["fingerprint"] for proxy in proxy_sets}) > 1:
        of_each = ", ".join(
            f"'{path}' of {proxy.provenance['dataset']['name']}" for path, proxy in zip(paths, proxy_sets, strict=True)
        )
        raise NasproxyError(
            f"Sets that are compared must come from the same data, but got {of_each}: evaluate the sets of each data "
            "set by a separate command."
        )


def _evaluate_set(
    path: Path,
    proxy: ProxySet,
    dataset: Dataset,
    nets: Sequence[NetSpec],
    options: EvaluateOptions,
    choice: DeviceChoice,
) -> list[Comparison]:
    """Trains ``nets``, or those of the cross-architecture table, on one file's sets; prints recipe and progress."""
    recipes = _recipes(proxy, dataset, options)
    say("recipe", _recipe_text(recipes[0]))
    baseline = options.baseline and _has_random_images(proxy, dataset)
    rival = rival_recipe(recipes[0], dataset)
    if baseline and rival != recipes[0]:
        say("", f"for random images, because that one was learned for this set: {_recipe_text(rival)}")
    wanted = _that_fit(CROSS, dataset.input_shape, dataset.num_classes) if options.cross else nets
    ledger = Ledger(path.parent / LEDGER_FILE, tell=partial(say, "storage"))
    crew_of = partial(hire, options.workers, choice.device, tell=partial(say, "worker"))
    with crew_of() as crew, progress_bar("evaluating") as progress:
        say_workers(crew)
        found = evaluate_proxy(
            proxy,
            dataset,
            wanted,
            num_nets=options.num_nets,
            recipes=recipes,
            baseline=baseline,
            seed=options.seed,
            ledger=ledger,
            crew=crew,
            progress=progress,
        )
    ledger.close()
    return found


def _recipes(proxy: ProxySet, dataset: Dataset, options: EvaluateOptions) -> list[Recipe]:
    """The training recipe of each set in the file."""
    recipes = [
        proxy.recipe_of(number) if options.recipe is None else recipe_named(options.recipe, dataset)
        for number in range(proxy.num_sets)
    ]
    return recipes if options.epochs is None else [replace(each, epochs=options.epochs) for each in recipes]


def _has_random_images(proxy: ProxySet, dataset: Dataset) -> bool:
    """Whether every class has as many training images as the set has images of it; says so if not."""
    sizes = [len(indices) for indices in dataset.train.by_class(dataset.num_classes)]
    enough = all(size >= count for size, count in zip(sizes, proxy.counts, strict=True))
    if not enough:
        say("left out", "random real images: a class has fewer training images than the set has images of it")
    return enough


def _recipe_text(recipe: Recipe) -> str:
    epochs = f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
    return f"{epochs}, learning rate {recipe.lr:.3g} ({recipe.schedule}), augmentation {recipe.augmentation}"


def _that_fit(specs: Sequence[NetSpec], input_shape: tuple[int, int, int], num_classes: int) -> list[NetSpec]:
    """``specs`` without those that cannot be built for images of ``input_shape``; says which are left out."""
    fitting = []
    for spec in specs:
        try:
            seeded(partial(spec.build, input_shape, num_classes), 0)
        except NasproxyError as error:
            say("left out", f"{spec}: {error}")
        else:
            fitting.append(spec)
    return fitting


def lines(comparisons: Sequence[Comparison], *, num_sets: int) -> list[str]:
    """The table of one file for a terminal: per network the set, random real images and the difference, in percent."""
    rows = [("net", "trained on", "n", "test accuracy, % (95 %)", "std")]
    for comparison in comparisons:
        for row in (comparison.row, comparison.baseline):
            if row is not None:
                rows.append(
                    (
                        str(row.net) if row is comparison.row else "",
                        row.source,
                        str(len(row.accuracies)),
                        percent_interval(row.mean),
                        "" if row.std is None else f"{100 * row.std:.1f}",
                    )
                )
        if comparison.difference is not None:
            rows.append(("", "difference", "", points_interval(comparison.difference), ""))
    text = _aligned(rows)
    failures = [(row.net, reason) for c in comparisons for row in (c.row, c.baseline) if row for reason in row.failures]
    text += [f"failed: {net}: {reason}" for net, reason in failures]
    if num_sets > 1:
        text.append(f"The intervals are over the {num_sets} sets of the file.")
    else:
        text.append("The intervals are over networks on this one set. Another set may differ by more (--num-sets).")
    if any(comparison.baseline for comparison in comparisons):
        text.append("Every network of the random real images trains on its own draw of them.")
    return text


def matrix_lines(sets: Sequence[Evaluated]) -> list[str]:
    """The table of several files for a terminal: networks in rows, sets in columns, the best of a row with a star."""
    keys = [chr(ord("A") + place) if place < 26 else str(place) for place in range(len(sets))]
    rows = [("net", *keys)]
    for net in nets_of(sets):
        means = [own.row.mean if (own := one.on(net)) is not None else None for one in sets]
        best = max((mean.value for mean in means if mean is not None), default=None)
        cells = []
        for mean in means:
            if mean is None:
                cells.append("–")
                continue
            half = "" if mean.low is None else f" ± {100 * (mean.value - mean.low):.1f}"
            cells.append(f"{100 * mean.value:.1f}{half}{'*' if mean.value == best else ''}")
        rows.append((str(net), *cells))
    return [*(f"{key}  {one.name}" for key, one in zip(keys, sets, strict=True)), "", *_aligned(rows)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """``rows`` in columns of equal width, with a rule below the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    return text
