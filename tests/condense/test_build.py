"""The contract of every condenser, over the dict, so that a new method is tested for free."""

import re
import statistics
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from toy import toy_dataset

from nasproxy.condense import loop
from nasproxy.condense.build import build_proxy, recipe_named
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.initial import check_images, draw_per_class
from nasproxy.condense.methods import CONDENSERS, selections
from nasproxy.config import METHODS, RECIPES, CondenseConfig, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.data import load_dataset
from nasproxy.data.proxy_set import load_proxy, save_proxy
from nasproxy.networks import NETWORKS
from nasproxy.scores.baselines import rival_recipe
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import TrainingImages

FAST = {"outer_steps": 2, "inner_steps": 2, "net_steps": 2, "width": 4, "depth": 1, "batch_real": 8}
FAST |= {"unroll_steps": 2, "unroll_epochs": 2}
FAST |= {"num_experts": 2, "expert_epochs": 3, "start_epochs": 1}


LEARNING = [name for name, spec in METHODS.items() if spec.learns]


def config_of(method, **settings):
    return condense_config(**({"method": method, "ipc": 2} | FAST | settings))


def test_every_method_has_its_two_entries_and_reads_known_settings():
    assert list(CONDENSERS) == list(METHODS)
    known = {field.name for field in fields(CondenseConfig)}
    for name, spec in METHODS.items():
        given = {*spec.paper, *spec.quick, *spec.standard}
        assert given <= set(spec.reads) <= known, name
        assert spec.summary, name


@pytest.fixture(params=CONDENSERS)
def method(request):
    return request.param


def test_counts_shapes_and_finiteness(method, cpu):
    dataset = toy_dataset()
    proxy = build_proxy(dataset, config_of(method), choice=cpu)
    assert proxy.images.shape == (1, 6, 1, 8, 8)
    assert torch.isfinite(proxy.images).all()
    if proxy.labels.ndim == 2:
        assert torch.bincount(proxy.labels[0]).tolist() == [2, 2, 2]
        if proxy.recipe.shuffle:
            assert proxy.labels.tolist() == [[0, 0, 1, 1, 2, 2]]
    else:
        assert proxy.labels.shape == (1, 6, 3)
        assert torch.allclose(proxy.labels.sum(2), torch.ones(1, 6))
    assert proxy.counts == (2, 2, 2)
    assert proxy.class_names == dataset.class_names
    assert (proxy.mean, proxy.std) == (dataset.mean, dataset.std)


def test_deterministic_by_seed(method, cpu):
    made = []
    for seed in (3, 3, 4):
        selections._kept.clear()  # a net that is kept repeats nothing
        made.append(build_proxy(toy_dataset(), config_of(method, seed=seed), choice=cpu))
    first, same, other = made
    assert first.content_id == same.content_id
    assert not torch.equal(first.images, other.images)


def test_provenance_is_complete(method, cpu):
    proxy = build_proxy(toy_dataset(), config_of(method), choice=cpu, source={"spec": "toy"})
    assert proxy.provenance["dataset"]["fingerprint"] == toy_dataset().fingerprint
    config = proxy.provenance["config"]
    assert {"method", "ipc", "seed", "recipe"} <= config.keys()
    assert config["method"] == method
    CondenseConfig.from_json(config)  # every recorded value is a setting
    assert proxy.record["seconds"] >= 0
    assert proxy.record["source"] == {"spec": "toy"}
    assert {"hardware", "versions"} <= proxy.record.keys()


def test_one_image_per_class_and_one_channel_more(method, cpu):
    proxy = build_proxy(toy_dataset(shape=(4, 8, 8)), config_of(method, ipc=1), choice=cpu)
    assert proxy.images.shape == (1, 3, 4, 8, 8)


def test_only_the_training_split_is_read(method, cpu):
    dataset = toy_dataset()
    blind = replace(dataset, val=None, test=None)
    assert (
        build_proxy(blind, config_of(method), choice=cpu).content_id
        == build_proxy(dataset, config_of(method), choice=cpu).content_id
    )


def test_the_recipe_mirrors_only_where_classes_allow_it(method, cpu):
    for flip, augmentation in ((False, "shift"), (True, "flip_shift")):
        proxy = build_proxy(replace(toy_dataset(), flip=flip), config_of(method, recipe="one_cycle"), choice=cpu)
        # A method that learns the order of its images also says how they are seen.
        assert proxy.recipe.augmentation == (augmentation if proxy.recipe.shuffle else "none")


