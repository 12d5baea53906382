"""The proxy set and its file: synthetic images, their labels, the recipe to train on them, and where they come from.

File format, version 1: one ``.safetensors`` file with the tensors ``images`` and ``labels`` and a single metadata key
``nasproxy`` holding canonical JSON (with one key the bytes are the same on every write). The JSON holds

- ``content``: recipe, normalisation, class names, ``formation`` when it is not 1, ``recipes`` when sets differ in them,
  and ``provenance`` (method, every setting, seed, data fingerprint): all that determines training on the set. Equal
  builds have equal content.
- ``record``: what a rebuild may not repeat: seconds, hardware, versions, where the data were found.
- ``sha256``: over the tensors, ``content`` and ``record``; verified on load. safetensors refuses truncated files but
  not flipped bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy.config import Recipe
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.data import Dataset
from nasproxy.data.multi_formation import decode

FORMAT_VERSION = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ProxySet:
    """One or several small labelled sets.

    ``images`` ``(s, n, c, h, w)`` float32, normalised by ``mean`` and ``std`` per channel; ``labels`` ``(s, n)`` int64
    classes or ``(s, n, C)`` float32 probabilities; ``s`` counts independent sets of the same data. ``provenance`` and
    ``record`` are JSON objects, see the module's docstring. Every image holds ``formation``² smaller ones
    (:func:`nasproxy.data.multi_formation.decode`); a net trains on :meth:`training_images`. ``recipes`` has one for
    each set where they differ, because a method learned them with the images; ``recipe`` is the first one.
    """

    images: Tensor
    labels: Tensor
    recipe: Recipe
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    provenance: dict[str, Any]
    record: dict[str, Any]
    formation: int = 1
    recipes: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 5 or self.images.dtype != torch.float32:
            raise NasproxyError(
                "`images` of a proxy set must be float32 with axes (sets, n, c, h, w), but got "
                f"{self.images.dtype} {tuple(self.images.shape)}."
            )
        if self.labels.shape[:2] != self.images.shape[:2]:
            raise NasproxyError(
                f"A proxy set needs one label per image, but got labels {tuple(self.labels.shape)} for images "
                f"{tuple(self.images.shape)}."
            )
        if self.labels.ndim == 2:
            if self.labels.dtype != torch.int64 or self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
                raise NasproxyError(f"Hard labels must be int64 classes 0 … {len(self.class_names) - 1}.")
        elif self.labels.ndim != 3 or self.labels.shape[2] != len(self.class_names):
            raise NasproxyError(
                f"Soft labels must be (sets, n, {len(self.class_names)}), but got {tuple(self.labels.shape)}."
            )
        if not torch.isfinite(self.images).all():
            raise NasproxyError("`images` of a proxy set must be finite, but hold NaN or infinity: rebuild the set.")
        if self.recipes and (len(self.recipes) != len(self.images) or self.recipes[0] != self.recipe):
            raise NasproxyError(
                f"`recipes` must be one for each of {len(self.images)} sets, the first of them `recipe`, but got "
                f"{len(self.recipes)}."
            )
        if len(self.mean) != self.images.shape[2] or len(self.std) != self.images.shape[2]:
            raise NasproxyError(
                f"`mean` and `std` need one value per channel ({self.images.shape[2]}), but got {self.mean} and "
                f"{self.std}."
            )

    @property
    def num_sets(self) -> int:
        return self.images.shape[0]

    @property
    def num_images(self) -> int:
        """Images per set."""
        return self.images.shape[1]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, _, c, h, w = self.images.shape
        return c, h, w

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def method(self) -> str:
        return str(self.provenance["config"]["method"])

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class; those of soft labels as they were asked for, else spread evenly over the classes."""
        if self.labels.ndim == 2:
            return tuple(torch.bincount(self.labels[0], minlength=self.num_classes).tolist())
        asked = self.provenance["config"].get("ipc_per_class")
        if asked is not None:
            return tuple(asked)
        each, more = divmod(self.num_images, self.num_classes)
        return tuple(each + (label < more) for label in range(self.num_classes))

    def training_images(self, number: int) -> tuple[Tensor, Tensor]:
        """What a net trains on, from set ``number``: images ``(n · formation², c, h, w)`` and their labels."""
        return decode(self.images[number], self.formation), self.labels[number].repeat_interleave(
            self.formation**2, dim=0
        )

    def recipe_of(self, number: int) -> Recipe:
        """How a net trains on set ``number``."""
        return self.recipes[number] if self.recipes else self.recipe

    @property
    def content_id(self) -> str:
        """SHA-256 of the tensors and ``content``: equal for equal builds, whenever and wherever they ran."""
        return _digest(self.images, self.labels, _canonical(self._content()))

    def _content(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.as_json(),
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            "provenance": self.provenance,
            **({"formation": self.formation} if self.formation > 1 else {}),
            **({"recipes": [recipe.as_json() for recipe in self.recipes]} if self.recipes else {}),
        }

    def describe(self) -> str:
        """One line for a person: method, size, data."""
        name = self.provenance["dataset"]["name"]
        held = f", each {self.formation}×{self.formation} smaller ones" if self.formation > 1 else ""
        soft = " with soft labels" if self.labels.ndim == 3 else ""
        return f"{self.method}, {per_class(self.counts)}, {self.num_images} images of {name}{soft}{held}"


