"""Gradient matching: which gradients are compared, and how far apart they are. Mathematics only.

For a net θ, class c with real images B_c and synthetic images S_c:  D(∇_θ L(S_c, θ), ∇_θ L(B_c, θ)), where L is the
mean cross-entropy. Its derivative with respect to S_c goes through ∇_θ L, a second-order path.

All classes share one forward pass and one pass of gradients with respect to activations; only the last step, from a
layer's input and the gradient at its output to the gradient of its weight, is done class by class.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, eq. 9 and section 3.3,
and the code released with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasproxy.core.errors import NasproxyError

# In the denominator of the cosine, as in the reference implementation: a dead output node counts as distance 1.
EPSILON = 1e-6

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)

Gradients = Sequence[Tensor]  # one tensor (C, *weight.shape) per matched weight


def matched_layers(net: nn.Module) -> list[Any]:
    """The layers whose weights' gradients are matched: convolutions and linear layers, in order of definition.

    Biases and norm parameters are ignored ([DC], section 3.3). Differs from the reference: the element-wise affine of
    a layer norm is a norm parameter here, too, while the reference matches it because it has three axes.
    """
    return [layer for layer in net.modules() if isinstance(layer, LAYERS) and layer.weight.requires_grad]


def matched_weights(net: nn.Module) -> list[Tensor]:
    """The weights of :func:`matched_layers`."""
    return [layer.get_parameter("weight") for layer in matched_layers(net)]


def class_sizes(labels: Tensor, num_classes: int) -> Tensor:
    """How many of ``labels`` ``(n,)`` are of each class: int64 ``(C,)``. bincount would wait for a CUDA device."""
    return labels.new_zeros(num_classes).index_add_(0, labels, torch.ones_like(labels))


def weighted_cross_entropy(logits: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """Σ_i ``shares[i]`` · cross-entropy of image i; shares of 1/n are the mean. ``labels`` ``(n,)`` or ``(n, C)``.

    Logits of less than float32, as autocast gives them, are taken to it.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (functional.cross_entropy(logits, labels, reduction="none") * shares).sum()


