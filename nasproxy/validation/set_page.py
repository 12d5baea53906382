"""Several proxy sets on one page: how well nets train on each, what each cost, and what it looks like.

The page stands alone, has no script and loads nothing from a network; equal sets and trainings give equal bytes.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.provenance import config_of
from nasproxy.config import METHODS
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.wording import amount, precise_duration, signed
from nasproxy.data import Dataset, denormalize
from nasproxy.data.proxy_set import ProxySet, per_class
from nasproxy.report.page import environment
from nasproxy.report.png import image_grid_png
from nasproxy.validation.set_accuracy import Comparison, Interval, NetSpec, difference_interval

MAX_CLASSES, MAX_IMAGES = 10, 10  # of a set's picture
MAX_SHADE = 22  # percent of the accent colour; small soft letters must stay readable on it
CSV_COLUMNS = ("set", "images", "net", "number", "seed", "accuracy", "loss", "seconds", "failure")


@dataclass(frozen=True)
class Evaluated:
    """A proxy set, ``name`` on the page, and a :class:`~nasproxy.validation.set_accuracy.Comparison` for each net."""

    name: str
    proxy: ProxySet
    comparisons: tuple[Comparison, ...]

    def on(self, net: NetSpec) -> Comparison | None:
        """Its nets of one kind; None where it was not evaluated with them."""
        return next((own for own in self.comparisons if own.row.net == net), None)


def named(files: Sequence[Path], proxies: Sequence[ProxySet]) -> list[str]:
    """A short name for every set: method and size, and the file's where these are not enough."""
    short = [f"{proxy.method}, {per_class(proxy.counts)}" for proxy in proxies]
    return [
        name if short.count(name) == 1 else f"{name} ({file.stem})" for name, file in zip(short, files, strict=True)
    ]


def nets_of(sets: Sequence[Evaluated]) -> list[NetSpec]:
    """All kinds of nets that any of ``sets`` was evaluated with, in the order of their first appearance."""
    return list(dict.fromkeys(own.row.net for one in sets for own in one.comparisons))


# ------------------------------------------------------------------------------------------------------ conclusions


@dataclass(frozen=True)
class Finding:
    """What can be said of the sets of one size: a sentence."""

    size: str
    sentence: str


def findings(sets: Sequence[Evaluated]) -> list[Finding]:
    """For each size, on the first kind of net that all its sets share: which trains best, and what that rests on."""
    found = []
    for size in dict.fromkeys(per_class(one.proxy.counts) for one in sets):
        own = [one for one in sets if per_class(one.proxy.counts) == size]
        shared = [net for net in nets_of(own) if all(_mean(one, net) is not None for one in own)]
        if shared:
            found.append(Finding(size, _sentence(own, shared[0])))
    return found


def _mean(one: Evaluated, net: NetSpec) -> Interval | None:
    comparison = one.on(net)
    return None if comparison is None else comparison.row.mean


def _sentence(sets: Sequence[Evaluated], net: NetSpec) -> str:
    def value(one: Evaluated) -> float:
        mean = _mean(one, net)
        return mean.value if mean is not None else 0.0

    order = sorted(sets, key=value, reverse=True)
    first = order[0]
    text = f"On {net}, {first.proxy.method} trains best: {percent_interval(_mean(first, net))}."
    if len(order) > 1:
        second = order[1]
        gap = difference_interval(_units(first, net), _units(second, net))
        sure = gap.low is not None and gap.low > 0
        text += f" Its lead over {second.proxy.method} is {points_interval(gap)}" + (
            ", more than chance explains" if sure else ", which may be chance"
        )
        single = sure and min(first.proxy.num_sets, second.proxy.num_sets) == 1
        text += "."
        if single:
            text += " Only one set of a method was measured; another seed may give another result."
    useless = [one.proxy.method for one in order if _beats_random(one, net) is False and one.proxy.method != "random"]
    if useless:
        text += f" Not shown to train better than random real images: {', '.join(useless)}."
    return text


def _units(one: Evaluated, net: NetSpec) -> list[float]:
    comparison = one.on(net)
    return [] if comparison is None else comparison.row.units


def _beats_random(one: Evaluated, net: NetSpec) -> bool | None:
    """Whether that is shown; None where no random images were trained on."""
    comparison = one.on(net)
    if comparison is None or comparison.baseline is None:
        return None
    gap = comparison.difference
    return gap is not None and gap.low is not None and gap.low > 0


def percent_interval(interval: Interval | None) -> str:
    """An accuracy in percent with its interval, cut to what accuracies can be."""
    if interval is None:
        return "every training failed"
    # Two sets give an interval wider than accuracies can be.
    low, high = (None if end is None else 100 * min(max(end, 0.0), 1.0) for end in (interval.low, interval.high))
    spread = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{100 * interval.value:.1f}{spread}"


def points_interval(interval: Interval | None) -> str:
    """A difference of accuracies in points with its interval; empty for None."""
    if interval is None:
        return ""
    low, high = interval.low, interval.high
    spread = "" if low is None or high is None else f" ({signed(100 * low, 1)} to {signed(100 * high, 1)})"
    return f"{signed(100 * interval.value, 1)}{spread}"


