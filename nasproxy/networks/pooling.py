"""2 × 2 average pooling that is fast on a CPU, where torch's pooling loops over single pixels.

On two cores of an AMD EPYC, a batch of 16 × 128 × 32 × 32 takes 2.0 ms forward and 1.8 ms backward in torch, and 0.3
and 0.5 ms here (benchmarks/LOG.md). torch's pooling takes a sixth of a training step of the default ConvNet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _halve(images: Tensor) -> Tensor:
    n, c, h, w = images.shape
    rows = images.reshape(n, c, h // 2, 2, w)
    rows = rows[:, :, :, 0] + rows[:, :, :, 1]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def _double(images: Tensor) -> Tensor:
    n, c, h, w = images.shape
    # One product writes both rows and both columns of every 2 × 2 block: faster than strided copies.
    spread = torch.eye(w, dtype=images.dtype, device=images.device).repeat_interleave(2, dim=1).mul_(0.25)
    return (images.reshape(-1, w) @ torch.cat([spread, spread], dim=1)).view(n, c, 2 * h, 2 * w)


class _Halve(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        return _halve(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        result: Tensor = _Double.apply(gradient)
        return result


class _Double(torch.autograd.Function):
    """The adjoint of :class:`_Halve`. The derivative of each is the other one, to any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        return _double(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        result: Tensor = _Halve.apply(gradient)
        return result


class AveragePool(nn.Module):
    """``nn.AvgPool2d(2)``: ``(n, c, h, w)`` to ``(n, c, h // 2, w // 2)``; equal to it up to rounding."""

    def forward(self, images: Tensor) -> Tensor:
        h, w = images.shape[2:]
        if images.device.type != "cpu" or h % 2 or w % 2 or torch.compiler.is_compiling():
            return functional.avg_pool2d(images, 2)
        result: Tensor = _Halve.apply(images)
        return result