def net_loss(net: nn.Module, images: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """:func:`weighted_cross_entropy` of ``net`` on ``images``."""
    return weighted_cross_entropy(net(images), labels, shares)


Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def _weight_gradient(layer: Any, inputs: Tensor, outputs: Tensor) -> Tensor:
    """∂L/∂weight of ``layer`` from its input and ∂L/∂output, for the images given; differentiable in both."""
    weight = layer.weight.detach()
    if outputs.dtype != weight.dtype:  # under autocast
        inputs, weight = inputs.to(outputs.dtype), weight.to(outputs.dtype)
    if isinstance(layer, nn.Linear):
        return (outputs.flatten(0, -2).T @ inputs.flatten(0, -2)).to(layer.weight.dtype)
    if layer.padding_mode != "zeros":
        raise NasproxyError(
            f"Gradients are matched for convolutions padded with zeros, but got padding_mode='{layer.padding_mode}': "
            "match with another network, or pad in a layer before the convolution."
        )
    padding = layer.padding
    if isinstance(padding, str):  # "same" pads `total` left-first, torch's own names for it
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if padding == "same" and any(value % 2 for value in total):
            raise NasproxyError(
                "Gradients are matched for convolutions padded alike on both sides, but got padding='same' with kernel "
                f"{layer.kernel_size} and dilation {layer.dilation}: use an odd kernel, or padding in numbers."
            )
        padding = [value // 2 if padding == "same" else 0 for value in total]
    _, gradient, _ = torch.ops.aten.convolution_backward(
        outputs,
        inputs,
        weight,
        None,
        layer.stride,
        padding,
        layer.dilation,
        False,
        [0] * len(layer.stride),
        layer.groups,
        [False, True, False],
    )
    return gradient.to(layer.weight.dtype)


def class_gradients(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    shares: Tensor,
    counts: Sequence[int],
    *,
    create_graph: bool = False,
    loss: Loss = net_loss,
    parameters: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """∇ of every class's cross-entropy with respect to every matched weight, in one pass.

    Args:
        net: images must not see each other in it: no batch statistics.
        images: ``(n, c, h, w)``, the ``counts[0]`` images of one class first, then the ``counts[1]`` of another, ….
        labels: ``(n,)`` classes, or ``(n, C)`` probabilities.
        shares: ``(n,)`` weight of each image in its class's loss: 1/count for the mean.
        create_graph: makes the result differentiable in ``images``.
        loss: :func:`net_loss`, or compiled; only where there is one class.
        parameters: of ``net``, in place of the matched weights; each class then takes a pass of its own.

    Returns:
        One tensor ``(len(counts), *weight.shape)`` per matched weight, or per tensor of ``parameters``; zeros for one
        that the loss does not depend on.
    """
    weights = matched_weights(net) if parameters is None else list(parameters)
    # torch's fused kernels of attention have no second derivative.
    with sdpa_kernel(SDPBackend.MATH) if create_graph else nullcontext():
        if parameters is None and len(counts) > 1:
            found = _in_one_pass(net, images, labels, shares, counts, create_graph)
            if found is not None:
                return found
        return _by_class(net, images, labels, shares, counts, create_graph, loss, weights)


def _by_class(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    shares: Tensor,
    counts: Sequence[int],
    create_graph: bool,
    loss: Loss,
    weights: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Autograd's own way, for one class after the other; where there is one it is the fastest."""
    by_class = [
        torch.autograd.grad(
            loss(net, *own), weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        for own in zip(*(part.split(list(counts)) for part in (images, labels, shares)), strict=True)
    ]
    if len(by_class) == 1:
        return tuple(gradient.unsqueeze(0) for gradient in by_class[0])
    return tuple(torch.stack(own) for own in zip(*by_class, strict=True))


def _in_one_pass(
    net: nn.Module, images: Tensor, labels: Tensor, shares: Tensor, counts: Sequence[int], create_graph: bool
) -> tuple[Tensor, ...] | None:
    """All classes in one pass; None for a net that uses a matched weight without calling its layer."""
    layers = matched_layers(net)
    calls: list[tuple[int, Tensor, Tensor, int]] = []  # layer, its input, its output, the output's version
    position = {layer: number for number, layer in enumerate(layers)}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((position[layer], inputs[0], output, output._version))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        value = net_loss(net, images, labels, shares)
    finally:
        for handle in handles:
            handle.remove()
    if any(output._version != version for _, _, output, version in calls):
        raise RuntimeError(
            "The output of a convolution or linear layer must not be changed in place (use inplace=False), "
            "or its gradient is lost."
        )
    called = {number for number, _, _, _ in calls}
    silent = [layer.weight for number, layer in enumerate(layers) if number not in called]
    if silent and any(g is not None for g in torch.autograd.grad(value, silent, retain_graph=True, allow_unused=True)):
        return None  # such as the output projection of nn.MultiheadAttention
    outputs = [output for _, _, output, _ in calls]
    at_outputs: Sequence[Tensor | None] = torch.autograd.grad(
        value, outputs, create_graph=create_graph, allow_unused=True
    )
    sums: list[Tensor | None] = [None] * len(layers)
    for (number, inputs, _, _), at_output in zip(calls, at_outputs, strict=True):
        if at_output is None:  # the loss does not depend on this call
            continue
        per_class = torch.stack(
            [
                _weight_gradient(layers[number], own_inputs, own_outputs)
                for own_inputs, own_outputs in zip(
                    inputs.split(list(counts)), at_output.split(list(counts)), strict=True
                )
            ]
        )
        previous = sums[number]
        sums[number] = per_class if previous is None else previous + per_class
    return tuple(
        layer.weight.new_zeros((len(counts), *layer.weight.shape)) if total is None else total
        for total, layer in zip(sums, layers, strict=True)
    )


def _joined(gradients: Gradients, layer_weights: Sequence[float]) -> Tensor:
    # sqrt: so that a layer's weight multiplies its inner products.
    return torch.cat(
        [gradient.flatten(1) * weight**0.5 for gradient, weight in zip(gradients, layer_weights, strict=True)], dim=1
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + EPSILON)


def layerwise_cosine(synthetic: Gradients, real: Gradients, layer_weights: Sequence[float]) -> Tensor:
    """Σ over layers and output nodes of 1 − cosine ([DC], eq. 9); ``(C,)``, each in [0, 2 × output nodes].

    A layer that the loss of a class does not depend on is left out: its nodes would each count as 1 forever.
    """
    terms = zip(synthetic, real, layer_weights, strict=True)
    return torch.stack(
        [weight * (1 - _cosine(s.flatten(2), r.flatten(2))).sum(1) * r.flatten(1).any(1) for s, r, weight in terms]
    ).sum(0)


def flat_cosine(synthetic: Gradients, real: Gradients, layer_weights: Sequence[float]) -> Tensor:
    """1 − cosine of all gradients joined into one vector; ``(C,)``, each in [0, 2].

    Under the name "flat_cosine" these are the gradients of weights alone. The ablation of [DC] joins those of every
    parameter in its released code, biases and norms included: that is "flat_cosine_all".
    """
    return 1 - _cosine(_joined(synthetic, layer_weights), _joined(real, layer_weights))


def mse(synthetic: Gradients, real: Gradients, layer_weights: Sequence[float]) -> Tensor:
    """Squared Euclidean distance of all gradients joined into one vector; ``(C,)``, each ≥ 0.

    Under the name "mse" these are the gradients of weights alone. The ablation of [DC] joins those of every parameter
    in its released code, biases and norms included: that is "mse_all".
    """
    difference = _joined(synthetic, layer_weights) - _joined(real, layer_weights)
    return (difference * difference).sum(1)


Distance = Callable[[Gradients, Gradients, Sequence[float]], Tensor]


def match_classes(
    net: nn.Module,
    synthetic: Tensor,
    labels: Tensor,
    counts: Sequence[int],
    real: Gradients,
    *,
    distance: Distance,
    layer_weights: Sequence[float],
    view: Callable[[Tensor], Tensor] = lambda images: images,
    parameters: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Each class's distance to the gradients of its real images, and its derivative in the synthetic images.

    Args:
        synthetic: ``(n, c, h, w)`` normalised images, sorted by class.
        labels: ``(m,)`` classes, or ``(m, C)`` probabilities, of the images that the net sees.
        counts: how many of these there are of each class; they sum to m.
        real: ``(len(counts), *weight.shape)`` per matched weight, from :func:`class_gradients`.
        view: the m images, sorted by class, that the net sees instead of the n, such as augmented ones; it must be
            differentiable.
        parameters: as in :func:`class_gradients`, the same as for ``real``.

    Returns:
        The detached distances ``(len(counts),)``, and the image gradient ``(n, c, h, w)``.
    """
    synthetic = synthetic.detach().requires_grad_()
    seen = view(synthetic)
    gradients = class_gradients(
        net, seen, labels, mean_shares(counts, seen), counts, create_graph=True, parameters=parameters
    )
    values = distance(gradients, real, layer_weights)
    if not values.requires_grad:  # a net whose weights' gradients do not depend on the images
        return values, torch.zeros_like(synthetic)
    (image_gradient,) = torch.autograd.grad(values.sum(), [synthetic], allow_unused=True, materialize_grads=True)
    return values.detach(), image_gradient


def mean_shares(counts: Sequence[int], like: Tensor) -> Tensor:
    """``(Σ counts,)``: 1/count for each image, in the type and on the device of ``like``."""
    return torch.cat([torch.full((count,), 1 / count, dtype=like.dtype, device=like.device) for count in counts])


DISTANCES: dict[str, Distance] = {
    "layerwise_cosine": layerwise_cosine,
    "flat_cosine": flat_cosine,
    "mse": mse,
    "flat_cosine_all": flat_cosine,
    "mse_all": mse,
}


def compared_parameters(net: nn.Module, distance: str) -> list[Tensor] | None:
    """What the gradients of ``distance``, a name in ``DISTANCES``, are taken of; None: :func:`matched_weights`.

    With a name that ends in "_all" these are all trainable parameters, biases and those of norms included.
    """
    if not distance.endswith("_all"):
        return None
    return [parameter for parameter in net.parameters() if parameter.requires_grad]
