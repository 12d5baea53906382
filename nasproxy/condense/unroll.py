"""Differentiating through many steps of training, in bounded memory. Mathematics only.

A training is ``state_{t+1} = step(t, state_t)``, where ``step`` also depends on *leaves* (images, labels, step sizes, a
generator's weights). The gradient of a function of the last state with respect to the leaves is pulled back step by
step: only states are kept, and each step's graph is built again when it is needed. So memory is that of the states,
of which every ``stride``-th is kept, and of one step's graph, however many steps there are; the price is one more
forward pass of each step (two with a stride above 1).

References: [DD] Wang, Zhu, Torralba, Efros, "Dataset Distillation", 2018, section 3.3. [Chen] Chen, Xu, Zhang,
Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from nasproxy.core.chunks import room
from nasproxy.core.devices import twice_differentiable


def parameter_distance(ours: State, theirs: State, start: State) -> Tensor:
    """‖θ_S − θ_T‖² over ‖θ_0 − θ_T‖²: how much of the way to θ_T is left, squared; scalar.

    Differs from [DC], eq. 4, by the denominator, a constant for the images, so that one learning rate serves nets of
    any size and stage, as in trajectory matching.
    """
    left = torch.stack([(a - b).square().sum() for a, b in zip(ours, theirs, strict=True)]).sum()
    way = torch.stack([(a - b).square().sum() for a, b in zip(start, theirs, strict=True)]).sum()
    return left / way


# Of states kept on a CPU. They are read once each, so that the cache, which bounds activations there, does not matter.
CPU_STATE_BYTES = 2**30

# Whether what steps do now is differentiated: a training that is only run needs no graph of its gradients.
_DIFFERENTIATED: ContextVar[bool] = ContextVar("differentiated", default=True)

State = tuple[Tensor, ...]
Step = Callable[[int, State], State]  # the number of the step, and what it starts from


@dataclass(frozen=True)
class Trajectory:
    """The states of a training after 0, ``stride``, 2 · ``stride``, … steps, and the ``last`` one; detached."""

    kept: tuple[State, ...]
    last: State
    stride: int
    num_steps: int


def run_steps(step: Step, start: State, num_steps: int, *, stride: int = 1) -> Trajectory:
    """``num_steps`` of ``step`` from ``start``. What ``step`` needs of its leaves it computes anew each time."""
    state = tuple(part.detach() for part in start)
    kept = []
    outside = _DIFFERENTIATED.set(False)
    try:
        for t in range(num_steps):
            if t % stride == 0:
                kept.append(state)
            inputs = tuple(part.requires_grad_() for part in _copies(state))
            with torch.enable_grad():  # a step differentiates a loss itself
                state = tuple(part.detach() for part in step(t, inputs))
    finally:
        _DIFFERENTIATED.reset(outside)
    return Trajectory(tuple(kept), state, stride, num_steps)


def pull_back(
    step: Step, trajectory: Trajectory, gradient: Sequence[Tensor], leaves: Sequence[Tensor], *, last: int | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradient with respect to ``leaves`` and to the first state, from ``gradient`` with respect to the last state.

    Args:
        last: go back through so many steps only (truncation); None: through all of them.
    """
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    adjoint = list(gradient)
    first = 0 if last is None else max(0, trajectory.num_steps - last)
    for start in reversed(range(0, trajectory.num_steps, trajectory.stride)):
        end = min(start + trajectory.stride, trajectory.num_steps)
        if end <= first:
            break
        states = run_steps(
            lambda t, state, start=start: step(start + t, state),  # type: ignore[misc]
            trajectory.kept[start // trajectory.stride],
            end - start - 1,
        )
        for t, state in reversed(list(zip(range(start, end), (*states.kept, states.last), strict=True))):
            if t < first:
                break
            inputs = tuple(part.requires_grad_() for part in _copies(state))
            with torch.enable_grad(), twice_differentiable():
                after = step(t, inputs)
            pulled = torch.autograd.grad(after, [*inputs, *leaves], adjoint, allow_unused=True, materialize_grads=True)
            adjoint = list(pulled[: len(inputs)])
            for total, own in zip(sums, pulled[len(inputs) :], strict=True):
                total.add_(own)
    return sums, adjoint


def _copies(state: State) -> State:
    return tuple(part.detach() for part in state)


def stride_within(num_steps: int, state_bytes: int, space: int) -> int:
    """The smallest stride whose states fit into ``space`` bytes, at most the square root that needs fewest of them."""
    fewest = max(1, math.isqrt(num_steps))
    return next(
        (stride for stride in range(1, fewest) if (-(-num_steps // stride) + stride) * state_bytes <= space), fewest
    )


def stride_for(num_steps: int, start: State, device: torch.device) -> int:
    """:func:`stride_within` what ``device`` has for states like ``start``."""
    space = room(device) if device.type != "cpu" else CPU_STATE_BYTES
    return stride_within(num_steps, sum(part.nbytes for part in start), space)


# ------------------------------------------------------------------------------------------------ nets as functions


@dataclass(frozen=True)
class FunctionalNet:
    """``net`` as a function of its trainable parameters; its buffers stay its own."""

    net: nn.Module

    @property
    def names(self) -> list[str]:
        return [name for name, parameter in self.net.named_parameters() if parameter.requires_grad]

    def parameters(self) -> State:
        """Copies of the trainable parameters, in the order of ``names``."""
        return tuple(p.detach().clone() for p in self.net.parameters() if p.requires_grad)

    def __call__(self, parameters: Sequence[Tensor], images: Tensor) -> Tensor:
        """Logits ``(n, C)``."""
        logits: Tensor = functional_call(self.net, dict(zip(self.names, parameters, strict=True)), (images,))
        return logits


def step_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> State:
    """``∇_θ loss`` within a step, differentiable in everything that ``loss`` depends on, but in :func:`run_steps`."""
    return torch.autograd.grad(
        loss, parameters, create_graph=_DIFFERENTIATED.get(), allow_unused=True, materialize_grads=True
    )


def sgd_step(loss: Tensor, parameters: Sequence[Tensor], lr: Tensor | float) -> State:
    """``θ − lr · ∇_θ loss``, differentiable as :func:`step_gradient` is, and in ``lr``."""
    gradients = step_gradient(loss, parameters)
    return tuple(own - lr * gradient for own, gradient in zip(parameters, gradients, strict=True))


def loss_gradient(
    model: FunctionalNet, parameters: State, parts: Iterable[tuple[Tensor, Tensor]], count: int
) -> tuple[Tensor, list[Tensor]]:
    """Mean cross-entropy over ``count`` images, and its gradient with respect to ``parameters``.

    ``parts`` are images and labels that go through the net one part after the other; only one part's graph is alive.
    """
    leaves = [part.detach().requires_grad_() for part in parameters]
    total = torch.zeros((), dtype=leaves[0].dtype, device=leaves[0].device)
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    for images, labels in parts:
        with torch.enable_grad():
            loss = functional.cross_entropy(model(leaves, images), labels, reduction="sum") / count
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        total += loss.detach()
        for own, gradient in zip(sums, gradients, strict=True):
            own.add_(gradient)
    return total, sums
