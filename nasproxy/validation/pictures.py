"""Pictures of a proxy set, each image beside its nearest real image."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor

from nasproxy.data import Dataset, denormalize
from nasproxy.data.proxy_set import ProxySet, per_class
from nasproxy.report.data import ClassPicture
from nasproxy.report.png import class_strips

MAX_CLASSES, MAX_IMAGES = 20, 10  # on the page


def pictures_of(proxy: ProxySet, dataset: Dataset) -> tuple[tuple[ClassPicture, ...], str]:
    """The set's images by class, the training image nearest to each, and a note that says what is shown."""
    labels = proxy.labels[0] if proxy.labels.ndim == 2 else proxy.labels[0].argmax(1)

    def strips(pixels: np.ndarray) -> list[tuple[str, bytes]]:
        return class_strips(pixels, labels.numpy(), proxy.class_names, max_classes=MAX_CLASSES, max_images=MAX_IMAGES)

    own = strips(denormalize(proxy.images[0], proxy.mean, proxy.std).numpy())
    near = strips(dataset.train.images[nearest_real(proxy, labels, dataset)].numpy())
    note = f"{proxy.describe()}. Colours are clipped to what a screen can show."
    if proxy.num_classes > MAX_CLASSES:
        note += f" Shown: the first {MAX_CLASSES} of {proxy.num_classes} classes."
    if max(proxy.counts) > MAX_IMAGES:
        note += f" Shown: {MAX_IMAGES} of {per_class(proxy.counts).replace(' per', ' images per')}."
    pictures = tuple(
        ClassPicture(name, base64.b64encode(png).decode(), base64.b64encode(real).decode())
        for (name, png), (_, real) in zip(own, near, strict=True)
    )
    return pictures, note[0].upper() + note[1:]


def nearest_real(proxy: ProxySet, labels: Tensor, dataset: Dataset) -> Tensor:
    """For each image of the first set the number of the training image of its class nearest in normalised pixels.

    For a set that stores several images in each, each of its images stays one.
    """
    nearest = torch.zeros(len(labels), dtype=torch.int64)
    for label, members in enumerate(dataset.train.by_class(dataset.num_classes)):
        own = (labels == label).nonzero()[:MAX_IMAGES, 0]
        if label >= MAX_CLASSES or not len(own) or not len(members):
            continue
        images = proxy.images[0, own].flatten(1)
        parts = [
            torch.cdist(images, dataset.normalize(dataset.train.images[p]).flatten(1)) for p in members.split(1000)
        ]
        nearest[own] = members[torch.cat(parts, 1).argmin(1)]
    return nearest
