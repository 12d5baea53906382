"""What needs fewer matchings: representative real images, and nets past their first steps. Options, off by default.

References: [DREAM] Liu et al., "DREAM: Efficient Dataset Distillation by Representative Matching", ICCV 2023. [Acc-DD]
Zhang et al., "Accelerating Dataset Distillation via Model Augmentation", CVPR 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from nasproxy.condense.matching_nets import build_net, embed
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig, Recipe
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset
from nasproxy.spaces import SearchSpace
from nasproxy.training.fit import fit
from nasproxy.training.images import TrainingImages

EMBEDDING_BATCH = 512
KMEANS_ITERATIONS = 30  # more move few centres
LEAST_PERTURBATION = 0.01  # as in the published code of [Acc-DD], where the largest is 0.09


@torch.no_grad()
def embeddings(net: nn.Module, images: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
    """The embeddings by ``net`` of the images ``numbers`` ``(n,)``: ``(n, d)`` on the CPU.

    Args:
        images: gives the images ``(n, c, h, w)`` of numbers ``(n,)``.

    Raises:
        NasproxyError: for a net without a linear layer.
    """
    return torch.cat([embed(net, images(part)).float().cpu() for part in numbers.split(EMBEDDING_BATCH)])


def representative_images(net: nn.Module, real: RealBatches, size: int, seed: int) -> Tensor:
    """Numbers ``(C, min(size, largest class))`` of the images nearest to the centres of ``size`` clusters ([DREAM]).

    k-means runs over the embeddings by ``net`` of all images of a class. All images of a class that has no more than
    ``size`` are taken; the end of its row is filled up and not valid, as in :meth:`RealBatches.draw`.
    """
    rows = [representatives_of(net, real, label, size, seed) for label in range(len(real.sizes))]
    width = min(size, max(real.sizes))
    return torch.stack([nn.functional.pad(row, (0, width - len(row))) for row in rows]).to(real.device)


def representatives_of(net: nn.Module, real: RealBatches, label: int, size: int, seed: int) -> Tensor:
    """One row of :func:`representative_images`, without filling: ``(min(size, images of the class),)`` on the CPU."""
    numbers = real.numbers[label].cpu()
    if len(numbers) <= size:
        return numbers
    points = embeddings(net, real.take, real.numbers[label])
    return numbers[near_centres(points, size, derive_seed(seed, "k-means", label))]


def near_centres(points: Tensor, size: int, seed: int) -> Tensor:
    """The places in ``points`` ``(n, d)`` nearest to the centres of ``size`` clusters by k-means; int64 ``(size,)``."""
    from sklearn.cluster import KMeans

    # On several threads the order of its sums, and so the last bits, would change from run to run.
    with threadpool_limits(1):
        clusters = KMeans(size, init="random", n_init=1, max_iter=KMEANS_ITERATIONS, random_state=seed % 2**32).fit(
            points.numpy()
        )
    centres = torch.from_numpy(clusters.cluster_centers_).to(points.dtype)
    return torch.cdist(centres, points).argmin(1)


def perturb(net: nn.Module, largest: float, stream: torch.Generator) -> None:
    """Moves ``net`` along two random directions, each by a share of 1 % to ``largest`` of every filter's norm.

    A direction is Gaussian, scaled filter by filter to the norm of the filter; its share is uniform and of either sign.
    Biases and the parameters of norms stay ([Acc-DD], weight perturbation).
    """
    device = stream.device
    least = min(LEAST_PERTURBATION, largest)

    def share() -> Tensor:
        size = least + (largest - least) * torch.rand((), generator=stream, device=device)
        return torch.where(torch.rand((), generator=stream, device=device) < 0.5, -size, size)

    shares = (share(), share())
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim < 2:
                continue
            norms = weight.flatten(1).norm(dim=1)
            moves = []
            for part in shares:
                direction = torch.randn(weight.shape, generator=stream, device=device).flatten(1)
                moves.append(part * direction * (norms / (direction.norm(dim=1) + 1e-10))[:, None])
            weight.add_((moves[0] + moves[1]).view_as(weight))


def early_recipe(epochs: int) -> Recipe:
    """How the nets of a pool are trained: as in the published code of [Acc-DD], but for its augmentation."""
    return Recipe(lr=0.01, epochs=epochs, batch_size=64, schedule="constant")


@dataclass
class EarlyNets:
    """A pool of ``size`` nets, each trained on the real data for ``epochs`` when it is first asked for ([Acc-DD]).

    ``build(number)`` gives net ``number`` freshly initialised. A net is a function of its number and ``seed`` alone, so
    that a resumed build finds the same ones.
    """

    size: int
    epochs: int
    build: Callable[[int], nn.Module]
    real: RealBatches
    seed: int
    _nets: dict[int, nn.Module] = field(default_factory=dict)

    def take(self, number: int) -> nn.Module:
        """A copy of net ``number``, in training mode."""
        if number not in self._nets:
            net = self.build(number)
            data = TrainingImages(self.real.images, self.real.labels, self.real.normalize)
            fit(
                net,
                data,
                early_recipe(self.epochs),
                seed=derive_seed(self.seed, "early net", number),
                device=self.real.device,
            )
            self._nets[number] = net
        return copy.deepcopy(self._nets[number]).train()

    def draw(self, outer: int) -> nn.Module:
        """The net of outer step ``outer``: any of the pool."""
        stream = generator(self.seed, "pool", outer)
        return self.take(int(torch.randint(self.size, (), generator=stream)))


class MatchingNets:
    """The net of each outer step: fresh, or one of the pool of ``config``; perturbed where ``config`` says so."""

    def __init__(
        self, dataset: Dataset, config: CondenseConfig, real: RealBatches, space: SearchSpace | None = None
    ) -> None:
        self._config, self._device = config, real.device
        self._fresh = partial(build_net, config, dataset, device=real.device, space=space)
        self._early = EarlyNets(config.pool, config.pool_epochs, self._fresh, real, config.seed)

    def draw(self, outer: int) -> nn.Module:
        """The net of outer step ``outer``, in training mode."""
        config = self._config
        net = self._early.draw(outer) if config.pool else self._fresh(outer)
        if config.perturbation:
            perturb(net, config.perturbation, generator(config.seed, "perturbation", outer, device=self._device))
        return net
