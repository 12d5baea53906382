"""The score "proxy": the accuracy of a candidate after training on a proxy set."""

from __future__ import annotations

from dataclasses import replace

from nasproxy.condense.build import recipe_named
from nasproxy.config import Recipe, SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, per_class
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.tasks import TrainingTask, task_setting


def smaller_proxy_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe, ipc: int, *, precision: str = "float32"
) -> TrainingTask:
    """As the score "proxy", on the first ``ipc`` images of each class: a lower fidelity.

    Raises:
        NasproxyError: unless the proxy has more of them, or when their order forbids to leave any out.
    """
    if not recipe.shuffle:
        raise NasproxyError(
            f"A rung of fewer images needs a set of which any part will do, but '{proxy.method}' learned an order for "
            "all of its images: use epochs=N as a rung."
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
    """How candidates train on ``proxy``: by the recipe it brings, or as ``config`` says."""
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
    """The score "proxy": train on the proxy set by its recipe (or by ``recipe``), measure on the validation split.

    Of several sets each seed trains on another one, by its own recipe if ``recipe`` is that of the first, for as many
    epochs. Another proxy set beside it is another ``score``.
    """
    recipe = recipe or proxy.recipe
    recipes = [recipe] * proxy.num_sets
    if replace(recipe, epochs=proxy.recipe.epochs) == proxy.recipe:
        recipes = [replace(proxy.recipe_of(number), epochs=recipe.epochs) for number in range(proxy.num_sets)]
    sets = [(TrainingImages(*proxy.training_images(number)), own) for number, own in enumerate(recipes)]
    return TrainingTask(
        score=score,
        label=f"Proxy set ({proxy.method.replace('_', ' ')}, {per_class(proxy.counts)})",
        train=sets[0][0],
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(images_of(proxy), recipe, f"val of {dataset.fingerprint}", precision),
        precision=precision,
        made_in=float(proxy.record["seconds"]) / proxy.num_sets,
        sets=tuple(sets) if proxy.num_sets > 1 else (),
    )


def images_of(proxy: ProxySet) -> str:
    """What the images of a training on ``proxy`` are called in its setting."""
    return proxy.content_id if proxy.num_sets == 1 else f"the sets of {proxy.content_id} by seed"
