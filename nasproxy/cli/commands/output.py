"""What several commands share: how data, device, plan and space are loaded and said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nasproxy.condense.build_plan import BuildPlan
from nasproxy.core import distributed
from nasproxy.core.devices import DeviceChoice, choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.core.progress import progress_bar
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset, load_dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.search.search_plan import SearchPlan
from nasproxy.spaces import SearchSpace, SpaceInspection
from nasproxy.training.crew import Crew


@dataclass(frozen=True)
class Source:
    """How a person named the data set; kept in the proxy's record so that later commands find it again."""

    spec: str
    data_dir: Path | None = None
    image_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        data_dir = None if self.data_dir is None else str(self.data_dir)
        return {"spec": self.spec, "data_dir": data_dir, "image_size": self.image_size}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Source:
        data_dir = values.get("data_dir")
        return Source(values["spec"], None if data_dir is None else Path(data_dir), values.get("image_size"))


def say(topic: str, text: str) -> None:
    """One line of a command's output: a short topic, then the facts."""
    if distributed.own_rank() == 0:
        print(f"{topic:<10}{text}", flush=True)


def load_data(source: Source, *, offline: bool) -> Dataset:
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
    return dataset


def device_named(name: str) -> DeviceChoice:
    choice = choose_device(name)
    say("device", str(choice))
    return choice


def say_workers(crew: Crew) -> None:
    if crew.size > 1:
        say("workers", f"{crew.size} processes")


def say_plan(plan: BuildPlan | SearchPlan) -> None:
    say("budget", f"{plan.budget} ({plan.why})")
    say("", f"leaves out against the paper's protocol: {plan.leaves_out or 'nothing'}")
    ends = datetime.now() + timedelta(seconds=plan.seconds)
    clock = ends.strftime("%H:%M" if plan.seconds < 12 * 3600 else "%H:%M on %d %B")
    say("time", f"about {rough_duration(plan.seconds)}, until about {clock}")


def source_of(proxy: ProxySet, dataset: str | None, data_dir: Path | None) -> Source:
    recorded = Source.from_json(proxy.record["source"]) if proxy.record.get("source") else None
    if dataset is None and recorded is None:
        raise NasproxyError("The proxy file does not say where its data are: name them with --dataset.")
    source = (
        recorded
        if dataset is None
        else Source(dataset, image_size=proxy.input_shape[1] if recorded and recorded.image_size else None)
    )
    assert source is not None
    return source if data_dir is None else replace(source, data_dir=data_dir)


def say_space(space: SearchSpace, inspection: SpaceInspection) -> None:
    for topic, line in zip(("space", "", *[""] * len(inspection.invalid)), inspection.describe(), strict=False):
        say(topic, line)
    if inspection.num_valid == 0:
        raise NasproxyError(f"No candidate of space '{space.name}' can be built for these data: widen the space.")


def size_text(space: SearchSpace) -> str:
    size = space.size()
    return "infinitely many candidates" if size is None else f"{size:,} candidates"
