"""The score "proxy": the accuracy of a candidate after training on a proxy set."""

from __future__ import annotations

from dataclasses import replace

from nasproxy.condense.build import recipe_named
from nasproxy.config import Recipe, SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, per_class
from nasproxy.training.images import TrainingImages
from nasproxy.training.tasks import TrainingTask, task_setting, training_task


def smaller_proxy_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe, ipc: int, *, precision: str = "float32"
) -> TrainingTask:
    """The score "proxy" at a lower fidelity: on the first ``ipc`` images of each class.

    Raises:
        NasproxyError: when the proxy set has no more images than that, or learned an order for all of its images.
    """
    if not recipe.shuffle:
        raise NasproxyError(
            f"A rung of fewer images needs a set whose images can be left out, but '{proxy.method}' learned an order "
            "for all of its images: use epochs=N as a rung."
        )
    if ipc >= max(proxy.counts):
        raise NasproxyError(
            f"A rung must have fewer images per class than the proxy's {max(proxy.counts)}, but got ipc={ipc}."
        )
    whole = proxy_task(proxy, dataset, recipe, precision=precision)

    def part(images: TrainingImages) -> TrainingImages:
        labels = images.labels if images.labels.ndim == 1 else images.labels.argmax(1)
        first = sorted(
            index
            for label in range(proxy.num_classes)
            for index in (labels == label).nonzero().flatten()[:ipc].tolist()
        )
        return TrainingImages(images.images[first], images.labels[first])

    return replace(
        whole,
        label=f"{whole.label}, {ipc} of them",
        train=part(whole.train),
        sets=tuple((part(images), own) for images, own in whole.sets),
        setting=task_setting(f"first {ipc} of {images_of(proxy)}", recipe, f"val of {dataset.fingerprint}", precision),
    )


def candidate_recipe(proxy: ProxySet, dataset: Dataset, config: SearchConfig) -> Recipe:
    """How candidates train on ``proxy``: by its own recipe, changed where ``config`` names another or its epochs."""
    recipe = proxy.recipe if config.recipe is None else recipe_named(config.recipe, dataset)
    return recipe if config.epochs is None else replace(recipe, epochs=config.epochs)


def proxy_task(
    proxy: ProxySet,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    precision: str = "float32",
    score: str = "proxy",
) -> TrainingTask:
    """The score "proxy": train on the proxy set, measure on the validation split.

    Of several sets, each seed trains on another one, for the epochs of ``recipe``. It trains by the set's own recipe if
    ``recipe`` is that of the first set.

    Args:
        recipe: how candidates train; None: by the proxy set's recipe.
        precision: "float32", or "bfloat16" for the net's products.
        score: another name, for a second proxy set in one validation.
    """
    recipe = recipe or proxy.recipe
    recipes = [recipe] * proxy.num_sets
    if replace(recipe, epochs=proxy.recipe.epochs) == proxy.recipe:
        recipes = [replace(proxy.recipe_of(number), epochs=recipe.epochs) for number in range(proxy.num_sets)]
    sets = [(TrainingImages(*proxy.training_images(number)), own) for number, own in enumerate(recipes)]
    task = training_task(
        dataset,
        score=score,
        label=f"Proxy set ({proxy.method.replace('_', ' ')}, {per_class(proxy.counts)})",
        train=sets[0][0],
        images=images_of(proxy),
        recipe=recipe,
        precision=precision,
    )
    return replace(
        task,
        made_in=float(proxy.record["seconds"]) / proxy.num_sets,
        sets=tuple(sets) if proxy.num_sets > 1 else (),
    )


def images_of(proxy: ProxySet) -> str:
    """The identity of the images of ``proxy`` in the setting of a training."""
    return proxy.content_id if proxy.num_sets == 1 else f"the sets of {proxy.content_id} by seed"
