"""``nasproxy build-proxy``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from nasproxy.cli.commands.output import Source, load_data, say, say_plan
from nasproxy.condense.build import CONDENSERS, build_proxy, checkpoint_of, provenance
from nasproxy.condense.build_plan import ORDER, budget_config, plan_build
from nasproxy.condense.checkpoint import checkpoint_config
from nasproxy.condense.initial import initial_labels
from nasproxy.condense.memory import UNROLLED, memory_needed
from nasproxy.condense.methods.trajectory_matching import expert_files, trained_epochs
from nasproxy.config import PRECISIONS, READS, SELECTIONS, CondenseConfig, check_reads, condense_config, config_hash
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

# Of a build's settings: what timing decides, on another day otherwise.
TIMED = ("threads", "compile", "precision", "outer_steps")


def build(
    source: Source,
    overrides: dict[str, Any],
    *,
    budget: str | None,
    out: Path | None,
    folder: Path,
    offline: bool,
    device: str,
    force: bool,
) -> Path:
    """``nasproxy build-proxy``: returns the proxy file. Processes started by ``torchrun`` share the work."""
    method = overrides.get("method", CondenseConfig.method)
    if method not in CONDENSERS:
        raise unknown("method", method, CONDENSERS)
    check_reads(method, overrides)
    asked = condense_config(**overrides)  # says what is wrong before any data are loaded
    if asked.match_space is not None:
        load_space(asked.match_space)
    choice = choose_device(device)
    with distributed.joined(choice.device):
        if distributed.num_peers() > 1 and "pool" not in READS[method]:
            raise NasproxyError(f"Only gradient matching shares its work over processes, but got --method {method}.")
        say("device", str(choice) + (f", {distributed.num_peers()} processes" if distributed.num_peers() > 1 else ""))
        dataset = load_data(source, offline=offline)
        return _build(source, dataset, overrides, budget=budget, out=out, folder=folder, choice=choice, force=force)


def _build(
    source: Source,
    dataset: Dataset,
    overrides: dict[str, Any],
    *,
    budget: str | None,
    out: Path | None,
    folder: Path,
    choice: DeviceChoice,
    force: bool,
) -> Path:
    method = overrides.get("method", CondenseConfig.method)
    # The file is named after what was asked for, not after what was planned: the same command finds it again, although
    # the next timing might plan otherwise.
    digest = config_hash({name: _plain(value) for name, value in overrides.items()}, budget, dataset.fingerprint)
    counts = condense_config(**overrides).counts(dataset.num_classes)
    size = f"ipc{counts[0]}" if min(counts) == max(counts) else f"n{sum(counts)}"
    path = out or folder / f"{dataset.name}-{method}-{size}-{digest[:8]}{SUFFIX}"
    if path.suffix != SUFFIX:
        raise NasproxyError(f"A proxy file ends in {SUFFIX}, but got --out '{path}'.")
    if path.exists() and not force:
        if out is not None:
            raise NasproxyError(f"'{path}' exists: use --force to replace it, or another --out.")
        changed = _changed(load_proxy(path), dataset, overrides, budget)
        path.touch()  # search takes the newest
        say("proxy", f"{path} is built already; --force builds it again")
        if changed:
            say("", f"by settings that are others now: {changed}")
        return path
    checkpoint = path.with_suffix(".checkpoint")
    if force:
        _forget(checkpoint, overrides.get("num_sets", CondenseConfig.num_sets))
    if distributed.from_first(checkpoint.exists()):
        config = checkpoint_config(checkpoint)
        say("resume", f"from {checkpoint}, with the settings it was started with")
    else:
        plan = distributed.from_first(plan_build(dataset, overrides, budget=budget, device=choice.device))
        config = plan.config
        if config.method not in SELECTIONS:
            say_plan(plan)
    if config.method not in SELECTIONS:
        for number, line in enumerate(_loops(dataset, config, overrides)):
            say("" if number else "loops", line)
        needed = memory_needed(dataset, config, choice.device)
        if needed:
            say("memory", f"about {amount(needed, 'B')}, beside the data, to go back through training")
    pictures = path.with_suffix("")

    def snapshot(outer: int, images: Tensor) -> None:
        write_atomically(pictures / f"net-{outer:05d}.png", _grid(dataset, images, initial_labels(dataset, config)))

    with progress_bar("condensing") as progress:
        proxy = build_proxy(
            dataset,
            config,
            choice=choice,
            source=source.as_json(),
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


def _changed(proxy: ProxySet, dataset: Dataset, overrides: dict[str, Any], budget: str | None) -> str:
    """Where the settings of ``proxy`` are not those that the same command would choose now; empty for nowhere.

    What timing decides is left out, and so are settings that were unknown then.
    """
    built = proxy.provenance["config"]
    names = ORDER if budget is None or proxy.method in SELECTIONS else (budget,)
    found: list[list[str]] = []
    for name in names:
        now = provenance(dataset, budget_config(name, overrides, dataset))["config"]
        differ = [key for key, value in now.items() if key not in TIMED and built.get(key, value) != value]
        found.append([f"{key} was {built[key]}, is {now[key]}" for key in differ])
    fewest = min(found, key=len)
    return ", ".join(fewest)


def _forget(checkpoint: Path, num_sets: int) -> None:
    """Removes what an unfinished build left."""
    for number in range(num_sets):
        own = checkpoint_of(checkpoint, number)
        for path in (own, *expert_files(own)):
            path.unlink(missing_ok=True)


def _loops(dataset: Dataset, config: CondenseConfig, overrides: dict[str, Any]) -> list[str]:
    """What will be done how often, in words."""
    reads = READS[config.method]
    inner, net = config.loops
    first = f"{config.outer_steps} nets × {inner} matchings, {net} net epochs between"
    if "net_steps" not in reads:
        first = f"{config.outer_steps} steps"
        if config.method in UNROLLED:
            first += f", each through {UNROLLED[config.method](dataset, config).steps} steps of training"
        if "num_experts" in reads:
            first += f", along {config.num_experts} trainings of {trained_epochs(config)} epochs"
    real = f"; {config.batch_real} real images per class" if "batch_real" in reads else ""
    lines = [f"{first}; {_net(config)}{real}"]
    precision = config.precision or PRECISIONS[0]
    coarser = " (timed)" if "precision" not in overrides and precision != PRECISIONS[0] else ""
    parts = [f"{precision}{coarser}"]
    if config.threads is not None:
        parts.append(f"{config.threads} of {os.cpu_count()} cores{'' if 'threads' in overrides else ' (timed)'}")
    if config.compile:
        parts.append("compiled")
    if "augmentation" in reads and config.augmentation != "none":
        parts.append(f"augmentation {config.augmentation}")
    if config.num_sets > 1:
        parts.append(f"{config.num_sets} sets")
    return [*lines, "; ".join(parts), *_faster(config)]


def _net(config: CondenseConfig) -> str:
    if config.match_space is not None:
        return f"nets drawn from {config.match_space}"
    if config.network in ("convnet", "mlp"):
        return f"{config.network} of width {config.width}, depth {config.depth}"
    return config.network


def _faster(config: CondenseConfig) -> list[str]:
    """The options that need fewer matchings, in words."""
    parts = []
    if config.real_choice == "kmeans":
        parts.append(f"real images by k-means every {config.choice_interval} matchings")
    if config.pool:
        moved = f", moved by up to {config.perturbation:g}" if config.perturbation else ""
        parts.append(f"pool of {config.pool} nets trained for {config.pool_epochs} epochs{moved}")
    if config.net_data == "real":
        parts.append(f"the net trains on {config.batch_net} real images instead")
    if config.formation > 1:
        parts.append(f"{config.formation}×{config.formation} smaller images in each")
    return parts


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _grid(dataset: Dataset, images: Tensor, labels: Tensor) -> bytes:
    pixels = denormalize(images, dataset.mean, dataset.std).numpy()
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    return image_grid_png(pixels, classes.numpy(), dataset.num_classes)
