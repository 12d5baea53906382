"""FLOPs of a proxy set and of the search on it: what baselines at equal total cost may spend."""

from __future__ import annotations

from dataclasses import dataclass

from nasproxy.condense.contract import FIRST_ORDER
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.provenance import config_of
from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.spaces import SpaceInspection
from nasproxy.training.tasks import TrainingTask


@dataclass(frozen=True)
class Spending:
    """FLOPs of ``making`` the proxy set, and of ``training`` all candidates of the search on it."""

    making: float
    training: float

    def times(self, own: float = 0.0) -> float:
        """How many times the proxy set's training cost a candidate may cost, at equal total cost; at least 1.

        Args:
            own: FLOPs of making the baseline.
        """
        return max(1.0, (self.making + self.training - own) / self.training) if self.training > 0 else 1.0

    def buys_full_training(self, proxy_images: float, full_images: float) -> bool:
        """Whether at equal total cost each candidate could have the full training: then no baseline is needed.

        Args:
            proxy_images: images that a candidate sees on the proxy set, counted once per epoch.
            full_images: images that it sees in the full training, counted once per epoch.
        """
        return self.times() * proxy_images >= full_images


def spending_of(
    proxy: ProxySet, dataset: Dataset, task: TrainingTask, inspection: SpaceInspection, config: SearchConfig
) -> Spending | None:
    """What the search spends, computed from its settings.

    Of several proxy sets, only those count that the search's seeds train on.

    Args:
        task: the score "proxy".
        inspection: of the space that is searched, for the FLOPs of its candidates.
        config: trials and seeds of the search.

    Returns:
        None when the proxy set's settings are of an earlier version and cannot be read.
    """
    try:
        making = task.num_sets(config.seeds) * condensing_flops(dataset, config_of(proxy))
    except NasproxyError:
        return None
    sizes = [inspection.counts(candidate).flops for candidate in inspection.valid]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    seen = task.recipe.epochs * len(task.train.images)
    return Spending(making, config.trials * config.seeds * FIRST_ORDER * seen * mean)
