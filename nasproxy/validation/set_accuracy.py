"""How good is a set? Fresh nets are trained on it by its recipe and measured on the test split.

This is the usual table of the field: a set compared with random real images, for one family of nets or for several. The
test images may be used here, because nothing is chosen by them.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, tables 1 and 2.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from nasproxy.condense.initial import draw_per_class
from nasproxy.config import Recipe
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, check_fit, one_or_all
from nasproxy.networks import NETWORKS, family_options, seeded
from nasproxy.scores.baselines import rival_recipe
from nasproxy.spaces import Params
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Crew
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import Evaluation
from nasproxy.training.tasks import TrainingTask, task_setting

CONFIDENCE = 0.95


@dataclass(frozen=True)
class NetSpec:
    """A net to train: a family of ``NETWORKS`` and its options, as ``convnet:norm=batch,width=32`` spells it."""

    family: str
    options: tuple[tuple[str, int | float | str], ...] = ()

    def __str__(self) -> str:
        return self.family + (":" + ",".join(f"{name}={value}" for name, value in self.options) if self.options else "")

    def as_params(self) -> Params:
        """As :class:`Families` builds it."""
        return {"family": self.family, **dict(self.options)}

    def build(self, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The untrained net for images ``(c, h, w)``."""
        try:
            return Families().build(self.as_params(), input_shape, num_classes)
        except TypeError as error:
            raise NasproxyError(
                f"'{self}' is no net of its family ({error}): check the names and values of the options."
            ) from None