def per_class(counts: Sequence[int]) -> str:
    """Images of each class in words: ``10 per class``, ``1 to 20 per class``; ``5 in all`` where not all have one."""
    if min(counts) == 0:
        return f"{sum(counts)} in all"
    return f"{min(counts)} per class" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} per class"


def one_or_all(counts: Sequence[int]) -> str:
    """``counts`` for an identity: the number alone where all are equal."""
    return str(counts[0]) if min(counts) == max(counts) else ",".join(map(str, counts))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(images: Tensor, labels: Tensor, text: str) -> str:
    sha = hashlib.sha256()
    for tensor in (images, labels):
        sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    sha.update(text.encode())
    return sha.hexdigest()


def save_proxy(proxy: ProxySet, path: Path) -> Path:
    """Writes ``proxy`` to ``path`` atomically; the same set gives the same bytes."""
    from safetensors.torch import save

    content, record = proxy._content(), proxy.record
    images, labels = proxy.images.detach().cpu().contiguous(), proxy.labels.detach().cpu().contiguous()
    body = {"format": FORMAT_VERSION, "content": content, "record": record}
    body["sha256"] = _digest(images, labels, _canonical(body))
    write_atomically(path, save({"images": images, "labels": labels}, metadata={"nasproxy": _canonical(body)}))
    return path


def load_proxy(path: Path) -> ProxySet:
    """Reads a proxy file and verifies its SHA-256.

    Raises:
        NasproxyError: when ``path`` is absent, truncated, changed since it was written, or not a proxy file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise NasproxyError(f"No proxy file at '{path}': build one with `nasproxy build-proxy --dataset NAME`.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get("nasproxy")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise NasproxyError(
            f"'{path}' is truncated or no .safetensors file ({error}): rebuild or copy it again."
        ) from None
    if header is None:
        raise NasproxyError(
            f"'{path}' is a .safetensors file, but no proxy set: it lacks the metadata key 'nasproxy'. "
            "Build one with `nasproxy build-proxy --dataset NAME`."
        )
    try:
        body = json.loads(header)
        version, content, record, expected = body["format"], body["content"], body["record"], body.pop("sha256")
        images, labels = tensors["images"], tensors["labels"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise NasproxyError(f"The header of '{path}' is damaged: rebuild or copy the file again.") from None
    if version != FORMAT_VERSION:
        raise NasproxyError(
            f"'{path}' has proxy format {version!r}, but this nasproxy reads format {FORMAT_VERSION}: "
            "install the version that wrote it, or rebuild the set."
        )
    actual = _digest(images, labels, _canonical(body))
    if actual != expected:
        raise NasproxyError(
            f"'{path}' was changed after it was written: its SHA-256 should be {str(expected)[:12]}…, but is "
            f"{actual[:12]}…. Copy it again or rebuild it."
        )
    return ProxySet(
        images=images,
        labels=labels,
        recipe=Recipe.from_json(content["recipe"]),
        mean=tuple(content["mean"]),
        std=tuple(content["std"]),
        class_names=tuple(content["class_names"]),
        provenance=content["provenance"],
        record=record,
        formation=content.get("formation", 1),
        recipes=tuple(Recipe.from_json(recipe) for recipe in content.get("recipes", ())),
    )


def newest_proxy(folder: Path) -> Path:
    """The proxy file in ``folder`` that was built last.

    Raises:
        NasproxyError: when there is none; the message names the command to run.
    """
    files = [path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")]
    if not files:
        raise NasproxyError(
            f"No proxy set in '{folder}': build one with `nasproxy build-proxy --dataset NAME` "
            "or name one with --proxy FILE."
        )
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name))


def check_fit(proxy: ProxySet, dataset: Dataset) -> None:
    """Raises NasproxyError unless ``proxy`` was built from this very data set."""
    built_from = proxy.provenance["dataset"]
    if proxy.input_shape != dataset.input_shape:
        raise NasproxyError(
            f"The proxy set and the data set must have images of one shape, but the proxy has {proxy.input_shape} and "
            f"'{dataset.name}' has {dataset.input_shape} (channels, height, width): build a proxy of these data."
        )
    if proxy.class_names != dataset.class_names:
        raise NasproxyError(
            f"The proxy set and the data set must have the same classes, but the proxy (of '{built_from['name']}') has "
            f"{proxy.num_classes} and '{dataset.name}' has {dataset.num_classes} or other names: "
            "build a proxy of these data."
        )
    if built_from["fingerprint"] != dataset.fingerprint:
        raise NasproxyError(
            f"The proxy set must come from the data it is used with, but it was built from '{built_from['name']}' with "
            f"fingerprint {built_from['fingerprint'][:12]}… and '{dataset.name}' has {dataset.fingerprint[:12]}…: "
            "rebuild it, or name the original data with --dataset."
        )