# ---------------------------------------------------------------------------------------------------------- the page


def _cells(sets: Sequence[Evaluated], nets: Sequence[NetSpec]) -> list[list[dict[str, Any] | None]]:
    """The cross-architecture matrix: per set and net its accuracy, and how far it lies between the column's ends."""
    columns = [[_mean(one, net) for one in sets] for net in nets]
    rows: list[list[dict[str, Any] | None]] = []
    for number, one in enumerate(sets):
        row: list[dict[str, Any] | None] = []
        for net, column in zip(nets, columns, strict=True):
            comparison = one.on(net)
            if comparison is None:
                row.append(None)
                continue
            values = [mean.value for mean in column if mean is not None]
            mean = column[number]
            spread = max(values) - min(values) if values else 0.0
            share = 0.0 if mean is None or not spread else (mean.value - min(values)) / spread
            row.append(
                {
                    "value": percent_interval(mean),
                    "best": mean is not None and mean.value == max(values) and len(values) > 1,
                    "shade": round(MAX_SHADE * share),
                    "n": len(comparison.row.accuracies),
                    "failed": len(comparison.row.failures),
                    "gap": points_interval(comparison.difference),
                    "random": None if comparison.baseline is None else percent_interval(comparison.baseline.mean),
                }
            )
        rows.append(row)
    return rows


def _picture(proxy: ProxySet) -> str:
    """The first images of the first classes of the first set, as a PNG in base64."""
    labels = proxy.labels[0] if proxy.labels.ndim == 2 else proxy.labels[0].argmax(1)
    classes = labels.unique()[:MAX_CLASSES]  # soft labels may leave some without an image
    shown = torch.cat([(labels == label).nonzero()[:MAX_IMAGES, 0] for label in classes])
    pixels = denormalize(proxy.images[0, shown], proxy.mean, proxy.std).numpy()
    rows = torch.searchsorted(classes, labels[shown])
    return base64.b64encode(image_grid_png(pixels, rows.numpy(), len(classes))).decode()


def _flops(one: Evaluated, dataset: Dataset) -> float | None:
    try:
        return one.proxy.num_sets * condensing_flops(dataset, config_of(one.proxy))
    except NasproxyError:
        return None


def trainings_csv(sets: Sequence[Evaluated]) -> str:
    """Every training of ``sets`` and of their random real images, a row each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in sets:
        for comparison in one.comparisons:
            for row in (comparison.row, comparison.baseline):
                for number, own in enumerate(row.sets if row is not None else ()):
                    source = row.source if row is not None else ""
                    for e in own:
                        values = (one.name, source, e.candidate, number, e.seed, e.value, e.loss, e.seconds)
                        writer.writerow((*values, e.failure or ""))
    return out.getvalue()


def _caption(proxy: ProxySet) -> str:
    """What a set's picture shows."""
    spec = METHODS.get(proxy.method)
    real, learns = (spec.real_images, spec.learns) if spec is not None else (False, True)
    only_labels = real and learns
    kind = "Real" if real else "Learned"
    soft = f", with {'learned' if only_labels else 'soft'} labels; shown by their likeliest class"
    return f"{kind} images{soft if proxy.labels.ndim == 3 else ''}."


def render_sets(sets: Sequence[Evaluated], dataset: Dataset, *, commands: Sequence[str] = ()) -> str:
    """The page as one HTML document.

    Raises:
        NasproxyError: for no set at all.
    """
    if not sets:
        raise NasproxyError("A page of proxy sets needs at least one, but got none.")
    nets = nets_of(sets)
    entries = []
    for one, cells in zip(sets, _cells(sets, nets), strict=True):
        record = one.proxy.record
        entries.append(
            {
                "name": one.name,
                "caption": _caption(one.proxy),
                "proxy": one.proxy,
                "cells": cells,
                "seconds": float(record["seconds"]),
                "peak": record.get("peak_bytes"),
                "flops": _flops(one, dataset),
                "hardware": record.get("hardware", "not recorded"),
                "picture": _picture(one.proxy),
                "settings": json.dumps(one.proxy.provenance["config"], sort_keys=True),
                "recipe": ", ".join(f"{name}={value}" for name, value in vars(one.proxy.recipe).items() if value != ()),
            }
        )
    templates = environment()
    templates.filters |= {"duration": precise_duration, "amount": amount}
    text: str = templates.get_template("sets.html.j2").render(
        dataset=dataset,
        nets=nets,
        entries=entries,
        findings=findings(sets),
        single=[one.name for one in sets if one.proxy.num_sets == 1],
        commands=commands,
        csv=base64.b64encode(trainings_csv(sets).encode()).decode(),
        max_images=MAX_IMAGES,
        max_classes=MAX_CLASSES,
    )
    return text


def write_sets(sets: Sequence[Evaluated], dataset: Dataset, path: Path, *, commands: Sequence[str] = ()) -> Path:
    """Writes the page to ``path``, atomically."""
    write_atomically(path, render_sets(sets, dataset, commands=commands).encode())
    return path
