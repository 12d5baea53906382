"""The proxy set and its file: synthetic images, their labels, the recipe to train on them, and how they were made.

File format, version 1: one ``.safetensors`` file with the tensors ``images`` and ``labels`` and a single metadata key
``nasproxy``, which holds canonical JSON. (With one key, the bytes are the same on every write.) The JSON holds

- ``content``: everything that determines training on the set: recipe, normalisation, class names, ``provenance``
  (method, every setting, seed, fingerprint of the data), ``formation`` if it is not 1, ``recipes`` if the sets have
  different ones. Equal builds have equal content.
- ``record``: what may differ in an equal build: seconds, hardware, versions, the place of the data.
- ``sha256``: over the tensors, ``content`` and ``record``. It is verified on load, because safetensors refuses
  truncated files but not flipped bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """One or several small labelled sets, made independently from the same data.

    Attributes:
        images: ``(s, n, c, h, w)`` float32: s sets of n images, normalised by ``mean`` and ``std``.
        labels: classes ``(s, n)`` int64, or probabilities ``(s, n, C)`` float32.
        recipe: how a net trains on the set; of several sets, on the first.
        mean, std: per channel, for pixels in [0, 1].
        class_names: C names.
        provenance, record: JSON objects; see the module's docstring.
        formation: every image holds ``formation``² smaller ones (:func:`~nasproxy.data.multi_formation.decode`), and a
            net trains on :meth:`training_images`.
        recipes: one for each set where they differ, because a method learned them with the images; else empty.
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
        """Independent sets."""
        return self.images.shape[0]

    @property
    def num_images(self) -> int:
        """Images per set."""
        return self.images.shape[1]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, _, c, h, w = self.images.shape
        return c, h, w

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @property
    def method(self) -> str:
        """The name of the method that made it."""
        return str(self.provenance["config"]["method"])

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class in a set. With soft labels they are those asked for, else spread evenly."""
        if self.labels.ndim == 2:
            return tuple(torch.bincount(self.labels[0], minlength=self.num_classes).tolist())
        asked = self.provenance["config"].get("ipc_per_class")
        if asked is not None:
            return tuple(asked)
        each, more = divmod(self.num_images, self.num_classes)
        return tuple(each + (label < more) for label in range(self.num_classes))

    def training_images(self, number: int) -> tuple[Tensor, Tensor]:
        """What a net trains on with set ``number``, from 0: images ``(n · formation², c, h, w)`` and their labels."""
        return decode(self.images[number], self.formation), self.labels[number].repeat_interleave(
            self.formation**2, dim=0
        )

    def recipe_of(self, number: int) -> Recipe:
        """How a net trains on set ``number``, from 0."""
        return self.recipes[number] if self.recipes else self.recipe

    @cached_property
    def content_id(self) -> str:
        """SHA-256 (hex) of the tensors and ``content``: equal for equal builds, whenever and wherever they ran."""
        return _digest(_hash_of(self.images, self.labels), self._content())

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
        """Method, size and data, in one line for people."""
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
    """``counts`` as part of an identity: one number when all are equal, else all of them."""
    return str(counts[0]) if min(counts) == max(counts) else ",".join(map(str, counts))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _hash_of(images: Tensor, labels: Tensor) -> hashlib._Hash:
    """The SHA-256 of the tensors, to go on with :func:`_digest`: the tensors are hashed once for two digests."""
    sha = hashlib.sha256()
    for tensor in (images, labels):
        sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha


def _digest(tensors: hashlib._Hash, body: dict[str, Any]) -> str:
    """SHA-256 (hex) of the hashed ``tensors`` and ``body``."""
    sha = tensors.copy()
    sha.update(_canonical(body).encode())
    return sha.hexdigest()


def save_proxy(proxy: ProxySet, path: Path) -> Path:
    """Writes ``proxy`` to ``path``, atomically; the same set gives the same bytes.

    Args:
        proxy: the set.
        path: the file; its folder is made.

    Returns:
        ``path``.
    """
    from safetensors.torch import save

    content, record = proxy._content(), proxy.record
    images, labels = proxy.images.detach().cpu().contiguous(), proxy.labels.detach().cpu().contiguous()
    body = {"format": FORMAT_VERSION, "content": content, "record": record}
    body["sha256"] = _digest(_hash_of(images, labels), body)
    write_atomically(path, save({"images": images, "labels": labels}, metadata={"nasproxy": _canonical(body)}))
    return path


def load_proxy(path: str | Path) -> ProxySet:
    """Reads a proxy file and verifies its SHA-256.

    Raises:
        NasproxyError: when ``path`` is absent, truncated, changed since it was written, or not a proxy file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
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
    tensors_hash = _hash_of(images, labels)
    actual = _digest(tensors_hash, body)
    if actual != expected:
        raise NasproxyError(
            f"'{path}' was changed after it was written: its SHA-256 should be {str(expected)[:12]}…, but is "
            f"{actual[:12]}…. Copy it again or rebuild it."
        )
    proxy = ProxySet(
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
    vars(proxy)["content_id"] = _digest(tensors_hash, proxy._content())  # as the cached property would
    return proxy


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
    """Checks that ``proxy`` was built from ``dataset``.

    Raises:
        NasproxyError: when shape, classes or fingerprint differ.
    """
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
