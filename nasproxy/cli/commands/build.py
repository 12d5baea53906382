"""``nasproxy build-proxy``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nasproxy.cli.commands.output import Source, load_data, say, say_plan
from nasproxy.condense.build import build_proxy, checkpoint_of
from nasproxy.condense.build_plan import ORDER, budget_config, plan_build
from nasproxy.condense.checkpoint import checkpoint_config
from nasproxy.condense.experts import expert_files, trained_epochs
from nasproxy.condense.initial import check_images, initial_labels
from nasproxy.condense.memory import memory_needed
from nasproxy.condense.methods import CONDENSERS
from nasproxy.condense.provenance import provenance_of
from nasproxy.config import METHODS, PRECISIONS, CondenseConfig, check_options, condense_config, config_hash
from nasproxy.core import distributed
from nasproxy.core.devices import DeviceChoice, choose_device
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.core.files import write_atomically
from nasproxy.core.progress import progress_bar
from nasproxy.core.wording import amount, rough_duration
from nasproxy.data import Dataset, denormalize
from nasproxy.data.proxy_set import SUFFIX, ProxySet, load_proxy, save_proxy
from nasproxy.report.png import image_grid_png
from nasproxy.spaces import load_space

# Settings of a build that timing decides, so that another day may decide otherwise.
TIMED = ("threads", "compile", "precision", "outer_steps")


@dataclass(frozen=True)
class _Request:
    """What a person asked for: ``options`` as they were given, and ``asked``, the settings that they make."""

    source: Source
    options: Mapping[str, Any]
    asked: CondenseConfig
    budget: str | None

    def file(self, dataset: Dataset, folder: Path) -> Path:
        """The proxy file. Its name follows from what was asked for, not from what was planned: the same command finds
        its file again, although the next timing might plan otherwise.
        """
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.options.items()}
        digest = config_hash(values, self.budget, dataset.fingerprint)
        counts = self.asked.counts(dataset.num_classes)
        size = f"ipc{counts[0]}" if min(counts) == max(counts) else f"n{sum(counts)}"
        return folder / f"{dataset.name}-{self.asked.method}-{size}-{digest[:8]}{SUFFIX}"


def build(
    source: Source,
    options: Mapping[str, Any],
    *,
    budget: str | None,
    out: Path | None,
    folder: Path,
    offline: bool,
    device: str,
    force: bool,
    ipc_per_class: str | None = None,
) -> Path:
    """``nasproxy build-proxy``: returns the proxy file. Processes that ``torchrun`` started share the work.

    Args:
        options: settings of :class:`~nasproxy.config.CondenseConfig` that were given.
        out: the file; None: a file in ``folder`` that is named after what was asked for.
        force: whether an existing file is replaced.
        ipc_per_class: the images of each class, as :func:`class_counts` reads them.
    """
    method = options.get("method", CondenseConfig.method)
    check_options(method, dict(options) | ({} if ipc_per_class is None else {"ipc_per_class": ipc_per_class}))
    asked = condense_config(**options)
    if asked.match_space is not None:
        load_space(asked.match_space)  # says what is wrong before any data are loaded
    choice = choose_device(device)
    with distributed.joined(choice.device):
        processes = distributed.num_peers()
        if processes > 1 and not METHODS[method].shares_work:
            sharing = ", ".join(name for name, spec in METHODS.items() if spec.shares_work)
            raise NasproxyError(
                f"Several processes can share the work of {sharing} only, but got --method {method}: start one process."
            )
        say("device", str(choice) + (f", {processes} processes" if processes > 1 else ""))
        dataset = load_data(source, offline=offline)
        if ipc_per_class is not None:
            counts = class_counts(ipc_per_class, dataset.class_names, asked.ipc)
            options = {**options, "ipc_per_class": counts}
            asked = condense_config(**options)
            pairs = zip(dataset.class_names, asked.counts(dataset.num_classes), strict=True)
            say("images", ", ".join(f"{name} {count}" for name, count in pairs))
        request = _Request(source, options, asked, budget)
        check_images(dataset, asked)
        path = out or request.file(dataset, folder)
        if path.suffix != SUFFIX:
            raise NasproxyError(f"A proxy file ends in {SUFFIX}, but got --out '{path}'.")
        if path.exists() and not force:
            if out is not None:
                raise NasproxyError(f"'{path}' exists: use --force to replace it, or another --out.")
            return _found(path, request, dataset)
        return _build(path, request, dataset, choice, force=force)


def class_counts(text: str, names: Sequence[str], others: int) -> tuple[int, ...]:
    """The images of each class from ``10,10,5``, in the order of ``names``, or from ``cat=10,dog=5``.

    Args:
        others: images of classes that are not named.

    Raises:
        NasproxyError: for names that are no class, or are there twice, and for anything that is no whole number.
    """
    found: dict[str, int] = {}
    by_name = "=" in text
    for place, part in enumerate(text.split(",")):
        name, _, number = part.rpartition("=") if by_name else (str(place), "", part)
        if by_name and name not in names:
            raise unknown("class", name, names)
        if name in found:
            raise NasproxyError(f"--ipc-per-class must name a class once, but got '{name}' twice.")
        try:
            found[name] = int(number)
        except ValueError:
            raise NasproxyError(
                f"--ipc-per-class takes whole numbers, such as 10,10,5 or {names[0]}=10, but got '{part}'."
            ) from None
    return tuple(found.get(name, others) for name in names) if by_name else tuple(found.values())


def _found(path: Path, request: _Request, dataset: Dataset) -> Path:
    """Says that ``path`` is built already, and where its settings are not those that would be chosen now."""
    changed = _changed(load_proxy(path), request, dataset)
    path.touch()  # search takes the newest
    say("proxy", f"{path} is built already; --force builds it again")
    if changed:
        say("", f"its settings differ from those that this command chooses now: {changed}")
    return path


def _changed(proxy: ProxySet, request: _Request, dataset: Dataset) -> str:
    """The settings of ``proxy`` that the same command would choose otherwise now; empty for none.

    What timing decides is left out, and so are settings that were unknown then.
    """
    built = proxy.provenance["config"]
    learns = METHODS[request.asked.method].learns
    names = ORDER if request.budget is None or not learns else (request.budget,)
    found: list[list[str]] = []
    for name in names:
        now = provenance_of(dataset, budget_config(name, request.options, dataset))["config"]
        differ = [key for key, value in now.items() if key not in TIMED and built.get(key, value) != value]
        found.append([f"{key} was {built[key]}, is {now[key]}" for key in differ])
    fewest = min(found, key=len)
    return ", ".join(fewest)


def _build(path: Path, request: _Request, dataset: Dataset, choice: DeviceChoice, *, force: bool) -> Path:
    """Plans, builds and saves the set, or resumes an interrupted build; prints its progress."""
    checkpoint = path.with_suffix(".checkpoint")
    if force:
        _forget(checkpoint, request.asked.num_sets)
    learns = METHODS[request.asked.method].learns
    if distributed.from_first(checkpoint.exists()):
        config = checkpoint_config(checkpoint)
        say("resume", f"from {checkpoint}, with the settings it was started with")
    else:
        plan = distributed.from_first(plan_build(dataset, request.options, budget=request.budget, device=choice.device))
        config = plan.config
        if learns:
            say_plan(plan)
    if learns:
        for number, line in enumerate(_loops(dataset, config, request.options)):
            say("" if number else "loops", line)
        needed = memory_needed(dataset, config, choice.device)
        if needed:
            say("memory", f"about {amount(needed, 'B')}, beside the data, to differentiate through training")
    pictures = path.with_suffix("")

    def snapshot(outer: int, images: Tensor) -> None:
        write_atomically(pictures / f"net-{outer:05d}.png", _grid(dataset, images, initial_labels(dataset, config)))

    with progress_bar("condensing") as progress:
        proxy = build_proxy(
            dataset,
            config,
            choice=choice,
            source=request.source.as_json(),
            checkpoint=checkpoint,
            progress=progress,
            on_snapshot=snapshot,
        )
    if distributed.own_rank() > 0:
        return path
    save_proxy(proxy, path)
    write_atomically(path.with_suffix(".png"), _grid(dataset, proxy.images[0], proxy.labels[0]))
    _forget(checkpoint, config.num_sets)
    say("proxy", f"{path} ({proxy.describe()}, {rough_duration(proxy.record['seconds'])})")
    say("picture", str(path.with_suffix(".png")))
    return path


def _forget(checkpoint: Path, num_sets: int) -> None:
    """Removes what an unfinished build left."""
    for number in range(num_sets):
        own = checkpoint_of(checkpoint, number)
        for path in (own, *expert_files(own)):
            path.unlink(missing_ok=True)


def _loops(dataset: Dataset, config: CondenseConfig, options: Mapping[str, Any]) -> list[str]:
    """How often each step is repeated, and how it runs, in words."""
    reads, unrolled = METHODS[config.method].reads, CONDENSERS[config.method].unrolled
    inner, net = config.loops
    first = f"{config.outer_steps} nets × {inner} matchings, {net} net epochs between"
    if "net_steps" not in reads:
        first = f"{config.outer_steps} steps"
        if unrolled is not None:
            first += f", each through {unrolled(dataset, config).steps} steps of training"
        if "num_experts" in reads:
            first += f", along {config.num_experts} trainings of {trained_epochs(config)} epochs"
    real = f"; {config.batch_real} real images per class" if "batch_real" in reads else ""
    lines = [f"{first}; {_net(config)}{real}"]
    precision = config.precision or PRECISIONS[0]
    timed = " (timed)" if "precision" not in options and precision != PRECISIONS[0] else ""
    parts = [f"{precision}{timed}"]
    if config.threads is not None:
        parts.append(f"{config.threads} of {os.cpu_count()} cores{'' if 'threads' in options else ' (timed)'}")
    if config.compile:
        parts.append("compiled")
    if "augmentation" in reads and config.augmentation != "none":
        parts.append(f"augmentation {config.augmentation}")
    if config.num_sets > 1:
        parts.append(f"{config.num_sets} sets")
    return [*lines, "; ".join(parts), *_accelerations(config)]


def _net(config: CondenseConfig) -> str:
    if config.match_space is not None:
        return f"nets drawn from {config.match_space}"
    if config.network in ("convnet", "mlp"):
        return f"{config.network} of width {config.width}, depth {config.depth}"
    return config.network


def _accelerations(config: CondenseConfig) -> list[str]:
    """The options that need fewer matchings, in words."""
    parts = []
    if config.real_choice == "kmeans":
        parts.append(f"real images by k-means every {config.choice_interval} matchings")
    if config.pool:
        moved = f", perturbed by up to {config.perturbation:g}" if config.perturbation else ""
        parts.append(f"pool of {config.pool} nets trained for {config.pool_epochs} epochs{moved}")
    if config.net_data == "real":
        parts.append(f"the net trains on {config.batch_net} real images instead")
    if config.formation > 1:
        parts.append(f"{config.formation}×{config.formation} smaller images in each")
    return parts


def _grid(dataset: Dataset, images: Tensor, labels: Tensor) -> bytes:
    pixels = denormalize(images, dataset.mean, dataset.std).numpy()
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    return image_grid_png(pixels, classes.numpy(), dataset.num_classes)
