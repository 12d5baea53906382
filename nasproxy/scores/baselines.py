"""Baselines that a proxy set has to beat: small sets of real images, and the full data stopped early.

All train by the proxy set's recipe. They differ in what is equal:

- **equal images**, and so equal training cost: ``random_subset``, ``kmeans_subset``;
- **equal training cost**, with fresh images in every batch: ``early_stop``;
- **equal total cost**: the cost of making the proxy set is shared among the candidates of the search, and each trains
  on more images for it: ``random_total``, ``kmeans_total``, ``early_stop_total``. Cost is counted in FLOPs, which
  depend on the settings alone, so that the same validation needs the same trainings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nasproxy.condense.build import recipe_named
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.initial import draw_per_class
from nasproxy.condense.methods.selections import kmeans_indices, selected
from nasproxy.config import CondenseConfig, Recipe, config_hash
from nasproxy.core.files import write_atomically
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet, one_or_all, per_class
from nasproxy.scores.spending import Spending
from nasproxy.training.fit import num_updates
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.tasks import TrainingTask, training_task

CPU = torch.device("cpu")
EMBEDDING_WIDTH = 32  # of the net that embeds images for k-means, if the proxy set names no net


@dataclass(frozen=True)
class Making:
    """How the task of a score is made, besides the proxy set and its data.

    Attributes:
        recipe: how candidates train; None: by the proxy set's recipe.
        precision: "float32", or "bfloat16" for the net's products.
        draw: which of several random draws, from 0.
        device: computes what a baseline is chosen by.
        folder: keeps what was computed; None keeps nothing.
        spending: what the search costs; None where it is not known.
        progress: is called with (done, total, note).
    """

    recipe: Recipe | None = None
    precision: str = "float32"
    draw: int = 0
    device: torch.device = CPU
    folder: Path | None = None
    spending: Spending | None = None
    progress: Callable[[int, int, str], None] | None = None

    def times(self, total: bool, own: float = 0.0) -> float:
        """How many times the proxy set's training cost a candidate may cost: 1, or more for ``total`` cost.

        ``own`` is what making the baseline costs, in FLOPs.
        """
        return self.spending.times(own) if total and self.spending is not None else 1.0


def _counts(proxy: ProxySet, dataset: Dataset, times: float) -> tuple[int, ...]:
    """Images of each class that cost ``times`` as much to train on as the proxy's, as far as the data have them."""
    if times == 1:
        return proxy.counts
    sizes = [len(indices) for indices in dataset.train.by_class(dataset.num_classes)]
    return tuple(
        max(own, min(size, round(own * times))) for own, size in zip(proxy.counts, _level(sizes, proxy), strict=True)
    )


def _level(sizes: list[int], proxy: ProxySet) -> list[int]:
    """``sizes`` of classes; where the proxy has equally many images of each, all are that of the smallest class."""
    return [min(sizes)] * len(sizes) if len(set(proxy.counts)) == 1 else sizes


def rival_recipe(recipe: Recipe, dataset: Dataset) -> Recipe:
    """How a baseline of a set with ``recipe`` trains: by it, unless step sizes or an order were learned in it."""
    return recipe_named("one_cycle", dataset) if recipe.learned else recipe


def _task(
    proxy: ProxySet, dataset: Dataset, making: Making, *, score: str, label: str, train: TrainingImages, of: str
) -> TrainingTask:
    return training_task(
        dataset,
        score=score,
        label=label,
        train=train,
        images=f"{of} of {dataset.fingerprint}",
        recipe=rival_recipe(making.recipe or proxy.recipe, dataset),
        precision=making.precision,
    )


def random_subset_task(
    proxy: ProxySet, dataset: Dataset, making: Making | None = None, *, total: bool = False
) -> TrainingTask:
    """The score "random_subset": random training images, as many per class as the proxy set has.

    The draw differs from that of a ``random`` proxy set with the same seed.

    Args:
        total: make "random_total", with more images for an equal total cost.

    Raises:
        NasproxyError: when a class has fewer images than the proxy set.
    """
    making = making or Making()
    draw = (making.draw,) if making.draw else ()
    seed = derive_seed(int(proxy.provenance["config"]["seed"]), "random-subset baseline", *draw)
    counts = _counts(proxy, dataset, making.times(total))
    drawn = draw_per_class(dataset.train, counts, seed)
    return _task(
        proxy,
        dataset,
        making,
        score="random_total" if total else "random_subset",
        label=f"Random real images ({per_class(counts)}{', equal total cost' if total else ''})",
        train=TrainingImages(dataset.normalize(drawn.images), drawn.labels),
        of=f"random {one_or_all(counts)} {seed}",
    )


