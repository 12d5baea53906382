"""Scores that need no training: each measures a freshly initialised net with one minibatch.

Every function takes ``(net, images, labels)``: an untrained net, normalised ``images`` ``(n, c, h, w)`` and classes
``labels`` ``(n,)`` on the net's device. It returns one number, and higher ranks better. The net is used up: its
weights, statistics and mode may change. *Layers* are the net's convolutions and linear layers, ``w`` their weights, and
``L`` is the mean cross-entropy of the minibatch in training mode, with dropout switched off. To add a score, write such
a function and name it in ``ZERO_COST`` at the bottom of this file.

References: [A] Abdelfattah, Mehrotra, Dudziak, Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, where
``grad_norm``, ``snip``, ``grasp``, ``fisher``, ``synflow``, ``jacob_cov`` and the vote are defined for whole nets ·
[Zen] Lin et al., "Zen-NAS", ICCV 2021 · [ZiCo] Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on
Gradients", ICLR 2023 · [NWOT] Mellor, Turner, Storkey, Crowley, "Neural Architecture Search without Training", ICML
2021, whose first version (2020) defines ``jacob_cov``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.core.randomness import derive_seed
from nasproxy.networks import num_params
from nasproxy.scores.az_nas import az_expressivity, az_progressivity, az_trainability
from nasproxy.scores.layers import LAYERS, NORMS, activation_kinds, hooked
from nasproxy.scores.patterns import meco, swap, swap_regularised
from nasproxy.scores.zen import zen
from nasproxy.spaces import num_flops

MINIBATCH = 64  # images; [A] takes 64, [NWOT] 128, [ZiCo] several batches of 128, [Zen] 16 times 32


def _weights(net: nn.Module) -> list[Tensor]:
    return [module.weight for module in net.modules() if isinstance(module, LAYERS)]


def _loss(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(net(images), labels)


def _gradients(loss: Tensor, weights: list[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """∂loss/∂w; zeros for weights that the loss does not depend on."""
    found = torch.autograd.grad(loss, weights, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


# ----------------------------------------------------------------------------------------------------------------- size


def params(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The number of trainable parameters.

    Cost: none.
    """
    return float(num_params(net))