@dataclass(frozen=True)
class Families:
    """``NETWORKS`` as a builder for a crew: ``params`` are a family's options, and "family" its name."""

    hash: str = "families"

    def build(self, params: Params, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        options = dict(params)
        return NETWORKS[str(options.pop("family"))](input_shape, num_classes, **options)


# The families of the field's cross-architecture tables, each as it was published and with batch norm.
CROSS = tuple(
    NetSpec(family, (("norm", norm),) if norm else ())
    for family, norm in (
        ("convnet", "instance"),
        ("convnet", "batch"),
        ("mlp", ""),
        ("lenet", "none"),
        ("lenet", "batch"),
        ("alexnet", "none"),
        ("alexnet", "batch"),
        ("vgg11", "instance"),
        ("vgg11", "batch"),
        ("resnet18", "instance"),
        ("resnet18", "batch"),
    )
)


def parse_net(text: str) -> NetSpec:
    """``family`` or ``family:option=value,…``; values are read as int, then float, then text.

    Raises:
        NasproxyError: for an unknown family, or options that are no ``name=value``.
    """
    family, _, rest = text.partition(":")
    if family not in NETWORKS:
        raise unknown("network", family, NETWORKS)
    options = []
    for word in filter(None, rest.split(",")):
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise NasproxyError(f"A net is written family:option=value,…, but got '{word}' in '{text}'.")
        options.append((name.strip(), _value(value.strip())))
    return NetSpec(family, tuple(options))


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def own_net(proxy: ProxySet) -> NetSpec | None:
    """The net that ``proxy`` was matched with; None when it was not matched, or with a space."""
    config = proxy.provenance["config"]
    family = config.get("network")
    if family is None or config.get("match_space"):
        return None
    options = family_options(family, width=config["width"], depth=config["depth"], norm=config["norm"])
    return NetSpec(family, tuple(options.items()))


@dataclass(frozen=True)
class Interval:
    """A mean (or a difference of means) with its 95 % t-interval over ``n`` units; None where n is 1."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of ``values`` with its Student interval; ``values`` must not be empty."""
    from scipy import stats

    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return Interval(mean, None, None, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * statistics.stdev(values) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def difference_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of ``a`` − mean of ``b`` with Welch's interval (unequal variances)."""
    from scipy import stats

    value = sum(a) / len(a) - sum(b) / len(b)
    if min(len(a), len(b)) == 1 or statistics.stdev(a) == statistics.stdev(b) == 0:
        return Interval(value, None, None, min(len(a), len(b)))
    variances = [statistics.variance(own) / len(own) for own in (a, b)]
    # Not by scipy's test, which warns of accuracies that are nearly alike.
    freedom = sum(variances) ** 2 / sum(v**2 / (len(own) - 1) for v, own in zip(variances, (a, b), strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * sum(variances) ** 0.5
    return Interval(value, value - half, value + half, min(len(a), len(b)))


@dataclass(frozen=True)
class Row:
    """One net on one source of images: ``sets[s]`` are the trainings on its set s.

    ``std`` is over all trainings, as the field prints it. ``mean``'s interval takes sets as units when there are
    several, and trainings otherwise: then it says nothing about another set.
    """

    source: str
    net: NetSpec
    sets: tuple[tuple[Evaluation, ...], ...]

    @property
    def accuracies(self) -> list[float]:
        return [e.value for own in self.sets for e in own if e.value is not None]

    @property
    def failures(self) -> list[str]:
        return [e.failure for own in self.sets for e in own if e.failure is not None]

    @property
    def std(self) -> float | None:
        """None for fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def units(self) -> list[float]:
        """Means over the trainings of each set, or the trainings of the only one."""
        if len(self.sets) == 1:
            return self.accuracies
        by_set = [[e.value for e in own if e.value is not None] for own in self.sets]
        return [sum(own) / len(own) for own in by_set if own]

    @property
    def mean(self) -> Interval | None:
        """None when every training failed."""
        return mean_interval(self.units) if self.units else None


@dataclass(frozen=True)
class Comparison:
    """A row of a set beside random real images in equal number; ``baseline`` of None: without.

    They are trained by the same recipe, or by :func:`~nasproxy.scores.baselines.rival_recipe`.
    """

    row: Row
    baseline: Row | None

    @property
    def difference(self) -> Interval | None:
        if self.baseline is None or not self.row.units or not self.baseline.units:
            return None
        return difference_interval(self.row.units, self.baseline.units)


def evaluate_proxy(
    proxy: ProxySet,
    dataset: Dataset,
    nets: Sequence[NetSpec],
    *,
    num_nets: int,
    recipes: Sequence[Recipe],
    baseline: bool,
    seed: int,
    ledger: Ledger,
    crew: Crew,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Comparison]:
    """Trains ``num_nets`` fresh nets of each of ``nets`` on every set of ``proxy``, and on random real images.

    Every net of the baseline has a draw of its own, so its spread is that over draws and nets.

    Args:
        recipes: how to train on each set; random images train alike, unless the recipe was learned with a set.
        baseline: whether nets are trained on random real images, too.
        ledger: trainings in it are not done again.
        progress: is called with trainings done, in total, and a note.

    Returns:
        A comparison for each of ``nets``.

    Raises:
        NasproxyError: when ``proxy`` was made of other data, or a net cannot be built for it.
    """
    check_fit(proxy, dataset)
    nets = list(dict.fromkeys(nets))
    for net in nets:
        seeded(partial(net.build, dataset.input_shape, dataset.num_classes), 0)
    jobs = _jobs(proxy, dataset, nets, num_nets=num_nets, recipes=recipes, baseline=baseline, seed=seed)

    def count(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, "")

    rows = Coordinator(crew, ledger).finish(list(jobs.values()), count)
    found = {key: own for key, (own,) in zip(jobs, rows, strict=True)}

    def trainings(kind: int, of_set: int | None) -> tuple[Evaluation, ...]:
        return tuple(row for (own, which, _), row in found.items() if (own, which) == (kind, of_set))

    return [
        Comparison(
            Row(proxy.method, net, tuple(trainings(kind, of_set) for of_set in range(proxy.num_sets))),
            Row("random real", net, (trainings(kind, None),)) if baseline else None,
        )
        for kind, net in enumerate(nets)
    ]


def _jobs(
    proxy: ProxySet,
    dataset: Dataset,
    nets: Sequence[NetSpec],
    *,
    num_nets: int,
    recipes: Sequence[Recipe],
    baseline: bool,
    seed: int,
) -> dict[tuple[int, int | None, int], Job]:
    """Every training, by kind of net, set (None: random images) and number.

    The kinds of nets take turns, so that the time left is predicted from all of them and not from the first one.
    """
    held_out = real_images(dataset, dataset.test)

    def task_of(label: str, identity: str, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> TrainingTask:
        return TrainingTask(
            score="test",
            label=label,
            train=TrainingImages(images, labels),
            held_out=held_out,
            recipe=recipe,
            num_classes=dataset.num_classes,
            setting=task_setting(identity, recipe, f"test of {dataset.fingerprint}"),
        )

    on_set = [
        task_of(proxy.method, f"{proxy.content_id} set {of_set}", *proxy.training_images(of_set), recipes[of_set])
        for of_set in range(proxy.num_sets)
    ]
    jobs: dict[tuple[int, int | None, int], Job] = {}
    for number in range(num_nets):
        for of_set, task in enumerate(on_set):
            own_seed = derive_seed(seed, "evaluate", of_set, number)
            draw = None
            if baseline:
                draw_seed = derive_seed(seed, "random real images", of_set, number)
                drawn = draw_per_class(dataset.train, proxy.counts, draw_seed)
                rival = rival_recipe(recipes[of_set], dataset)
                identity = f"random {one_or_all(proxy.counts)} {draw_seed} of {dataset.fingerprint}"
                draw = task_of("random real", identity, dataset.normalize(drawn.images), drawn.labels, rival)
            for kind, net in enumerate(nets):
                jobs[kind, of_set, number] = Job(task, Families(), str(net), net.as_params(), (own_seed,))
                if draw is not None:
                    place = of_set + proxy.num_sets * number
                    jobs[kind, None, place] = Job(draw, Families(), str(net), net.as_params(), (own_seed,))
    return jobs
