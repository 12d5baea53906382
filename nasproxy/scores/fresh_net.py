"""An untrained net with one minibatch, and the passes that several scores read: each is done once.

*Layers* are convolutions and linear layers; ``L`` is the mean cross-entropy of the minibatch in training mode, with
dropout switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.scores.features import features_of_noise
from nasproxy.scores.layers import LAYERS, activation_kinds, hooked

# What scores may read of one pass of the minibatch:
SIGNS = "signs"  # of the inputs of activations
GRADIENTS = "gradients"  # of the loss, by the weights of layers
CHANNELS = "channels"  # outputs of layers times the loss's gradient
JACOBIAN = "jacobian"  # gradient of the outputs, by the images
ONE_PASS = frozenset((SIGNS, GRADIENTS, CHANNELS, JACOBIAN))
# What they may read of a pass of noise through a net whose weights are drawn anew:
FEATURES = "features"


class FreshNet:
    """An untrained net with one minibatch; what its passes give is computed when it is first read, and kept.

    Args:
        net: in training mode, without dropout. A score that reads no pass may change it.
        images: ``(n, c, h, w)``, normalised.
        labels: classes ``(n,)``.
        reads: what will be read. The forward pass records nothing else.
    """

    def __init__(self, net: nn.Module, images: Tensor, labels: Tensor, reads: frozenset[str] = frozenset()) -> None:
        self.net = net
        self.images = images
        self.labels = labels
        self.reads = reads
        self._signs: list[Tensor] = []
        self._channels = _Channels()

    @cached_property
    def weights(self) -> list[Tensor]:
        """The weight of every layer."""
        return [module.weight for module in self.net.modules() if isinstance(module, LAYERS)]

    @property
    def signs(self) -> list[Tensor]:
        """For every call of an activation module of ``torch.nn``, where its input is positive: ``(n, neurons)``."""
        self._outputs  # noqa: B018  # the pass records them
        return self._signs

    @cached_property
    def gradients(self) -> list[Tensor]:
        """∂L/∂w of every weight; zeros where ``L`` does not depend on it."""
        loss = functional.cross_entropy(self._outputs, self.labels)
        self._channels.watching = True
        found = gradients_of(loss, self.weights, retain_graph=JACOBIAN in self.reads)
        self._channels.watching = False
        return found

    @property
    def channels(self) -> list[tuple[nn.Conv2d | nn.Linear, Tensor]]:
        """``Σ_positions a ⊙ ∂L/∂a`` ``(n, c)`` of the outputs ``a`` of every call of a layer that ``L`` depends on."""
        self.gradients  # noqa: B018  # its backward pass records them
        return self._channels.found

    @cached_property
    def jacobian(self) -> Tensor | None:
        """The gradient of the summed outputs by the images, ``(n, c, h, w)``; None where they do not depend on them."""
        total = self._outputs.sum()
        if not total.requires_grad:
            return None
        return torch.autograd.grad(total, self._seen, retain_graph=True, allow_unused=True)[0]

    @cached_property
    def features(self) -> list[Tensor]:
        """The features of all blocks, see :func:`~nasproxy.scores.features.features_of_noise`, with their graph."""
        return features_of_noise(self.net, self.images)

    @cached_property
    def _seen(self) -> Tensor:
        return self.images.clone().requires_grad_() if JACOBIAN in self.reads else self.images

    @cached_property
    def _outputs(self) -> Tensor:
        """The outputs of the one forward pass, which records what will be read."""
        self._signs.clear()
        self._channels.found.clear()
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(bool(self.reads - {SIGNS})))
            if SIGNS in self.reads:
                kinds = activation_kinds(self.net)
                for module in self.net.modules():
                    if isinstance(module, kinds):  # before it runs: it may overwrite its input
                        stack.callback(module.register_forward_pre_hook(self._keep_signs).remove)
            if CHANNELS in self.reads:
                stack.enter_context(hooked(self.net, LAYERS, self._channels.watch))
            outputs: Tensor = self.net(self._seen.clone())  # which the net may overwrite
        return outputs

    def _keep_signs(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._signs.append(inputs[0].detach().flatten(1) > 0)


class _Channels:
    """Products of outputs and gradients, while ``watching``. It does not know its net: the graph keeps its hooks."""

    def __init__(self) -> None:
        self.found: list[tuple[nn.Conv2d | nn.Linear, Tensor]] = []
        self.watching = False

    def watch(self, module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:
            return
        activations = output.detach().clone()  # a ReLU after it may work in place

        def add(gradient: Tensor) -> None:
            if self.watching:
                product = activations * gradient
                summed = product.flatten(2).sum(2) if isinstance(module, nn.Conv2d) else product
                self.found.append((module, summed))

        output.register_hook(add)


def gradients_of(
    loss: Tensor, weights: list[Tensor], *, create_graph: bool = False, retain_graph: bool | None = None
) -> list[Tensor]:
    """∂loss/∂w of ``weights``; zeros for those that the loss does not depend on."""
    found = torch.autograd.grad(loss, weights, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def total(values: Iterable[Tensor]) -> float:
    """The sum of scalars, which a GPU is waited for once; 0 of none."""
    scalars = list(values)
    return torch.stack(scalars).sum().item() if scalars else 0.0


Measure = Callable[[FreshNet], float]