def kmeans_subset_task(
    proxy: ProxySet, dataset: Dataset, making: Making | None = None, *, total: bool = False
) -> TrainingTask:
    """The score "kmeans_subset": real images nearest to the centres of k-means, as many per class as the proxy set has.

    k-means runs on embeddings by a net like the one that the proxy set was matched with.

    Args:
        total: make "kmeans_total", with more images for an equal total cost.

    Raises:
        NasproxyError: when a class has fewer images than the proxy set.
    """
    making = making or Making()
    known = proxy.provenance["config"]
    net = {name: known[name] for name in ("network", "width", "depth", "norm") if name in known}
    config = CondenseConfig(**({"width": EMBEDDING_WIDTH} | net), method="kmeans", seed=int(known["seed"]))
    counts = _counts(proxy, dataset, making.times(total, condensing_flops(dataset, config)))
    index, seconds = _kept_selection(dataset, _of_counts(config, counts), making)
    images = TrainingImages(dataset.normalize(dataset.train.images[index]), dataset.train.labels[index])
    task = _task(
        proxy,
        dataset,
        making,
        score="kmeans_total" if total else "kmeans_subset",
        label=f"Real images by k-means ({per_class(counts)}{', equal total cost' if total else ''})",
        train=images,
        of=f"k-means {config_hash(index.tolist())}",
    )
    return replace(task, made_in=seconds)


def _of_counts(config: CondenseConfig, counts: tuple[int, ...]) -> CondenseConfig:
    """``config`` with ``counts`` images of the classes; as ``ipc`` where all are equal."""
    equal = min(counts) == max(counts)
    return replace(config, ipc=counts[0]) if equal else replace(config, ipc_per_class=counts)


def _kept_selection(dataset: Dataset, config: CondenseConfig, making: Making) -> tuple[torch.Tensor, float]:
    """The indices of the images that k-means chooses, and the seconds that it took; kept in ``making.folder``."""
    digest = config_hash(dataset.fingerprint, config.as_json())[:16]
    path = None if making.folder is None else making.folder / f"kmeans-{digest}.json"
    if path is not None and path.is_file():
        kept = json.loads(path.read_text())
        return torch.tensor(kept["index"], dtype=torch.int64), float(kept["seconds"])
    index, seconds = selected(kmeans_indices, dataset, config, device=making.device, progress=making.progress)
    if path is not None:
        write_atomically(path, json.dumps({"seconds": seconds, "index": index.tolist()}).encode())
    return index, seconds


def early_stop_task(
    proxy: ProxySet, dataset: Dataset, making: Making | None = None, *, total: bool = False
) -> TrainingTask:
    """The score "early_stop": as many updates as on the proxy set, with batches of fresh training images.

    Training cost, recipe and batch size are those of the proxy set. Images are repeated only if there are too few.

    Args:
        total: make "early_stop_total", with more updates for an equal total cost.
    """
    making = making or Making()
    recipe = rival_recipe(making.recipe or proxy.recipe, dataset)
    num_proxy = len(proxy.training_images(0)[0])
    batch = min(recipe.batch_size, num_proxy)
    wanted = round(making.times(total) * num_updates(recipe, num_proxy)) * batch
    epochs = math.ceil(wanted / len(dataset.train))
    seed = int(proxy.provenance["config"]["seed"])
    index = torch.randperm(len(dataset.train), generator=generator(seed, "early-stop"))[: math.ceil(wanted / epochs)]
    recipe = replace(recipe, batch_size=batch, epochs=epochs, shuffle=True)
    num = num_updates(recipe, len(index))
    return _task(
        proxy,
        dataset,
        replace(making, recipe=recipe),
        score="early_stop_total" if total else "early_stop",
        label=f"Full data, stopped after {num:,} updates{' (equal total cost)' if total else ''}",
        train=real_images(dataset, LabeledImages(dataset.train.images[index], dataset.train.labels[index])),
        of=f"first {len(index)} by {seed}",
    )
