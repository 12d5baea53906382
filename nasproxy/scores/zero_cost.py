"""Scores that need no training: each measures a freshly initialised net with one minibatch.

Every function takes a :class:`~nasproxy.scores.fresh_net.FreshNet`: an untrained net, normalised images ``(n, c, h,
w)``, their classes ``(n,)``, and what passes of the minibatch give. It returns one number, and higher ranks better.
*Layers* are the net's convolutions and linear layers, ``w`` their weights, and ``L`` is the mean cross-entropy of the
minibatch in training mode, with dropout switched off.

To add a score, write such a function and name it in ``ZERO_COST`` at the bottom of this file. Scores that read the same
passes are measured together, for the cost of the passes. A score that reads none has a net of its own, and may use it
up.

References: [A] Abdelfattah, Mehrotra, Dudziak, Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, where
``grad_norm``, ``snip``, ``grasp``, ``fisher``, ``synflow``, ``jacob_cov`` and the vote are defined for whole nets ·
[Zen] Lin et al., "Zen-NAS", ICCV 2021 · [ZiCo] Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on
Gradients", ICLR 2023 · [NWOT] Mellor, Turner, Storkey, Crowley, "Neural Architecture Search without Training", ICML
2021, whose first version (2020) defines ``jacob_cov``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.core.devices import accelerator, float32_as, forked, twice_differentiable
from nasproxy.core.randomness import derive_seed
from nasproxy.networks import num_params
from nasproxy.scores.az_nas import az_expressivity, az_progressivity, az_trainability
from nasproxy.scores.fresh_net import (
    CHANNELS,
    FEATURES,
    GRADIENTS,
    JACOBIAN,
    ONE_PASS,
    SIGNS,
    FreshNet,
    Measure,
    gradients_of,
    total,
)
from nasproxy.scores.layers import NORMS, hooked
from nasproxy.scores.patterns import meco, meco_opt, swap, swap_regularised
from nasproxy.scores.vkdnw import vkdnw
from nasproxy.scores.zen import zen
from nasproxy.spaces import num_flops

# images; [A] takes 64, [NWOT] 128, [ZiCo] several batches of 128. With 32, cells of NAS-Bench-201 have the order that
# they have with 64: ρ is .98 or more for each score but grasp, which has .77 (benchmarks/RESULTS.md).
MINIBATCH = 32


def _loss(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(net(images), labels)


# ----------------------------------------------------------------------------------------------------------------- size


def params(fresh: FreshNet) -> float:
    """The number of trainable parameters.

    Cost: none.
    """
    return float(num_params(fresh.net))


def flops(fresh: FreshNet) -> float:
    """The floating point operations of a forward pass of one image, two per multiply-add.

    Cost: one forward pass of two images.
    """
    _, channels, height, width = fresh.images.shape
    return float(num_flops(fresh.net.eval(), (channels, height, width)))


@torch.no_grad()
def latency(fresh: FreshNet) -> float:
    """The seconds of a forward pass of the minibatch on this device: the median of nine passes, after two to warm up.

    As a score, slower is higher, as with the other sizes; as an objective it is minimised.

    Cost: eleven forward passes, while nothing else runs.
    """
    net, images = fresh.net.eval(), fresh.images
    module = accelerator(images.device)
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        net(images)
        if module is not None:
            module.synchronize(images.device)
        seconds.append(time.perf_counter() - start)
    return median(seconds[2:])


@torch.no_grad()
def l2_norm(fresh: FreshNet) -> float:
    """``Σ_layers ‖w‖₂`` at initialisation.

    Cost: none.
    """
    return total(w.double().norm() for w in fresh.weights)


# ------------------------------------------------------------------------------------------------------------ gradients


def grad_norm(fresh: FreshNet) -> float:
    """``Σ_layers ‖∂L/∂w‖₂`` [A].

    Cost: one forward and backward pass.
    """
    return total(g.double().norm() for g in fresh.gradients)


def snip(fresh: FreshNet) -> float:
    """``Σ |w ⊙ ∂L/∂w|`` [A], after Lee, Ajanthan, Torr, "SNIP", ICLR 2019. Rescaling a ReLU net's layers keeps it.

    Cost: one forward and backward pass.
    """
    pairs = zip(fresh.weights, fresh.gradients, strict=True)
    return total((w * g).abs().double().sum() for w, g in pairs)


def grasp(fresh: FreshNet) -> float:
    """``−Σ w ⊙ (H ∂L/∂w)`` with the Hessian ``H`` of ``L`` [A], after Wang, Zhang, Grosse, "GraSP", ICLR 2020.

    Cost: one forward pass and two backward passes, the second through the first.
    """
    weights = fresh.weights
    with twice_differentiable():
        gradients = gradients_of(_loss(fresh.net, fresh.images, fresh.labels), weights, create_graph=True)
    product = sum(((g * g.detach()).sum() for g in gradients), torch.zeros((), device=fresh.images.device))
    hessian = gradients_of(product, weights) if product.requires_grad else [torch.zeros_like(w) for w in weights]
    return -total((w * h).double().sum() for w, h in zip(weights, hessian, strict=True))


def fisher(fresh: FreshNet) -> float:
    """``Σ_layers Σ_channels ½ mean_n (Σ_positions a ⊙ ∂L/∂a)²``; ``a`` are the outputs of each layer.

    Every channel counts once. The positions of a channel are summed first, and then the sum is squared. This is the
    formula of Turner et al., "BlockSwap: Fisher-guided Block Substitution for Network Compression on a Budget", ICLR
    2020, which [A] takes over. The code of BlockSwap measures one output of every block, and this score the output of
    every layer, as [A] does. For the weights of the code of [A], see :func:`fisher_released`.

    Cost: one forward and backward pass.
    """
    return _fisher(fresh, lambda layer: 1)


def fisher_released(fresh: FreshNet) -> float:
    """``Σ_layers m Σ_channels ½ mean_n (Σ_positions a ⊙ ∂L/∂a)²``, as the released code of [A] computes it.

    ``m`` is the number of weights of a channel: input channels of its group times the area of the kernel, or the inputs
    of a linear layer. That code gives the value of a channel to each of its weights before it adds them up. The formula
    in the paper does not have ``m``, and :func:`fisher` leaves it out.

    Cost: one forward and backward pass.
    """
    return _fisher(fresh, lambda layer: layer.weight[0].numel())


def _fisher(fresh: FreshNet, times: Callable[[nn.Conv2d | nn.Linear], int]) -> float:
    """:func:`fisher`, where each channel of ``layer`` counts ``times(layer)`` times."""
    return total(0.5 * channel.double().square().mean(0).sum() * times(layer) for layer, channel in fresh.channels)


def zico(fresh: FreshNet) -> float:
    """``Σ_layers log Σ_w mean|∂L/∂w| / std ∂L/∂w`` over two halves of the minibatch [ZiCo].

    Weights whose gradient does not vary are left out, and so are layers that have no others. The std is that of a
    population.

    Cost: one forward and backward pass.
    """
    halves = [
        gradients_of(_loss(fresh.net, some, own), fresh.weights)
        for some, own in zip(fresh.images.tensor_split(2), fresh.labels.tensor_split(2), strict=True)
    ]
    layers = []
    for pair in zip(*halves, strict=True):
        gradients = torch.stack(pair).double()
        mean, std = gradients.abs().mean(0), gradients.std(0, correction=0)
        ratio = torch.where(std > 0, mean / std, 0.0).sum()
        layers.append(torch.where(ratio > 0, ratio.log(), 0.0))
    return total(layers)


def synflow(fresh: FreshNet) -> float:
    """``Σ |w ⊙ ∂R/∂w|``, where ``R`` sums the outputs for an image of ones under ``|w|`` and ``|bias|``, without norms.

    [A], after Tanaka, Kunin, Yamins, Ganguli, "SynFlow", NeurIPS 2020. It uses no data. For a chain of ``l`` layers
    without biases it is ``l R``, and rescaling layers keeps it. Norms of every kind are skipped, as batch norm in [A].
    It is computed in float64, because ``R`` grows with the product of the widths.

    Cost: one forward and backward pass of one image.
    """
    net = fresh.net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    ones = torch.ones_like(fresh.images[:1], dtype=torch.float64)
    with hooked(net, NORMS, lambda module, inputs, output: inputs[0]):
        gradients = gradients_of(net(ones).sum(), fresh.weights)
    return total((w * g).abs().sum() for w, g in zip(fresh.weights, gradients, strict=True))


# ------------------------------------------------------------------------------------------------ images distinguished


def jacob_cov(fresh: FreshNet) -> float:
    """``−Σ_i log(λ_i + k) + 1 / (λ_i + k)``, ``k = 10⁻⁵``, ``λ`` the eigenvalues of the Jacobians' correlation [A].

    The Jacobian of an image is the gradient of the summed outputs with respect to its pixels. It is correlated between
    images that a net treats the same way; the scale of the outputs does not matter. The score is minus infinity for a
    net whose output does not depend on the images, because it distinguishes none.

    Cost: one forward and backward pass.
    """
    jacobian = fresh.jacobian
    if jacobian is None or not jacobian.any():
        return -math.inf
    correlation = torch.corrcoef(jacobian.flatten(1).double())
    if not torch.isfinite(correlation).all():
        return math.nan
    shifted = torch.linalg.eigvalsh(correlation) + 1e-5
    return -(shifted.log() + 1 / shifted).sum().item()


def naswot(fresh: FreshNet) -> float:
    """``log |det K|``, ``K_ij`` the activations on whose sign images i and j agree [NWOT].

    Every activation module of ``torch.nn`` counts by the sign of its input. [NWOT] defines it for ReLU, whose linear
    regions these signs distinguish; smooth activations are treated as if they were ReLU.

    Raises:
        ValueError: for a net without activation modules.

    Cost: one forward pass.
    """
    if not fresh.signs:
        raise ValueError("naswot counts activation modules, and this net has none: use nn.ReLU for functional.relu")
    n = len(fresh.images)
    kernel = torch.zeros((n, n), dtype=torch.float64, device=fresh.images.device)
    for signs in fresh.signs:
        positive = signs.float()
        both, each = (positive @ positive.T).double(), positive.double().sum(1)
        kernel.add_(2 * both - each[:, None] - each + signs.shape[1])  # both positive, or neither
    return torch.linalg.slogdet(kernel)[1].item()


# ---------------------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class ZeroCost:
    """A score that needs no training.

    Attributes:
        function: measures it; see the module's docstring.
        label: its name on a page.
        description: what it sees and what it costs, in a few words.
        reads: the names of what it reads of the passes of a :class:`~nasproxy.scores.fresh_net.FreshNet`.
        alone: nothing else may run at the same time, as for a time.
    """

    function: Measure
    label: str
    description: str
    reads: tuple[str, ...] = ()
    alone: bool = False

    @property
    def passes(self) -> frozenset[str]:
        """The passes that it shares with other scores; empty for a score with a net of its own."""
        if FEATURES in self.reads:
            return frozenset((FEATURES,))
        return ONE_PASS if self.reads else frozenset()


def together(names: Iterable[str]) -> list[tuple[str, ...]]:
    """``names`` of scores in ``ZERO_COST``, in groups that one net is made for."""
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(ZERO_COST[name].passes or name, []).append(name)
    return [tuple(group) for group in groups.values()]


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

    Raises:
        ValueError, RuntimeError: when the net cannot be measured.
    """
    found = measure_group((score,), net, images, labels, seed=seed)[score]
    if isinstance(found, Exception):
        raise found
    return found


