"""Training recipes: how a net is trained on a proxy set, and on the full data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from nasproxy.config.common import at_least
from nasproxy.core.errors import NasproxyError, unknown

OPTIMIZERS = ("sgd",)
SCHEDULES = ("constant", "step", "one_cycle", "learned")
AUGMENTATIONS = (
    "none",
    "shift",
    "flip_shift",
    "shift_cutout",
    "alternate_shift",
    "alternate_shift_cutout",
    "dsa",
    "dsa_no_flip",
)
_WITHOUT_FLIP = {
    "flip_shift": "shift",
    "alternate_shift": "shift",
    "alternate_shift_cutout": "shift_cutout",
    "dsa": "dsa_no_flip",
}


def augmentation_for(policy: str, flip: bool) -> str:
    """``policy``, or its counterpart without mirroring for data whose mirror images lose their class."""
    return policy if flip else _WITHOUT_FLIP.get(policy, policy)


@dataclass(frozen=True)
class Recipe:
    """How to train a net on a set of images. It is stored with a proxy set: images without it lose points.

    ``schedule``: ``step`` divides ``lr`` by ten halfway, as [DC] does; ``one_cycle`` rises linearly over the first
    30 % of the steps and falls along a cosine to zero; ``learned`` takes ``lrs``, one learning rate per update, from
    the first again when there are more updates (``lr``, their mean, is for people). ``augmentation``: per image, step:
    ``shift`` moves by up to an eighth of the side, ``flip_shift`` also mirrors half of the images, ``alternate_shift``
    each image in every other epoch, and ``…_cutout`` hides a box; ``dsa`` draws one of colour, crop, cutout, scale,
    rotate and flip per step, as [DSA] does, and ``dsa_no_flip`` one of the first five. ``shuffle=False`` is only for
    methods that store an order. Batches larger than the set are the whole set.
    """

    lr: float
    epochs: int
    batch_size: int = 256
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "step"
    augmentation: str = "none"
    label_smoothing: float = 0.0
    shuffle: bool = True
    lrs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        at_least(0, momentum=self.momentum, weight_decay=self.weight_decay, label_smoothing=self.label_smoothing)
        if not self.lr > 0:
            raise NasproxyError(f"`lr > 0` must hold, but got lr={self.lr:g}.")
        for kind, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        if (self.schedule == "learned") != bool(self.lrs):
            raise NasproxyError(
                f"`lrs` holds the learning rates of schedule='learned' and of no other, but got {len(self.lrs)} of "
                f"them with schedule='{self.schedule}': give both, or neither."
            )
        for number, lr in enumerate(self.lrs):
            if not 0 < lr < math.inf:
                raise NasproxyError(f"`0 < lrs[i] < inf` must hold, but got lrs[{number}]={lr:g}.")

    @property
    def learned(self) -> bool:
        """Whether step sizes or an order were learned with the set: it is then for this set and these epochs alone."""
        return self.schedule == "learned" or not self.shuffle

    def as_json(self) -> dict[str, Any]:
        """Every value; ``lrs`` only where there are some, so that recipes without have the digests they always had."""
        values = asdict(self) | {"lrs": list(self.lrs)}
        if not self.lrs:
            del values["lrs"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`as_json`; what is not there is the default, and what is not known is left out."""
        known = {field.name for field in fields(cls)}
        own = {name: value for name, value in values.items() if name in known}
        return cls(**(own | {"lrs": tuple(own.get("lrs", ()))}))


# "published" and "dsa" are the evaluation protocols of [DC] and [DSA]. "one_cycle" is the default for ranking: a first
# look at 48 CIFAR-10 ConvNets and 100 random real images gave Spearman .48 against .27 (one seed, ± .25; not repeated
# yet).
RECIPES: dict[str, Recipe] = {
    "published": Recipe(lr=0.01, epochs=300),
    "dsa": Recipe(lr=0.01, epochs=1000, augmentation="dsa"),
    "one_cycle": Recipe(lr=0.05, epochs=300, nesterov=True, schedule="one_cycle", augmentation="flip_shift"),
}

# Full-data training of a candidate: the same for every candidate, whatever its shape. Larger batches lose points where
# epochs are few (benchmarks/LOG.md).
FULL_RECIPE = Recipe(
    lr=0.05,
    epochs=10,
    batch_size=128,
    nesterov=True,
    schedule="one_cycle",
    augmentation="alternate_shift",
    label_smoothing=0.1,
)
CUTOUT_FROM_EPOCHS = 30  # fewer are too short to over-fit, and cutout then only slows the training down
