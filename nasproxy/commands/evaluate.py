"""``nasproxy evaluate``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nasproxy.atomic import write_atomically
from nasproxy.commands.shared import device_named, load_data, say, say_workers, source_of
from nasproxy.condense import recipe_named
from nasproxy.errors import NasproxyError
from nasproxy.evaluate import CROSS, Comparison, Interval, NetSpec, evaluate_proxy, own_net, parse_net
from nasproxy.ledger import Ledger
from nasproxy.progress import progress_bar
from nasproxy.proxyset import load_proxy
from nasproxy.runs import LEDGER_FILE
from nasproxy.workers import hire

CSV_COLUMNS = ("images", "set", "net", "seed", "accuracy", "loss", "seconds", "failure")


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
    dataset: str | None,
    data_dir: Path | None,
    offline: bool,
    device: str,
    workers: int | None,
) -> list[Comparison]:
    """``nasproxy evaluate``: fresh nets on each set beside random real images, measured on the test split."""
    if num_nets < 1 or (epochs is not None and epochs < 1):
        raise NasproxyError(f"`nets >= 1` and `epochs >= 1` must hold, but got nets={num_nets}, epochs={epochs}.")
    asked = [parse_net(text) for text in nets]
    loaded = [(path, load_proxy(path)) for path in proxies]
    choice = device_named(device)
    comparisons = []
    for path, proxy in loaded:
        data = load_data(source_of(proxy, dataset, data_dir), offline=offline)
        own_recipe = proxy.recipe if recipe is None else recipe_named(recipe, data)
        if epochs is not None:
            own_recipe = replace(own_recipe, epochs=epochs)
        say("proxy", f"{path} ({proxy.describe()})")
        say(
            "recipe",
            f"{own_recipe.epochs} epochs, learning rate {own_recipe.lr:g} ({own_recipe.schedule}), augmentation "
            f"{own_recipe.augmentation}",
        )
        wanted = _that_fit(CROSS, data.input_shape, data.num_classes) if cross else (asked or [own_net(proxy)])
        ledger = Ledger(path.parent / LEDGER_FILE, tell=partial(say, "storage"))
        with hire(workers, choice.device, tell=partial(say, "worker")) as crew, progress_bar("evaluating") as progress:
            say_workers(crew)
            found = evaluate_proxy(
                proxy,
                data,
                wanted,
                num_nets=num_nets,
                recipe=own_recipe,
                baseline=baseline,
                seed=seed,
                ledger=ledger,
                crew=crew,
                progress=progress,
            )
        ledger.close()
        comparisons += found
        print()
        for line in lines(found, num_sets=proxy.num_sets):
            print(line)
        print()
    if table is not None:
        write_atomically(table, _csv(comparisons).encode())
        say("table", str(table))
    return comparisons


def _that_fit(specs: Sequence[NetSpec], input_shape: tuple[int, int, int], num_classes: int) -> list[NetSpec]:
    """``specs`` without those that cannot be built for these images, which are named."""
    fitting = []
    for spec in specs:
        try:
            spec.build(input_shape, num_classes)
        except NasproxyError as error:
            say("left out", f"{spec}: {error}")
        else:
            fitting.append(spec)
    return fitting


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "every training failed"
    # Two sets give an interval wider than accuracies can be.
    low, high = (None if end is None else 100 * min(max(end, 0.0), 1.0) for end in (interval.low, interval.high))
    spread = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{100 * interval.value:.1f}{spread}"


def _points(interval: Interval | None) -> str:
    if interval is None:
        return ""
    spread = "" if interval.low is None else f" ({100 * interval.low:+.1f} to {100 * (interval.high or 0):+.1f})"
    return f"{100 * interval.value:+.1f}{spread}"


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
                        _percent(row.mean),
                        "" if row.std is None else f"{100 * row.std:.1f}",
                    )
                )
        if comparison.difference is not None:
            rows.append(("", "difference", "", _points(comparison.difference), ""))
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


def _csv(comparisons: Sequence[Comparison]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        for row in (comparison.row, comparison.baseline):
            for number, own in enumerate(row.sets if row else ()):
                for e in own:
                    values = (row.source if row else "", number, e.candidate, e.seed, e.value, e.loss, e.seconds)
                    writer.writerow((*values, e.failure or ""))
    return out.getvalue()