def flops(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The floating point operations of a forward pass of one image, two per multiply-add.

    Cost: one forward pass of two images.
    """
    _, channels, height, width = images.shape
    return float(num_flops(net.eval(), (channels, height, width)))


@torch.no_grad()
def latency(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The seconds of a forward pass of the minibatch on this device: the median of nine passes, after two to warm up.

    As a score, slower is higher, as with the other sizes; as an objective it is minimised.

    Cost: eleven forward passes, while nothing else runs.
    """
    net.eval()
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        net(images)
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        seconds.append(time.perf_counter() - start)
    return median(seconds[2:])


@torch.no_grad()
def l2_norm(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ_layers ‖w‖₂`` at initialisation.

    Cost: none.
    """
    return sum(w.double().norm().item() for w in _weights(net))


# ------------------------------------------------------------------------------------------------------------ gradients


def grad_norm(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ_layers ‖∂L/∂w‖₂`` [A].

    Cost: one forward and backward pass.
    """
    return sum(g.double().norm().item() for g in _gradients(_loss(net, images, labels), _weights(net)))


def snip(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ |w ⊙ ∂L/∂w|`` [A], after Lee, Ajanthan, Torr, "SNIP", ICLR 2019. Rescaling a ReLU net's layers keeps it.

    Cost: one forward and backward pass.
    """
    weights = _weights(net)
    gradients = _gradients(_loss(net, images, labels), weights)
    return sum((w * g).abs().double().sum().item() for w, g in zip(weights, gradients, strict=True))


def grasp(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``−Σ w ⊙ (H ∂L/∂w)`` with the Hessian ``H`` of ``L`` [A], after Wang, Zhang, Grosse, "GraSP", ICLR 2020.

    Cost: one forward pass and two backward passes, the second through the first.
    """
    weights = _weights(net)
    gradients = _gradients(_loss(net, images, labels), weights, create_graph=True)
    product = sum(((g * g.detach()).sum() for g in gradients), torch.zeros((), device=images.device))
    hessian = _gradients(product, weights) if product.requires_grad else [torch.zeros_like(w) for w in weights]
    return -sum((w * h).double().sum().item() for w, h in zip(weights, hessian, strict=True))


def fisher(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ_layers Σ_channels ½ mean_n (Σ_positions a ⊙ ∂L/∂a)²``; ``a`` are the outputs of each layer.

    Every channel counts once. The positions of a channel are summed first, and then the sum is squared. This is the
    formula of Turner et al., "BlockSwap: Fisher-guided Block Substitution for Network Compression on a Budget", ICLR
    2020, which [A] takes over. The code of BlockSwap measures one output of every block, and this score the output of
    every layer, as [A] does. For the weights of the code of [A], see :func:`fisher_released`.

    Cost: one forward and backward pass.
    """
    return _fisher(net, images, labels, lambda layer: 1)


def fisher_released(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ_layers m Σ_channels ½ mean_n (Σ_positions a ⊙ ∂L/∂a)²``, as the released code of [A] computes it.

    ``m`` is the number of weights of a channel: input channels of its group times the area of the kernel, or the inputs
    of a linear layer. That code gives the value of a channel to each of its weights before it adds them up. The formula
    in the paper does not have ``m``, and :func:`fisher` leaves it out.

    Cost: one forward and backward pass.
    """
    return _fisher(net, images, labels, lambda layer: layer.weight[0].numel())


def _fisher(net: nn.Module, images: Tensor, labels: Tensor, times: Callable[[nn.Conv2d | nn.Linear], int]) -> float:
    """:func:`fisher`, where each channel of ``layer`` counts ``times(layer)`` times."""
    parts: list[Tensor] = []

    def watch(module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        activations = output.detach().clone()  # a ReLU after it may work in place

        def add(gradient: Tensor) -> None:
            product = activations * gradient
            by_channel = product.flatten(2).sum(2) if isinstance(module, nn.Conv2d) else product
            parts.append(0.5 * by_channel.double().square().mean(0).sum() * times(module))

        if output.requires_grad:
            output.register_hook(add)

    with hooked(net, LAYERS, watch):
        _loss(net, images, labels).backward()
    return sum(part.item() for part in parts)


def zico(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ_layers log Σ_w mean|∂L/∂w| / std ∂L/∂w`` over two halves of the minibatch [ZiCo].

    Weights whose gradient does not vary are left out, and so are layers that have no others. The std is that of a
    population.

    Cost: one forward and backward pass.
    """
    weights = _weights(net)
    halves = [
        _gradients(_loss(net, some, own), weights)
        for some, own in zip(images.tensor_split(2), labels.tensor_split(2), strict=True)
    ]
    total = 0.0
    for pair in zip(*halves, strict=True):
        gradients = torch.stack(pair).double()
        mean, std = gradients.abs().mean(0), gradients.std(0, correction=0)
        ratio = (mean[std > 0] / std[std > 0]).sum().item()
        total += math.log(ratio) if ratio > 0 else 0.0
    return total


def synflow(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``Σ |w ⊙ ∂R/∂w|``, where ``R`` sums the outputs for an image of ones under ``|w|`` and ``|bias|``, without norms.

    [A], after Tanaka, Kunin, Yamins, Ganguli, "SynFlow", NeurIPS 2020. It uses no data. For a chain of ``l`` layers
    without biases it is ``l R``, and rescaling layers keeps it. Norms of every kind are skipped, as batch norm in [A].
    It is computed in float64, because ``R`` grows with the product of the widths.

    Cost: one forward and backward pass of one image.
    """
    net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    weights = _weights(net)
    ones = torch.ones_like(images[:1], dtype=torch.float64)
    with hooked(net, NORMS, lambda module, inputs, output: inputs[0]):
        gradients = _gradients(net(ones).sum(), weights)
    return sum((w * g).abs().sum().item() for w, g in zip(weights, gradients, strict=True))


# ------------------------------------------------------------------------------------------------ images distinguished


def jacob_cov(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``−Σ_i log(λ_i + k) + 1 / (λ_i + k)``, ``k = 10⁻⁵``, ``λ`` the eigenvalues of the Jacobians' correlation [A].

    The Jacobian of an image is the gradient of the summed outputs with respect to its pixels. It is correlated between
    images that a net treats the same way; the scale of the outputs does not matter. The score is minus infinity for a
    net whose output does not depend on the images, because it distinguishes none.

    Cost: one forward and backward pass.
    """
    images = images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(net(images).sum(), images, allow_unused=True)
    if jacobian is None or not jacobian.any():
        return -math.inf
    correlation = torch.corrcoef(jacobian.flatten(1).double())
    if not torch.isfinite(correlation).all():
        return math.nan
    shifted = torch.linalg.eigvalsh(correlation) + 1e-5
    return -(shifted.log() + 1 / shifted).sum().item()


@torch.no_grad()
def naswot(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``log |det K|``, ``K_ij`` the activations on whose sign images i and j agree [NWOT].

    Every activation module of ``torch.nn`` counts by the sign of its input. [NWOT] defines it for ReLU, whose linear
    regions these signs distinguish; smooth activations are treated as if they were ReLU.

    Raises:
        ValueError: for a net without activation modules.

    Cost: one forward pass.
    """
    kernel = torch.zeros((len(images), len(images)), dtype=torch.float64, device=images.device)
    kinds = activation_kinds(net)
    if not kinds:
        raise ValueError("naswot counts activation modules, and this net has none: use nn.ReLU for functional.relu")

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        positive = (inputs[0].flatten(1) > 0).float()
        negative = 1 - positive
        kernel.add_(positive @ positive.T).add_(negative @ negative.T)

    # Before the module runs: it may overwrite its input.
    handles = [module.register_forward_pre_hook(watch) for module in net.modules() if isinstance(module, kinds)]
    net(images)
    for handle in handles:
        handle.remove()
    return torch.linalg.slogdet(kernel)[1].item()


# ---------------------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class ZeroCost:
    """A score that needs no training.

    Attributes:
        function: measures it; see the module's docstring.
        label: its name on a page.
        description: what it sees and what it costs, in a few words.
        alone: nothing else may run at the same time, as for a time.
    """

    function: Callable[[nn.Module, Tensor, Tensor], float]
    label: str
    description: str
    alone: bool = False


def measure(score: str, net: nn.Module, images: Tensor, labels: Tensor, *, seed: int) -> float:
    """Measures a score. The global generators are left as they were.

    Args:
        score: a name in ``ZERO_COST``.
        net: untrained; it is used up.
        images: ``(n, c, h, w)``, normalised, on the net's device.
        labels: classes ``(n,)``.
        seed: of what is drawn at random.

    Returns:
        The score; infinite or NaN where it is undefined.
    """
    net.train()
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    device = images.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "zero-cost"))
        return ZERO_COST[score].function(net, images, labels)


# Cheapest first.
ZERO_COST: dict[str, ZeroCost] = {
    "params": ZeroCost(params, "Parameter count", "trainable parameters; free"),
    "flops": ZeroCost(flops, "FLOPs", "floating point operations of a forward pass; free"),
    "l2_norm": ZeroCost(l2_norm, "L2 norm", "size of the initial weights; free"),
    "synflow": ZeroCost(synflow, "SynFlow", "product of weights along all paths; a pass of one image"),
    "naswot": ZeroCost(naswot, "NASWOT", "linear regions that tell images apart; a forward pass"),
    "meco": ZeroCost(meco, "MeCo", "channels that say different things; a forward pass of one image"),
    "swap": ZeroCost(swap, "SWAP", "patterns of activations that neurons tell apart; a forward pass"),
    "swap_regularised": ZeroCost(swap_regularised, "SWAP, regularised", "the same, for nets of half a million weights"),
    "az_expressivity": ZeroCost(az_expressivity, "AZ-NAS expressivity", "entropy of blocks' features; a forward pass"),
    "az_progressivity": ZeroCost(az_progressivity, "AZ-NAS progressivity", "its least growth; a forward pass"),
    "az_trainability": ZeroCost(
        az_trainability, "AZ-NAS trainability", "how blocks pass gradients on; a forward and backward pass"
    ),
    "latency": ZeroCost(
        latency, "Latency", "seconds of a forward pass on this device; eleven of them, alone", alone=True
    ),
    "grad_norm": ZeroCost(grad_norm, "Gradient norm", "norm of the weights' gradients; a forward and backward pass"),
    "snip": ZeroCost(snip, "SNIP", "how much the loss depends on each weight; a forward and backward pass"),
    "fisher": ZeroCost(
        fisher,
        "Fisher (channels counted once)",
        "how much the loss depends on each channel; a forward and backward pass",
    ),
    "fisher_released": ZeroCost(
        fisher_released,
        "Fisher (released code)",
        "the same, each channel counted once per weight of it; a forward and backward pass",
    ),
    "jacob_cov": ZeroCost(jacob_cov, "Jacobian covariance", "gradients that tell images apart; a forward and backward"),
    "zico": ZeroCost(zico, "ZiCo", "gradients large beside their spread; two forward and backward passes of half size"),
    "zen": ZeroCost(zen, "Zen-score", "how much noise moves the features; eight forward passes of 16 images"),
    "grasp": ZeroCost(grasp, "GraSP", "how a step changes the gradient's norm; a pass of second order"),
}
