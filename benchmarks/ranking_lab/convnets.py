"""ConvNets of widths 16 to 64: cheap trainings and scores against full trainings of 3, 10 and 30 epochs.

The sample is fixed (``benchmarks/data/ranking_convnets.csv``): 96 of 405 candidates, equally many of each activation in
every block of twelve, because the activation alone can carry a ranking. On a CPU core all of it takes weeks; a block is
complete before the next one begins, and within a block the cheap columns come before the long trainings.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nasproxy.core.randomness import derive_seed
from nasproxy.spaces import SearchSpace, load_space
from ranking_lab.measuring import FREE, Full, Laboratory, Short, Subject

SPACE_FILE = Path(__file__).parents[1] / "convnet_laboratory.yaml"
SPACE = "convnet_laboratory"
NAMES = ("width", "depth", "activation", "norm", "pooling")
ACTIVATIONS = ("sigmoid", "relu", "leaky_relu")
NUM_CANDIDATES, BLOCK = 96, 12
SECOND_SEED = 36  # candidates of the first three blocks have a second seed

TRUTHS = (Full(3), Full(10), Full(30))
UPDATES = (30, 100, 300, 1000)
# The first round on a CPU, and what a GPU adds.
CHEAP = (
    Short("", "fresh", 30),
    Short("", "fresh", 100),
    Short("", "100", 100),
    Short("", "fresh", 300),
    Short("", "100", 300),
)
ALL_CHEAP = (
    *(
        Short("", images, updates, side)
        for side in (16, 32)
        for images in ("fresh", "100", "500", "1000")
        for updates in UPDATES
        if images == "fresh" or updates * 100 % int(images) == 0
    ),
    *(Short("", "100", updates, 32, recipe="published") for updates in UPDATES),
    *(Short("width=half", "fresh", updates, side) for side in (16, 32) for updates in UPDATES),
)


@dataclass(frozen=True)
class RegisteredNet:
    """A candidate of the fixed sample."""

    place: int
    block: int
    params: dict[str, str]

    @property
    def name(self) -> str:
        """Its name in rows, as ``16-3-relu-batch-max``."""
        return "-".join(self.params[name] for name in NAMES)


def draw_nets(space: SearchSpace) -> list[RegisteredNet]:
    """The sample: of each activation equally many, drawn uniformly; every block has equally many of each."""
    rng = np.random.default_rng(derive_seed(0, "ranking convnets"))
    by_activation = {
        activation: [one.params for one in space.enumerate() if one.params["activation"] == activation]
        for activation in ACTIVATIONS
    }
    each = NUM_CANDIDATES // len(ACTIVATIONS)
    drawn = {name: [pool[i] for i in rng.permutation(len(pool))[:each]] for name, pool in by_activation.items()}
    turns = [drawn[activation][i] for i in range(each) for activation in ACTIVATIONS]
    return [
        RegisteredNet(place, place // BLOCK, {name: str(params[name]) for name in NAMES})
        for place, params in enumerate(turns)
    ]


def write_nets(path: Path) -> None:
    """Writes the sample once; a sample that is there stays."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["place", "block", *NAMES])
        for one in draw_nets(load_space(str(SPACE_FILE))):
            writer.writerow([one.place, one.block, *one.params.values()])


def read_nets(path: Path) -> list[RegisteredNet]:
    """The sample as it was written."""
    with path.open(newline="") as file:
        return [
            RegisteredNet(int(row["place"]), int(row["block"]), {name: row[name] for name in NAMES})
            for row in csv.DictReader(file)
        ]


def subject(space: SearchSpace, net: RegisteredNet, options: str = "") -> Subject:
    """A candidate, at half its width for ``width=half``."""
    candidate = space.parse_candidate(net.params)
    if options == "width=half":
        candidate = replace(candidate, params=candidate.params | {"width": int(net.params["width"]) // 2})
    return Subject(SPACE, net.name, space, candidate)


def measure_nets(
    laboratory: Laboratory,
    nets: list[RegisteredNet],
    *,
    until: float,
    everything: bool = False,
    sets: tuple[str, ...] = (),
) -> int:
    """Measures what is missing until the clock (``time.monotonic``) says ``until``; the number of new measurements.

    Args:
        everything: also the settings that take days on a CPU.
        sets: names of proxy sets, each with every number of updates: k-means, condensed sets …
    """
    space, done = load_space(str(SPACE_FILE)), 0
    cheap: tuple[Short, ...] = ALL_CHEAP if everything else CHEAP
    cheap += tuple(Short("", f"set:{name}", updates, 32) for name in sets for updates in UPDATES)
    for block in sorted({one.block for one in nets}):
        members = [one for one in nets if one.block == block]
        plans: tuple[Short | str | Full, ...] = (*cheap, *FREE, *TRUTHS)
        for plan in plans:
            for one in members:
                for seed in range(2 if one.place < SECOND_SEED and isinstance(plan, Full) else 1):
                    if time.monotonic() > until:
                        return done
                    if isinstance(plan, Full):
                        done += laboratory.full(subject(space, one), plan, seed)
                    elif isinstance(plan, Short):
                        done += laboratory.short(subject(space, one, plan.options), plan, seed)
                    else:
                        done += laboratory.free(subject(space, one), "", plan, seed)
    return done