def measure_group(
    scores: tuple[str, ...], net: nn.Module, images: Tensor, labels: Tensor, *, seed: int
) -> dict[str, float | RuntimeError | ValueError]:
    """The same as :func:`measure` for scores that share a net, see :func:`together`; each is what it is alone.

    Returns:
        Each score, or the error for which it could not be measured.
    """
    net.train()
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    found: dict[str, float | RuntimeError | ValueError] = {}
    # Zen takes differences of passes that are 1 % apart, which TF32 would drown.
    with forked(images.device, derive_seed(seed, "zero-cost")), float32_as("float32"):
        fresh = FreshNet(net, images, labels, frozenset(one for name in scores for one in ZERO_COST[name].reads))
        for name in scores:
            try:
                found[name] = ZERO_COST[name].function(fresh)
            except (RuntimeError, ValueError) as error:
                found[name] = error.with_traceback(None)  # which would keep the net in memory
    return found


# Cheapest first.
ZERO_COST: dict[str, ZeroCost] = {
    "params": ZeroCost(params, "Parameter count", "trainable parameters; free"),
    "flops": ZeroCost(flops, "FLOPs", "floating point operations of a forward pass; free"),
    "l2_norm": ZeroCost(l2_norm, "L2 norm", "size of the initial weights; free"),
    "synflow": ZeroCost(synflow, "SynFlow", "product of weights along all paths; a pass of one image"),
    "naswot": ZeroCost(naswot, "NASWOT", "linear regions that tell images apart; a forward pass", reads=(SIGNS,)),
    "meco": ZeroCost(meco, "MeCo", "channels that say different things; a forward pass of one image"),
    "meco_opt": ZeroCost(meco_opt, "MeCo, eight channels", "the same of eight random channels of each output"),
    "swap": ZeroCost(swap, "SWAP", "patterns of activations that neurons tell apart; a forward pass", reads=(SIGNS,)),
    "swap_regularised": ZeroCost(
        swap_regularised, "SWAP, regularised", "the same, for nets of half a million weights", reads=(SIGNS,)
    ),
    "az_expressivity": ZeroCost(
        az_expressivity, "AZ-NAS expressivity", "entropy of blocks' features; a forward pass", reads=(FEATURES,)
    ),
    "az_progressivity": ZeroCost(
        az_progressivity, "AZ-NAS progressivity", "its least growth; a forward pass", reads=(FEATURES,)
    ),
    "az_trainability": ZeroCost(
        az_trainability,
        "AZ-NAS trainability",
        "how blocks pass gradients on; a forward and backward pass",
        reads=(FEATURES,),
    ),
    "latency": ZeroCost(
        latency, "Latency", "seconds of a forward pass on this device; eleven of them, alone", alone=True
    ),
    "grad_norm": ZeroCost(
        grad_norm, "Gradient norm", "norm of the weights' gradients; a forward and backward pass", reads=(GRADIENTS,)
    ),
    "snip": ZeroCost(
        snip, "SNIP", "how much the loss depends on each weight; a forward and backward pass", reads=(GRADIENTS,)
    ),
    "fisher": ZeroCost(
        fisher,
        "Fisher (channels counted once)",
        "how much the loss depends on each channel; a forward and backward pass",
        reads=(GRADIENTS, CHANNELS),
    ),
    "fisher_released": ZeroCost(
        fisher_released,
        "Fisher (released code)",
        "the same, each channel counted once per weight of it; a forward and backward pass",
        reads=(GRADIENTS, CHANNELS),
    ),
    "jacob_cov": ZeroCost(
        jacob_cov, "Jacobian covariance", "gradients that tell images apart; a forward and backward", reads=(JACOBIAN,)
    ),
    "zico": ZeroCost(zico, "ZiCo", "gradients large beside their spread; two forward and backward passes of half size"),
    "zen": ZeroCost(zen, "Zen-score", "how much noise moves the features; eight forward passes of 16 images"),
    "vkdnw": ZeroCost(vkdnw, "VKDNW", "how evenly weights carry information; 160 backward passes of one image"),
    "grasp": ZeroCost(grasp, "GraSP", "how a step changes the gradient's norm; a pass of second order"),
}
