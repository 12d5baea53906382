"""Real images chosen to stand for their class: by k-means, herding, k-centre, forgetting or entropy.

Every method chooses class by class, among the training images, on what a net shows after ``pool_epochs`` epochs on
them: the embedding that its last layer reads (or the pixels, where ``features`` says so), or what it predicts.

References: [DC-BENCH] Cui, Wang, Si, Hsieh, "DC-BENCH: Dataset Condensation Benchmark", NeurIPS 2022. [iCaRL] Rebuffi,
Kolesnikov, Sperl, Lampert, CVPR 2017, algorithm 4; the idea is Welling's, ICML 2009. [k-centre] Sener, Savarese,
"Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018, algorithm 1. [forgetting] Toneva
et al., "An Empirical Study of Example Forgetting", ICLR 2019. [entropy] Coleman et al., "Selection via Proxy", ICLR
2020.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.condense.accelerations import early_recipe, embeddings, near_centres
from nasproxy.condense.contract import FIRST_ORDER, BuildRun, Condensed, Condenser, Progress
from nasproxy.condense.initial import enough_images
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import METHODS, CondenseConfig, config_hash
from nasproxy.core.devices import float32_as
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset
from nasproxy.training.fit import Curve, Passes, fit, images_per_pass, num_updates
from nasproxy.training.images import TrainingImages

PREDICTION_BATCH = 512
NUM_KEPT = 8

T = TypeVar("T")

# What nets that choose were trained for, newest last, each with the seconds that it took: k-means, herding, k-centre
# and entropy of all sizes ask the same net, forgetting of all sizes the same counts. Another process trains its own.
_kept: dict[str, tuple[Any, float]] = {}


def _trains_net(config: CondenseConfig) -> bool:
    """Whether a net is trained first: always, but where images may be chosen by their pixels."""
    return config.features == "embedding" or "features" not in METHODS[config.method].reads


@dataclass
class _Choosing:
    """What all methods work with; ``tell`` shows how far it is.

    ``saved``: seconds of work that was done before, for another selection.
    """

    dataset: Dataset
    config: CondenseConfig
    real: RealBatches
    progress: Progress | None
    saved: float = 0.0

    @property
    def _steps(self) -> tuple[int, int]:
        """Of training the net, and after it."""
        recipe = early_recipe(self.config.pool_epochs)
        updates = num_updates(recipe, len(self.dataset.train)) if _trains_net(self.config) else 0
        return updates, self.dataset.num_classes

    def tell(self, done: int, note: str) -> None:
        if self.progress is not None:
            self.progress(done, sum(self._steps), note)

    def kept(self, what: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, or what it gave when ``what`` was asked for with equal settings before."""
        config, device = self.config, str(self.real.device)
        settings = (config.network, config.width, config.depth, config.norm, config.pool_epochs, config.seed)
        key = config_hash(what, self.dataset.fingerprint, device, settings)
        if key not in _kept:
            start = time.perf_counter()
            _kept[key] = make(), time.perf_counter() - start
            if len(_kept) > NUM_KEPT:
                del _kept[next(iter(_kept))]
        else:
            self.saved += _kept[key][1]
        own: T = _kept[key][0]
        return own

    def kept_net(self) -> nn.Module:
        """:meth:`brief_net`, or the one that an equal setting trained before."""
        return self.kept("net", self.brief_net)

    def brief_net(self, curve: Curve | None = None) -> nn.Module:
        """The net of the settings after ``pool_epochs`` epochs on the training images, in evaluation mode."""
        config = replace(self.config, match_space=None)
        net = build_net(config, self.dataset, 0, self.real.device)
        fit(
            net,
            TrainingImages(self.real.images, self.real.labels, self.real.normalize),
            early_recipe(config.pool_epochs),
            seed=derive_seed(config.seed, "embedding net"),
            device=self.real.device,
            passes=Passes(images_per_pass(net, self.dataset.input_shape, self.real.device)),
            curve=curve,
            on_update=lambda done, _: self.tell(done, "training the net that chooses"),
        )
        return net.eval()

    def features(self) -> Callable[[Tensor], Tensor]:
        """Numbers of images ``(n,)`` to their features ``(n, d)`` on the CPU."""
        if self.config.features == "pixels":
            return lambda numbers: self.real.take(numbers).flatten(1).cpu()
        net = self.kept_net()
        return lambda numbers: embeddings(net, self.real.take, numbers)

    def class_by_class(self, choose: Callable[[Tensor, int, int], Tensor]) -> Tensor:
        """``choose(numbers, count, label)``, which are places among ``numbers``, for each class: ``(n,)`` numbers."""
        chosen = []
        for label, count in enumerate(self.config.counts(self.dataset.num_classes)):
            numbers = self.real.numbers[label]
            chosen.append(numbers.cpu()[choose(numbers, count, label)])
            self.tell(self._steps[0] + label + 1, "choosing")
        return torch.cat(chosen)


