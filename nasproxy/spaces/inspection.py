"""Which candidates of a space can be built for a data set, and how large they are. No images are needed for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.spaces.model import Candidate, SearchSpace, Shape
from nasproxy.spaces.user_network import describe_error

if TYPE_CHECKING:
    from torch import nn

MAX_DRAWS = 10_000  # of sample(), before it gives up in a space with few valid candidates
MAX_TRIES = 1_000  # per candidate of a uniform sample, in a space that is too large to enumerate


@dataclass(frozen=True)
class NetSize:
    """The size of a net: trainable ``params``, and ``flops`` per image.

    FLOPs are those of convolutions and matrix products, two per multiply-add.
    """

    params: int
    flops: int


@dataclass(frozen=True)
class SpaceInspection:
    """Which candidates of a space can be used for a data set; made by :func:`inspect_space`.

    Attributes:
        space: the space.
        input_shape: ``(c, h, w)`` of the images.
        num_classes: outputs of the nets.
        complete: every assignment was tried; else a random sample of them.
        valid: the distinct architectures, of those tried, that can be built and keep the limits.
        invalid: reason → the other architectures of those tried.

    Candidates that were not tried are tried when a method is asked about them.
    """

    space: SearchSpace
    input_shape: Shape
    num_classes: int
    complete: bool
    valid: tuple[Candidate, ...]
    invalid: dict[str, tuple[Candidate, ...]]
    _results: dict[str, NetSize | str] = field(repr=False)

    @property
    def num_valid(self) -> int | None:
        """How many distinct architectures can be trained; None when not all were tried."""
        return len(self.valid) if self.complete else None

    @property
    def num_invalid(self) -> int:
        """How many of the distinct architectures that were tried cannot be used."""
        return sum(len(candidates) for candidates in self.invalid.values())

    @property
    def params_range(self) -> tuple[int, int] | None:
        """Fewest and most trainable parameters among ``valid``; None when it is empty."""
        params = [self.counts(candidate).params for candidate in self.valid]
        return (min(params), max(params)) if params else None

    @property
    def flops_range(self) -> tuple[int, int] | None:
        """Fewest and most FLOPs per image among ``valid``; None when it is empty."""
        flops = [self.counts(candidate).flops for candidate in self.valid]
        return (min(flops), max(flops)) if flops else None

    def reason(self, candidate: Candidate) -> str | None:
        """Why ``candidate`` cannot be used; None when it can."""
        result = self._result(candidate)
        return result if isinstance(result, str) else None

    def counts(self, candidate: Candidate) -> NetSize:
        """Parameters and FLOPs of a valid candidate.

        Raises:
            NasproxyError: with the reason, for an invalid one.
        """
        result = self._result(candidate)
        if isinstance(result, str):
            raise NasproxyError(f"The candidate {candidate.label} cannot be used: {result}")
        return result

    def _result(self, candidate: Candidate) -> NetSize | str:
        if candidate.id not in self._results:
            self._results[candidate.id] = _try(self.space, candidate, self.input_shape, self.num_classes)
        return self._results[candidate.id]

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random valid candidate: uniform over ``valid`` when the inspection is complete, else by ``space.sample``.

        Raises:
            NasproxyError: when no valid candidate is found.
        """
        if self.complete and self.valid:
            return self.valid[int(rng.integers(len(self.valid)))]
        for _ in range(0 if self.complete else MAX_DRAWS):
            candidate = self.space.sample(rng)
            if self.reason(candidate) is None:
                return candidate
        reason = max(self.invalid, key=lambda reason: len(self.invalid[reason]), default="no candidate was tried.")
        raise NasproxyError(f"Space '{self.space.name}' has no candidate that can be used for these data: {reason}")

    def describe(self) -> list[str]:
        """Lines for people: how many candidates can be used, their sizes, and each reason with its count."""
        size, tried = self.space.size(), len(self.valid) + self.num_invalid
        number = "infinitely many" if size is None else f"{size:,}"
        which = "" if self.complete else f" of {tried:,} random ones"
        lines = [f"{self.space.name}: {number} candidates,{which} {len(self.valid):,} can be used"]
        if self.params_range and self.flops_range:
            (few, most), (low, high) = self.params_range, self.flops_range
            lines.append(f"{few:,} to {most:,} parameters, {low / 1e6:,.2f} to {high / 1e6:,.2f} MFLOPs per image")
        for reason, candidates in sorted(self.invalid.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(candidates):,} cannot: {reason} First: {candidates[0].label}")
        return lines


def uniform_sample(
    inspection: SpaceInspection, size: int, seed: int, *, among: Callable[[Candidate], bool] = lambda candidate: True
) -> list[Candidate]:
    """Draws distinct valid candidates, uniformly over the space. A larger sample contains the smaller ones.

    Args:
        size: how many; fewer are returned when the space has no more.
        seed: of the draw.
        among: only candidates for which it is true.
    """
    from nasproxy.core.randomness import derive_seed

    rng = np.random.default_rng(derive_seed(seed, "validation sample"))
    chosen: dict[str, Candidate] = {}
    if inspection.num_valid is not None:
        pool = [candidate for candidate in inspection.valid if among(candidate)]
        for index in rng.permutation(len(pool))[:size]:
            chosen[pool[index].id] = pool[index]
        return list(chosen.values())
    for _ in range(MAX_TRIES * size):
        if len(chosen) == size:
            break
        candidate = inspection.sample(rng)
        if among(candidate):
            chosen.setdefault(candidate.id, candidate)
    return list(chosen.values())


