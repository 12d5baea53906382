"""How evenly the Fisher information of a net's weights spreads over directions.

Reference: [V] Tybl, Neumann, "Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
Weights", CVPR 2025.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nasproxy.scores.features import NOISE_IMAGES, draw_weights
from nasproxy.scores.fresh_net import FreshNet

MOST_WEIGHTS = 128  # one of each of the first tensors of parameters [V]
MOST_PASSES = 160  # backward passes of one image
SMOOTHING = 0.05  # the share of equal probabilities that is mixed into the net's [V]


def vkdnw(fresh: FreshNet) -> float:
    """``−Σ q log q``, ``q`` the deciles of the eigenvalues of the Fisher information, as shares of their sum [V].

    The information is that of the first weight of each of the first 128 tensors of parameters, under weights drawn as
    for the scores of AZ-NAS, for images of noise, in evaluation mode, see :func:`fisher_information`. [V] takes 64
    images. Here there are 16, and fewer for more than ten classes. Minus infinity where the information is zero.

    Cost: one backward pass of one image for each image and class, at most about 160.
    """
    draw_weights(fresh.net)
    with torch.no_grad():
        num_classes = fresh.net.eval()(fresh.images[:1]).shape[1]
    noise = torch.randn_like(fresh.images[: max(1, min(NOISE_IMAGES, MOST_PASSES // num_classes))])
    eigenvalues = torch.linalg.eigvalsh(fisher_information(fresh.net, noise)).clamp(min=0)
    at = torch.linspace(0.1, 0.9, 9, dtype=torch.float64, device=eigenvalues.device)
    deciles = torch.quantile(eigenvalues, at)
    if not deciles.sum() > 0:
        return -math.inf
    shares = deciles / deciles.sum()
    return torch.special.entr(shares).sum().item()


def fisher_information(net: nn.Module, images: Tensor) -> Tensor:
    """``F = mean_x Jᵀ (diag p − p pᵀ) J`` ``(w, w)`` in float64, of the first element of ``w`` tensors of parameters.

    ``J`` is the Jacobian of the outputs for one image, and ``p`` are their softmax, smoothed.
    """
    parameters = [one for one in net.parameters() if one.requires_grad][:MOST_WEIGHTS]
    total = torch.zeros((len(parameters), len(parameters)), dtype=torch.float64, device=images.device)
    for image in images.split(1):
        outputs = net(image)[0]
        rows = []
        for place, output in enumerate(outputs):
            last = place == len(outputs) - 1
            found = torch.autograd.grad(output, parameters, retain_graph=not last, allow_unused=True)
            rows.append(torch.stack([output.new_zeros(()) if one is None else one.flatten()[0] for one in found]))
        jacobian = torch.stack(rows).double()
        p = (1 - SMOOTHING) * outputs.detach().double().softmax(0) + SMOOTHING / len(outputs)
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(images)