def _most(values: Tensor, count: int, stream: torch.Generator) -> Tensor:
    """The places of the ``count`` largest of ``values`` ``(n,)``; ties are drawn."""
    order = torch.randperm(len(values), generator=stream)
    return order[values[order].argsort(descending=True, stable=True)[:count]]


def kmeans_indices(choosing: _Choosing) -> Tensor:
    """Real images nearest to the centres of k-means over embeddings: the strongest published baseline for ranking."""
    features = choosing.features()

    def choose(numbers: Tensor, count: int, label: int) -> Tensor:
        if len(numbers) <= count:
            return torch.arange(len(numbers))
        near = near_centres(features(numbers), count, derive_seed(choosing.config.seed, "k-means", label))
        return _distinct(near, len(numbers))

    return choosing.class_by_class(choose)


def _distinct(chosen: Tensor, num: int) -> Tensor:
    """``chosen`` with the first unused of 0 … ``num`` − 1 for repetitions: two centres may share a nearest image."""
    seen: dict[int, None] = dict.fromkeys(chosen.tolist())
    for place in range(num):
        if len(seen) == len(chosen):
            break
        seen.setdefault(place)
    return torch.tensor(list(seen), dtype=torch.int64)


def herding_indices(choosing: _Choosing) -> Tensor:
    """Real images whose mean, as one after the other is added, stays nearest to the mean of their class (herding)."""
    features = choosing.features()
    return choosing.class_by_class(lambda numbers, count, _: herd(functional.normalize(features(numbers)), count))


def herd(points: Tensor, count: int) -> Tensor:
    """The places in ``points`` ``(n, d)`` that herding takes, in order: int64 ``(count,)``, each once ([iCaRL]).

    Step k takes the x that minimises ‖μ − (x + Σ of those before) / k‖, μ the mean of all points.
    """
    mean, total = points.mean(0), torch.zeros_like(points[0])
    free = torch.ones(len(points), dtype=torch.bool)
    chosen = []
    for k in range(1, count + 1):
        distances = (mean - (points + total) / k).norm(dim=1).masked_fill(~free, torch.inf)
        place = int(distances.argmin())
        chosen.append(place)
        free[place] = False
        total = total + points[place]
    return torch.tensor(chosen)


def k_center_indices(choosing: _Choosing) -> Tensor:
    """Real images that leave no image of their class far from all of them (greedy k-centre)."""
    features = choosing.features()
    return choosing.class_by_class(lambda numbers, count, _: spread_out(features(numbers), count))


def spread_out(points: Tensor, count: int) -> Tensor:
    """The places in ``points`` ``(n, d)`` that greedy k-centre takes: int64 ``(count,)``, each once ([k-centre]).

    The first is the one nearest to the mean, every other the one farthest from those before.
    """
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    distances = torch.full((len(points),), torch.inf)
    for _ in range(count - 1):
        distances = torch.minimum(distances, (points - points[chosen[-1]]).norm(dim=1))
        distances[chosen] = -1.0  # copies of an image have distance 0 and come last
        chosen.append(int(distances.argmax()))
    return torch.tensor(chosen)