@pytest.mark.parametrize("name", LEARNING)
def test_a_build_that_is_killed_and_resumed_is_an_uninterrupted_one(name, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    config, path = config_of(name, outer_steps=4), tmp_path / "c.checkpoint"

    class Killed(BaseException):
        pass

    def kill(done, total, note):
        if done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        build_proxy(toy_dataset(), config, choice=cpu, checkpoint=path, progress=kill)
    assert path.exists()
    seen = []
    resumed = build_proxy(
        toy_dataset(), config, choice=cpu, checkpoint=path, progress=lambda done, total, note: seen.append(done)
    )
    assert seen[0] > 1, "it began anew"
    assert resumed.content_id == build_proxy(toy_dataset(), config, choice=cpu).content_id


def test_it_loads_back_equal(method, cpu, tmp_path):
    proxy = build_proxy(toy_dataset(), config_of(method), choice=cpu)
    again = load_proxy(save_proxy(proxy, tmp_path / "set.safetensors"))
    assert again.content_id == proxy.content_id
    assert torch.equal(again.images, proxy.images)
    assert torch.equal(again.labels, proxy.labels)
    assert (again.recipe, again.recipes, again.record) == (proxy.recipe, proxy.recipes, proxy.record)


def test_classes_may_have_different_numbers_of_images(method, cpu):
    # The methods that cut a set into batches need each batch to have equally many of a class.
    proxy = build_proxy(toy_dataset(), config_of(method, ipc_per_class=(2, 4, 2)), choice=cpu)
    assert proxy.images.shape[1] == 8
    if proxy.labels.ndim == 2:
        assert proxy.counts == (2, 4, 2)
    assert proxy.provenance["config"]["ipc_per_class"] == [2, 4, 2]
    with pytest.raises(NasproxyError, match="each of the 3 classes, but got 2"):
        build_proxy(toy_dataset(), config_of(method, ipc_per_class=(2, 4)), choice=cpu)


def test_several_sets_come_from_one_build(method, cpu):
    one, two = (build_proxy(toy_dataset(), config_of(method, num_sets=n), choice=cpu) for n in (1, 2))
    assert two.num_sets == 2
    assert torch.equal(two.images[0], one.images[0])
    assert not (torch.equal(two.images[0], two.images[1]) and torch.equal(two.labels[0], two.labels[1]))
    assert two.recipe_of(0) == one.recipe


def test_what_the_set_records_of_its_cost_is_counted(method, cpu):
    proxy = build_proxy(toy_dataset(), config_of(method), choice=cpu)
    config = CondenseConfig.from_json(proxy.provenance["config"])
    assert (condensing_flops(toy_dataset(), config) > 0) == (method != "random")


# Loops that are as short as will do, on one channel of 8 × 8 pixels; lr_net of 0.1 where a training has few steps.
SHORT = {
    "gradient_matching": {"outer_steps": 60, "init": "real"},
    "dsa": {"outer_steps": 60},
    "distribution_matching": {"outer_steps": 150},
    "parameter_matching": {"outer_steps": 50, "init": "real"},
    "dataset_distillation": {"outer_steps": 250, "lr_net": 0.1, "lr_img": 0.05},
    "soft_label": {"outer_steps": 250, "lr_net": 0.1, "lr_img": 0.05},
    "generative_teaching": {"outer_steps": 40, "unroll_steps": 16},
    "label_distillation": {"outer_steps": 250, "lr_img": 0.005, "lr_net": 0.1},
    "trajectory_matching": {
        "outer_steps": 80,
        "num_experts": 2,
        "expert_epochs": 8,
        "start_epochs": 4,
        "unroll_steps": 10,
        "lr_img": 100.0,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_learned_images_beat_random_ones_by_more_than_the_spread_over_seeds(name, cpu):
    """One image of each digit: three sets, two fresh nets each, against as many nets on draws of their own."""
    digits = load_dataset("digits")
    settings = {"ipc": 1, "num_sets": 3, "width": 16, "depth": 1, "batch_real": 32} | SHORT[name]
    proxy = build_proxy(digits, condense_config(**({"method": name} | settings)), choice=cpu)
    held_out = TrainingImages(digits.test.images, digits.test.labels, digits.normalize)
    net = partial(NETWORKS["convnet"], digits.input_shape, digits.num_classes, width=16, depth=1)

    def accuracy(images, labels, recipe, seed):
        data = TrainingImages(images, labels)
        return train_candidate(net, data, held_out, recipe, seed=seed, device=cpu.device).value

    def quick(recipe):
        return recipe if recipe.schedule == "learned" or not recipe.shuffle else replace(recipe, epochs=100)

    ours, theirs = [], []
    for number in range(3):
        recipe = quick(proxy.recipe_of(number))
        for seed in range(2):
            ours.append(accuracy(*proxy.training_images(number), recipe, 10 * number + seed))
            drawn = draw_per_class(digits.train, (1,) * 10, 10 * number + seed)
            rival = quick(rival_recipe(recipe, digits))
            theirs.append(accuracy(digits.normalize(drawn.images), drawn.labels, rival, 10 * number + seed))
    over_sets = [(ours[2 * n] + ours[2 * n + 1]) / 2 for n in range(3)]
    gap = sum(ours) / 6 - sum(theirs) / 6
    assert gap > statistics.stdev(over_sets), (over_sets, theirs)
    assert gap > statistics.stdev(theirs) / 6**0.5, (over_sets, theirs)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_changes_in_its_augmentation_only(recipe):
    without = {"none": "none", "flip_shift": "shift", "dsa": "dsa_no_flip"}
    own = RECIPES[recipe]
    assert recipe_named(recipe, replace(toy_dataset(), flip=True)) == own
    expected = replace(own, augmentation=without[own.augmentation])
    assert recipe_named(recipe, replace(toy_dataset(), flip=False)) == expected


def test_matching_mirrors_only_where_classes_allow_it(cpu):
    for flip, augmentation in ((False, "dsa_no_flip"), (True, "dsa")):
        proxy = build_proxy(replace(toy_dataset(), flip=flip), config_of("dsa"), choice=cpu)
        assert proxy.provenance["config"]["augmentation"] == augmentation
        assert proxy.recipe.augmentation == augmentation


@pytest.mark.parametrize("name", [name for name in LEARNING if name != "dsa"])
def test_every_setting_that_a_method_s_file_reads_is_in_its_provenance(name):
    """A setting that is read and not listed would be refused on the command line, and missing from the record."""
    text = Path(sys.modules[CONDENSERS[name].make.__module__].__file__).read_text()
    read = set(re.findall(r"config\.(\w+)", text)) & {field.name for field in fields(CondenseConfig)}
    assert read <= set(METHODS[name].reads)
    assert ("batch_norm_images" in METHODS[name].reads) == ("freeze_" in text or name == "soft_label")


def test_unknown_method_is_named(cpu):
    with pytest.raises(NasproxyError, match=r"'gradient_matchin'\. Did you mean 'gradient_matching'"):
        build_proxy(toy_dataset(), config_of("gradient_matchin"), choice=cpu)


def test_more_real_images_than_a_class_has_are_refused(cpu):
    for config in (config_of("random", ipc=41), config_of("gradient_matching", init="real", ipc=41)):
        with pytest.raises(NasproxyError, match="40 training images and ipc=41"):
            build_proxy(toy_dataset(), config, choice=cpu)


def test_random_images_are_different_images_of_their_class(cpu):
    dataset = toy_dataset()
    proxy = build_proxy(dataset, config_of("random", ipc=10), choice=cpu)
    real = dataset.normalize(dataset.train.images)
    found = [(real == image).flatten(1).all(1).nonzero()[:, 0].tolist() for image in proxy.images[0]]
    assert all(len(match) == 1 for match in found)
    index = [match[0] for match in found]
    assert len(set(index)) == 30
    assert dataset.train.labels[index].tolist() == proxy.labels[0].tolist()


@pytest.mark.parametrize("name", ["gradient_matching", "random"])
def test_several_sets_differ_and_the_first_is_the_single_one(name, cpu, tmp_path):
    seen = []
    one = build_proxy(toy_dataset(), config_of(name), choice=cpu)
    three = build_proxy(
        toy_dataset(),
        config_of(name, num_sets=3),
        choice=cpu,
        checkpoint=tmp_path / "c.checkpoint",
        progress=lambda done, total, note: seen.append((done, total)),
    )
    assert three.images.shape == (3, 6, 1, 8, 8)
    assert torch.equal(three.images[0], one.images[0])
    assert not torch.equal(three.images[1], three.images[2])
    if name == "gradient_matching":
        assert seen == [(done, 12) for done in range(1, 13)]
        assert {path.name for path in tmp_path.iterdir()} == {"c.checkpoint", "c.set1.checkpoint", "c.set2.checkpoint"}


def test_finished_sets_are_not_built_again(cpu, tmp_path):
    config = config_of("gradient_matching", num_sets=2)
    path = tmp_path / "c.checkpoint"

    class Killed(BaseException):
        pass

    def kill(done, total, note):
        if done == 6:
            raise Killed

    with pytest.raises(Killed):
        build_proxy(toy_dataset(), config, choice=cpu, checkpoint=path, progress=kill)
    seen = []
    resumed = build_proxy(
        toy_dataset(), config, choice=cpu, checkpoint=path, progress=lambda done, total, note: seen.append(done)
    )
    assert seen == [5, 6, 7, 8]
    assert resumed.content_id == build_proxy(toy_dataset(), config, choice=cpu).content_id


def test_a_match_space_is_in_the_provenance_by_content(cpu, tmp_path):
    text = "name: tiny\nnetwork: convnet\nparameters:\n  width: [4, 8]\n  depth: [1]\n"
    proxies = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        space = tmp_path / folder / "space.yaml"
        space.write_text(text)
        proxies.append(build_proxy(toy_dataset(), config_of("gradient_matching", match_space=str(space)), choice=cpu))
    assert proxies[0].content_id == proxies[1].content_id
    assert proxies[0].provenance["config"]["match_space"] == "tiny"
    assert proxies[0].record["match_space"].endswith("space.yaml")


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if "match_space" in spec.reads])
def test_an_edit_of_the_match_space_during_a_build_changes_nothing(method, cpu, tmp_path):
    """The file is read once for all nets, all sets and the provenance."""
    path = tmp_path / "own.yaml"
    text = "name: own\nnetwork: convnet\nparameters:\n  width: [2]\n  depth: [1]\n"
    config = config_of(method, match_space=str(path), outer_steps=3, num_sets=2)

    def edit(done, total, note):
        path.write_text(text.replace("[2]", "[5]"))

    built = []
    for progress in (None, edit):
        path.write_text(text)
        built.append(build_proxy(toy_dataset(), config, choice=cpu, progress=progress))
    assert "[5]" in path.read_text()
    assert torch.equal(built[0].images, built[1].images)
    assert built[0].provenance == built[1].provenance


@pytest.mark.parametrize("edges", ["[none]", "[none, nor_conv_3x3]"])
@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if "match_space" in spec.reads])
def test_nets_with_weights_that_nothing_depends_on_can_be_matched(method, edges, cpu, tmp_path):
    """Where ``none`` cuts them off, convolutions run for nothing; with ``none`` alone no output depends on images."""
    path = tmp_path / "own.yaml"
    lines = [f"  edge_{edge}: {edges}" for edge in ("01", "02", "12", "03", "13", "23")]
    lines[1] = "  edge_02: [nor_conv_3x3]"
    lines[5] = "  edge_23: [none]"
    path.write_text(
        "\n".join(["name: own", "network: nasbench201", "parameters:", *lines, "  cells: 1", "  channels: 4"])
    )
    built = build_proxy(toy_dataset(), config_of(method, match_space=str(path)), choice=cpu)
    assert torch.isfinite(built.images).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_class_with_too_few_images_is_refused_before_anything_is_planned(method):
    """Where real images are chosen, or learned images begin as real ones."""
    config = condense_config(method=method, ipc=41, **({"init": "real"} if "init" in METHODS[method].reads else {}))
    if method == "generative_teaching":  # which begins with noise
        check_images(toy_dataset(), config)
    else:
        with pytest.raises(NasproxyError, match="class 0 has 40 training images and ipc=41"):
            check_images(toy_dataset(), config)


def test_a_build_is_not_resumed_with_another_match_space(cpu, tmp_path):
    path, checkpoint = tmp_path / "own.yaml", tmp_path / "build.checkpoint"
    text = "name: own\nnetwork: convnet\nparameters:\n  width: [2]\n  depth: [1]\n"
    path.write_text(text)
    config = config_of("gradient_matching", match_space=str(path))
    whole = build_proxy(toy_dataset(), config, choice=cpu, checkpoint=checkpoint)
    path.write_text(text + "# a comment changes no net\n")
    assert torch.equal(build_proxy(toy_dataset(), config, choice=cpu, checkpoint=checkpoint).images, whole.images)
    path.write_text(text.replace("[2]", "[5]"))
    with pytest.raises(NasproxyError, match="another match space"):
        build_proxy(toy_dataset(), config, choice=cpu, checkpoint=checkpoint)


def test_siamese_matching_needs_an_augmentation(cpu):
    with pytest.raises(NasproxyError, match="needs an augmentation"):
        build_proxy(toy_dataset(), config_of("dsa", augmentation="none"), choice=cpu)