def sample_of_functions(
    inspection: SpaceInspection, num: int, seed: int, among: Callable[[Candidate], bool] = lambda candidate: True
) -> list[Candidate]:
    """The first ``num`` candidates of the uniform draw by ``seed`` that compute different functions.

    Fewer are returned when the space has no more.
    """
    size = num
    while True:
        drawn = uniform_sample(inspection, size, seed, among=among)
        first: dict[str, Candidate] = {}
        for candidate in drawn:
            first.setdefault(inspection.space.function_of(candidate), candidate)
        if len(first) >= num or len(drawn) < size:
            return list(first.values())[:num]
        size *= 2


def inspect_space(
    space: SearchSpace,
    input_shape: Shape,
    num_classes: int,
    *,
    max_candidates: int = 5_000,
    sample: int = 1_000,
    progress: Callable[[int, int, str], None] | None = None,
) -> SpaceInspection:
    """Tries which candidates can be used, before anything is trained; it takes about 5 ms for each.

    Each candidate is built on torch's meta device, which computes shapes and no values, and is run on two images. Its
    output must be ``(2, num_classes)``, and its size within the space's limits.

    Args:
        space: the space.
        input_shape: ``(c, h, w)`` of the images.
        num_classes: outputs of the nets.
        max_candidates: a space with at most this many assignments is tried completely.
        sample: how many random candidates of a larger space are tried.
        progress: is called with (done, total, note) after each candidate.
    """
    size = space.size()
    complete = size is not None and size <= max_candidates
    rng = np.random.default_rng(0)
    candidates = space.enumerate() if complete else (space.sample(rng) for _ in range(sample))
    total = size if size is not None and complete else sample
    valid: list[Candidate] = []
    invalid: dict[str, list[Candidate]] = {}
    results: dict[str, NetSize | str] = {}
    for done, candidate in enumerate(candidates, start=1):
        if candidate.id not in results:
            result = results[candidate.id] = _try(space, candidate, input_shape, num_classes)
            (valid if isinstance(result, NetSize) else invalid.setdefault(result, [])).append(candidate)
        if progress is not None:
            progress(done, total, f"{len(results) - len(valid)} cannot be used")
    reasons = {reason: tuple(found) for reason, found in invalid.items()}
    return SpaceInspection(space, input_shape, num_classes, complete, tuple(valid), reasons, results)


def _try(space: SearchSpace, candidate: Candidate, input_shape: Shape, num_classes: int) -> NetSize | str:
    """The size of a candidate's net, or the reason why it cannot be used, as a sentence."""
    from nasproxy.networks import num_params

    try:
        try:
            net, shape, flops = _build_and_run(space, candidate, input_shape, num_classes, "meta")
        except NasproxyError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001  # a net that looks at values cannot run on meta tensors, but may be trained
            net, shape, flops = _build_and_run(space, candidate, input_shape, num_classes, "cpu")
    except (Exception, SystemExit) as error:  # noqa: BLE001  # any error of a user's network is the reason
        return describe_error(error)
    if shape != (2, num_classes):
        return f"The output for 2 images must have the shape (2, {num_classes}), but got {shape}."
    size = NetSize(num_params(net), flops)
    max_params, max_flops = space.limits.max_params, space.limits.max_flops
    if max_params is not None and size.params > max_params:
        return f"More than max_params={max_params} trainable parameters."
    if max_flops is not None and size.flops > max_flops:
        return f"More than max_flops={max_flops} FLOPs per image."
    return size


def _build_and_run(
    space: SearchSpace, candidate: Candidate, input_shape: Shape, num_classes: int, device: str
) -> tuple[nn.Module, tuple[int, ...], int]:
    import torch

    from nasproxy.networks import seeded

    def build() -> nn.Module:
        with torch.device(device):
            return space.build_candidate(candidate, input_shape, num_classes)

    net = seeded(build, 0)
    if not isinstance(net, torch.nn.Module):
        raise NasproxyError(f"The network '{space.network}' must return an nn.Module, but got {type(net).__name__}.")
    return net, *_forward(net, input_shape, device)


def _forward(net: nn.Module, input_shape: Shape, device: str) -> tuple[tuple[int, ...], int]:
    """The shape of the output for two images, and FLOPs per image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Dropout draws from the CPU's global generator, which is left as it was.
    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        _without_fused_layers(),
        FlopCounterMode(display=False) as counter,
    ):
        output: object = net(torch.zeros(2, *input_shape, device=device))
    if not isinstance(output, torch.Tensor):
        raise NasproxyError(f"A network must return one tensor, but got {type(output).__name__}.")
    return tuple(output.shape), counter.get_total_flops() // 2


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Attention and recurrent layers take their products one by one: torch's counter does not see into fused ones."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    attention = torch.backends.mha
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    fast, enabled = attention.get_fastpath_enabled(), [library.enabled for library in libraries]
    try:
        attention.set_fastpath_enabled(False)
        for library in libraries:
            library.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        attention.set_fastpath_enabled(fast)
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before


def num_flops(net: nn.Module, input_shape: Shape) -> int:
    """FLOPs of a forward pass per image ``(c, h, w)``, two per multiply-add.

    ``net`` runs once on two images of zeros, in its present mode; in training mode its running statistics change. It
    may be on the meta device.
    """
    device = next((str(parameter.device) for parameter in net.parameters()), "meta")
    return _forward(net, input_shape, device)[1]
