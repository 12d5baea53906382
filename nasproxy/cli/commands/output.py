"""The lines that several commands print, and what they load or choose when they print them: data, device and space."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from nasproxy.cli.commands.options import DataOptions, Source
from nasproxy.condense.build_plan import BuildPlan
from nasproxy.core import distributed
from nasproxy.core.devices import DeviceChoice, choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.core.progress import progress_bar
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset, load_dataset
from nasproxy.data.dataset import shared_images
from nasproxy.data.proxy_set import ProxySet
from nasproxy.search.search_plan import SearchPlan
from nasproxy.spaces import SearchSpace, SpaceInspection
from nasproxy.training.crew import Crew


def say(topic: str, text: str) -> None:
    """Prints one line: a short topic, then the facts. Of several processes only the first prints."""
    if distributed.own_rank() == 0:
        print(f"{topic:<10}{text}", flush=True)


def load_data(source: Source, *, offline: bool) -> Dataset:
    """Loads the data set that ``source`` names, and prints its size.

    Raises:
        NasproxyError: when there is no such data set, or it cannot be read or downloaded.
    """
    with progress_bar("loading data") as progress:
        dataset = load_dataset(
            source.spec,
            data_dir=source.data_dir,
            offline=offline,
            image_size=source.image_size,
            progress=progress,
        )
    channels, height, width = dataset.input_shape
    say(
        "data",
        f"{dataset.name}: {len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test "
        f"images of {channels}×{height}×{width}, {dataset.num_classes} classes",
    )
    for note in dataset.notes:
        say("left out", note)
    if shared := shared_images(dataset):
        pairs = ", ".join(f"{number:,} {pair}" for pair, number in shared.items())
        say("warning", f"some images are in two splits, pixel for pixel ({pairs}): accuracies on them are too high")
    return dataset


def source_of(proxy: ProxySet, data: DataOptions) -> Source:
    """The data set for a proxy set: the one in ``data`` if it is given, else the one in the proxy set's record.

    Raises:
        NasproxyError: when neither names it.
    """
    recorded = Source.from_json(proxy.record["source"]) if proxy.record.get("source") else None
    if data.dataset is not None:
        source = Source(data.dataset, image_size=proxy.input_shape[1] if recorded and recorded.image_size else None)
    elif recorded is not None:
        source = recorded
    else:
        raise NasproxyError("A proxy file must record its data set, but this one does not: give --dataset.")
    return source if data.data_dir is None else replace(source, data_dir=data.data_dir)


def device_named(name: str) -> DeviceChoice:
    """Chooses the device called ``name``, and prints it with the reason.

    Raises:
        NasproxyError: when there is no such device.
    """
    choice = choose_device(name)
    say("device", str(choice))
    return choice


def say_workers(crew: Crew) -> None:
    """Prints the number of worker processes, if there are several."""
    if crew.size > 1:
        say("workers", f"{crew.size} processes")


def say_plan(plan: BuildPlan | SearchPlan) -> None:
    """Prints the budget and why it was chosen, the differences from the paper's protocol, and the estimated time."""
    say("budget", f"{plan.budget} ({plan.why})")
    say("", f"differences from the paper's protocol: {plan.leaves_out or 'none'}")
    end = datetime.now() + timedelta(seconds=plan.seconds)
    clock = end.strftime("%H:%M" if plan.seconds < 12 * 3600 else "%H:%M on %d %B")
    say("time", f"about {rough_duration(plan.seconds)}, finished at about {clock}")


def say_space(space: SearchSpace, inspection: SpaceInspection) -> None:
    """Prints how many candidates of ``space`` can be built for the data, and why the others cannot.

    Raises:
        NasproxyError: when none can be built.
    """
    for topic, line in zip(("space", "", *[""] * len(inspection.invalid)), inspection.describe(), strict=False):
        say(topic, line)
    if inspection.num_valid == 0:
        raise NasproxyError(
            f"No candidate of space '{space.name}' can be built for these data: change its parameters or its limits."
        )


def check_new_file(option: str, path: Path | None) -> None:
    """Refuses a file to write that is a folder, or lies in a file, before any work is done for it.

    Raises:
        NasproxyError: naming ``option``.
    """
    if path is None:
        return
    if path.is_dir():
        raise NasproxyError(f"{option} takes a file, but '{path}' is a folder: name a file in it.")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise NasproxyError(
            f"{option} takes a file in a folder, but in '{path}' '{parent.name}' is a file: name a folder."
        )
