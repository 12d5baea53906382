"""Kinds of layers of a net, and hooks that watch them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)  # a GroupNorm may be an instance norm
NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d)


def activation_kinds(net: nn.Module) -> tuple[type[nn.Module], ...]:
    """The kinds of activation modules of ``torch.nn`` that ``net`` has."""
    return tuple(
        {type(m) for m in net.modules() if type(m).__module__ == nn.ReLU.__module__ and type(m) not in NO_ACTIVATIONS}
    )


@contextmanager
def hooked(
    net: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...], hook: Callable[..., Tensor | None]
) -> Iterator[None]:
    """Calls ``hook(module, inputs, output)`` after every module of ``kinds``, during a ``with`` block.

    If the hook returns a tensor, it replaces the output of the module.
    """
    handles = [module.register_forward_hook(hook) for module in net.modules() if isinstance(module, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
