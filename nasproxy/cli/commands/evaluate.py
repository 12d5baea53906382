"""``nasproxy evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nasproxy.cli.commands.output import device_named, load_data, say, say_workers, source_of
from nasproxy.condense.build import recipe_named
from nasproxy.config import Recipe
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.progress import progress_bar
from nasproxy.data.proxy_set import load_proxy
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
    *,
    nets: Sequence[str],
    cross: bool,
    num_nets: int,
    recipe: str | None,
    epochs: int | None,
    baseline: bool,
    seed: int,
    table: Path | None,
    page: Path | None,
    commands: Sequence[str] = (),
    dataset: str | None,
    data_dir: Path | None,
    offline: bool,
    device: str,
    workers: int | None,
) -> list[Evaluated]:
    """``nasproxy evaluate``: fresh nets on each set beside random real images, measured on the test split.

    Several sets also give the cross-architecture matrix. Without ``nets`` a set trains the net it was matched with; one
    that was matched with none, as random images, takes that of the first set that names one.
    """
    if num_nets < 1 or (epochs is not None and epochs < 1):
        raise NasproxyError(f"`nets >= 1` and `epochs >= 1` must hold, but got nets={num_nets}, epochs={epochs}.")
    asked = [parse_net(text) for text in nets]
    loaded = [(path, load_proxy(path)) for path in proxies]
    if len({proxy.provenance["dataset"]["fingerprint"] for _, proxy in loaded}) > 1:
        of_each = ", ".join(f"'{path}' of {proxy.provenance['dataset']['name']}" for path, proxy in loaded)
        raise NasproxyError(
            f"Sets that are compared must come from the same data, but got {of_each}: evaluate those of each data set "
            "by a command of their own."
        )
    own_nets = [own_net(proxy) for _, proxy in loaded]
    common = next(filter(None, own_nets), NetSpec("convnet"))
    choice = device_named(device)
    sets: list[Evaluated] = []
    data, of = None, None
    names = named([path for path, _ in loaded], [proxy for _, proxy in loaded])
    for name, (path, proxy), own in zip(names, loaded, own_nets, strict=True):
        source = source_of(proxy, dataset, data_dir)
        if source != of or data is None:
            data, of = load_data(source, offline=offline), source
        recipes = [
            proxy.recipe_of(number) if recipe is None else recipe_named(recipe, data)
            for number in range(proxy.num_sets)
        ]
        if epochs is not None:
            recipes = [replace(each, epochs=epochs) for each in recipes]
        say("proxy", f"{path} ({proxy.describe()})")
        say("recipe", _recipe_text(recipes[0]))
        sizes = [len(indices) for indices in data.train.by_class(data.num_classes)]
        beside = baseline and all(size >= count for size, count in zip(sizes, proxy.counts, strict=True))
        if baseline and not beside:
            say("left out", "random real images: some class has fewer training images than the set has of it")
        rival = rival_recipe(recipes[0], data)
        if beside and rival != recipes[0]:
            say("", f"that was learned for these images; random ones: {_recipe_text(rival)}")
        wanted = _that_fit(CROSS, data.input_shape, data.num_classes) if cross else (asked or [own or common])
        ledger = Ledger(path.parent / LEDGER_FILE, tell=partial(say, "storage"))
        with hire(workers, choice.device, tell=partial(say, "worker")) as crew, progress_bar("evaluating") as progress:
            say_workers(crew)
            found = evaluate_proxy(
                proxy,
                data,
                wanted,
                num_nets=num_nets,
                recipes=recipes,
                baseline=beside,
                seed=seed,
                ledger=ledger,
                crew=crew,
                progress=progress,
            )
        ledger.close()
        sets.append(Evaluated(name, proxy, tuple(found)))
        print()
        for line in lines(found, num_sets=proxy.num_sets):
            print(line)
        print()
    if len(sets) > 1:
        print("\n".join(matrix_lines(sets)), end="\n\n")
    if table is not None:
        write_atomically(table, trainings_csv(sets).encode())
        say("table", str(table))
    if page is not None and data is not None:
        say("page", str(write_sets(sets, data, page, commands=commands)))
    return sets


def _recipe_text(recipe: Recipe) -> str:
    return (
        f"{recipe.epochs} epochs, learning rate {recipe.lr:.3g} ({recipe.schedule}), augmentation {recipe.augmentation}"
    )


def _that_fit(specs: Sequence[NetSpec], input_shape: tuple[int, int, int], num_classes: int) -> list[NetSpec]:
    """``specs`` without those that cannot be built for these images, which are named."""
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
    """The table for a terminal: per net the set, random real images and the difference, in percent."""
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    failures = [(row.net, reason) for c in comparisons for row in (c.row, c.baseline) if row for reason in row.failures]
    text += [f"failed: {net}: {reason}" for net, reason in failures]
    if num_sets > 1:
        text.append(f"Intervals of the set are over its {num_sets} sets.")
    else:
        text.append("Intervals of the set are over nets on this one set; another set may differ by more (--num-sets).")
    if any(comparison.baseline for comparison in comparisons):
        text.append("Every net of the random images has a draw of its own.")
    return text


def matrix_lines(sets: Sequence[Evaluated]) -> list[str]:
    """The cross-architecture matrix for a terminal: nets in rows, sets in columns, the best of a row with a star."""
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    return [*(f"{key}  {one.name}" for key, one in zip(keys, sets, strict=True)), "", *text]