def forgetting_indices(choosing: _Choosing) -> Tensor:
    """Real images that a net most often forgets while it trains on all of them."""
    config = choosing.config
    forgotten = choosing.kept("forgetting", lambda: forgetting_counts(choosing))
    return choosing.class_by_class(
        lambda numbers, count, label: _most(
            forgotten[numbers.cpu()], count, generator(config.seed, "ties of forgetting", label)
        )
    )


def forgetting_counts(choosing: _Choosing) -> Tensor:
    """How often each training image is forgotten while a net trains on all of them: int64 ``(n,)``.

    Forgotten: right after one epoch, and wrong after the next; never right counts as forgotten most. Differs from
    [forgetting], where an image is judged when it is in a batch.
    """
    config, real = choosing.config, choosing.real
    every = torch.arange(len(real.labels), device=real.device)
    right_before = torch.zeros(len(every), dtype=torch.bool)
    ever = right_before.clone()
    forgotten = torch.zeros(len(every), dtype=torch.int64)

    def judge(net: nn.Module) -> float:
        net.eval()
        right = predictions(net, real, every).argmax(1) == real.labels.cpu()
        forgotten.add_((right_before & ~right).long())
        right_before.copy_(right)
        ever.logical_or_(right)
        return float(right.float().mean())

    judge(choosing.brief_net(Curve(judge, frozenset(range(1, config.pool_epochs)))))  # the last epoch, too
    forgotten[~ever] = config.pool_epochs + 1
    return forgotten


def entropy_indices(choosing: _Choosing) -> Tensor:
    """Real images of whose class a briefly trained net is least certain: the entropy of its prediction is highest."""
    net = choosing.kept_net()

    def choose(numbers: Tensor, count: int, label: int) -> Tensor:
        logs = predictions(net, choosing.real, numbers).log_softmax(1)
        entropy = -(logs.exp() * logs).sum(1)
        return _most(entropy, count, generator(choosing.config.seed, "ties of entropy", label))

    return choosing.class_by_class(choose)


@torch.no_grad()
def predictions(net: nn.Module, real: RealBatches, numbers: Tensor) -> Tensor:
    """Logits ``(n, C)`` on the CPU of the images ``numbers`` ``(n,)``."""
    return torch.cat([net(real.take(part)).float().cpu() for part in numbers.split(PREDICTION_BATCH)])


def selected(
    choose: Callable[[_Choosing], Tensor],
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[Tensor, float]:
    """What ``choose`` (``kmeans_indices``, …) takes: numbers of training images, sorted by class, int64 ``(n,)``.

    And the seconds of work in it, those of a net that was trained for another selection before included.

    Raises:
        NasproxyError: when a class has fewer images than are to be chosen.
    """
    enough_images(dataset.train, config.counts(dataset.num_classes))
    start = time.perf_counter()
    choosing = _Choosing(dataset, config, RealBatches(dataset, device), progress)
    with float32_as("float32"):
        index = choose(choosing)
    return index, time.perf_counter() - start + choosing.saved


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    """Of training the net that chooses real images, and of measuring all of them with it: once, or once an epoch."""
    if not _trains_net(config):
        return 0.0
    measured = config.pool_epochs if config.method == "forgetting" else 1
    return (FIRST_ORDER * config.pool_epochs + measured) * len(dataset.train)


def _method(choose: Callable[[_Choosing], Tensor]) -> Condenser:
    """The method that takes the images which ``choose`` numbers."""

    def condense(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
        index, seconds = selected(choose, dataset, config, device=run.device, progress=run.progress)
        images = dataset.normalize(dataset.train.images[index])
        return Condensed(images, dataset.train.labels[index], seconds)

    return Condenser(condense, _passes)


KMEANS = _method(kmeans_indices)
HERDING = _method(herding_indices)
K_CENTER = _method(k_center_indices)
FORGETTING = _method(forgetting_indices)
ENTROPY = _method(entropy_indices)
