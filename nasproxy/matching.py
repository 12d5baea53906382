"""Gradient matching: which gradients are compared, and how far apart they are. Mathematics only.

For a net θ, class c with real images B_c and synthetic images S_c:  D(∇_θ L(S_c, θ), ∇_θ L(B_c, θ)), where L is the
mean cross-entropy. Its derivative with respect to S_c goes through ∇_θ L, a second-order path.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, eq. 9 and section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# In the denominator of the cosine, as in the reference implementation: a dead output node counts as distance 1.
EPSILON = 1e-6

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def matched_weights(net: nn.Module) -> list[Tensor]:
    """The weights whose gradients are matched: of convolutions and linear layers, in forward order of definition.

    Biases and norm parameters are ignored ([DC], section 3.3). Differs from the reference: the element-wise affine of
    a layer norm is a norm parameter here, too, while the reference matches it because it has three axes.
    """
    return [layer.weight for layer in net.modules() if isinstance(layer, LAYERS) and layer.weight.requires_grad]


def weight_gradients(
    net: nn.Module, images: Tensor, labels: Tensor, weights: Sequence[Tensor], *, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """∇ of the mean cross-entropy of ``net`` on ``images`` ``(n, c, h, w)`` with respect to each of ``weights``.

    ``labels`` are ``(n,)`` classes or ``(n, C)`` probabilities. With ``create_graph`` the result is differentiable in
    ``images``.
    """
    loss = functional.cross_entropy(net(images), labels)
    return torch.autograd.grad(loss, list(weights), create_graph=create_graph)


def _node_cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Σ over output nodes of 1 − cos, for gradients ``(out, …)`` of one layer ([DC], eq. 9)."""
    a, b = a.flatten(1), b.flatten(1)
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)).sum()


def _joined(gradients: Sequence[Tensor], layer_weights: Sequence[float]) -> Tensor:
    # sqrt: so that a layer's weight multiplies its inner products.
    return torch.cat(
        [gradient.flatten() * weight**0.5 for gradient, weight in zip(gradients, layer_weights, strict=True)]
    )


def layerwise_cosine(synthetic: Sequence[Tensor], real: Sequence[Tensor], layer_weights: Sequence[float]) -> Tensor:
    """Σ over layers and output nodes of 1 − cosine ([DC], eq. 9); a scalar in [0, 2 × output nodes]."""
    terms = zip(synthetic, real, layer_weights, strict=True)
    return torch.stack([weight * _node_cosine_distance(s, r) for s, r, weight in terms]).sum()


def flat_cosine(synthetic: Sequence[Tensor], real: Sequence[Tensor], layer_weights: Sequence[float]) -> Tensor:
    """1 − cosine of all gradients joined into one vector, the ablation of [DC]; a scalar in [0, 2]."""
    a, b = _joined(synthetic, layer_weights), _joined(real, layer_weights)
    return 1 - (a * b).sum() / (a.norm() * b.norm() + EPSILON)


def mse(synthetic: Sequence[Tensor], real: Sequence[Tensor], layer_weights: Sequence[float]) -> Tensor:
    """Squared Euclidean distance of all gradients joined into one vector, the ablation of [DC]; a scalar ≥ 0."""
    difference = _joined(synthetic, layer_weights) - _joined(real, layer_weights)
    return (difference * difference).sum()


def match_class(
    net: nn.Module,
    synthetic: Tensor,
    real: Tensor,
    label: int,
    *,
    distance: Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[float]], Tensor],
    layer_weights: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Distance of one class's gradients, and its derivative with respect to the synthetic images.

    Args:
        synthetic: ``(ipc, c, h, w)`` normalised float images of class ``label``.
        real: ``(batch, c, h, w)`` normalised float images of the same class.

    Returns:
        The detached scalar distance, and the image gradient ``(ipc, c, h, w)``.
    """
    weights = matched_weights(net)
    real_labels = torch.full((len(real),), label, device=real.device)
    target = weight_gradients(net, real, real_labels, weights)
    synthetic = synthetic.detach().requires_grad_()
    synthetic_labels = torch.full((len(synthetic),), label, device=synthetic.device)
    gradients = weight_gradients(net, synthetic, synthetic_labels, weights, create_graph=True)
    value = distance(gradients, target, layer_weights)
    (image_gradient,) = torch.autograd.grad(value, [synthetic])
    return value.detach(), image_gradient


DISTANCES: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[float]], Tensor]] = {
    "layerwise_cosine": layerwise_cosine,
    "flat_cosine": flat_cosine,
    "mse": mse,
}
