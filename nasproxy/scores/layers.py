"""Kinds of layers of a net, and hooks that watch them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)  # a GroupNorm may be an instance norm


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
