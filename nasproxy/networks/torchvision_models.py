"""Classification models of torchvision by name, untrained, for any number of channels and classes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.networks.blocks import positive


class _Adapted(nn.Module):
    """Resizes images to ``side``, gives them three channels, and applies the model."""

    def __init__(self, model: nn.Module, channels: int, side: int | None) -> None:
        super().__init__()
        self.side = side
        self.colour: nn.Module = nn.Identity() if channels == 3 else nn.Conv2d(channels, 3, 1)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        if self.side is not None:
            images = functional.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=False)
        result: Tensor = self.model(self.colour(images))
        return result


def torchvision_model(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    model: str = "resnet18",
    side: int | None = None,
    **options: object,
) -> nn.Module:
    """torchvision's ``model`` (``torchvision.models.list_models``), untrained, with ``num_classes`` outputs.

    These models were made for images of 224 pixels and halve them five times. So ``side`` enlarges small images first,
    to that many pixels. Images of another number of channels than three go through a 1×1 convolution to three.
    ``options`` are passed to the model's function, such as ``width_mult`` of mobilenet_v2.

    Raises:
        NasproxyError: for a model that torchvision does not have, options that it does not take, or one that gives
            more than one tensor.
    """
    import torchvision
    from torchvision import models

    known = models.list_models(module=torchvision.models)
    if model not in known:
        raise unknown("torchvision model", model, known)
    if side is not None:
        positive(side=side)
    if model in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True} | options
    try:
        made = models.get_model(model, weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise NasproxyError(f"torchvision's {model} does not take these options: {error}.") from None
    return _Adapted(made, input_shape[0], side)
