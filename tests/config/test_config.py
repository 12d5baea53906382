from dataclasses import replace

import pytest

from nasproxy.config import (
    METHODS,
    PUBLISHED_LOOPS,
    RECIPES,
    CondenseConfig,
    Recipe,
    SearchConfig,
    ValidateConfig,
    config_hash,
    loops_for_ipc,
)
from nasproxy.core.errors import NasproxyError


@pytest.mark.parametrize(("ipc", "loops"), PUBLISHED_LOOPS.items())
def test_published_loops(ipc, loops):
    assert loops_for_ipc(ipc) == loops
    assert CondenseConfig(ipc=ipc).loops == loops


@pytest.mark.parametrize(("ipc", "loops"), [(2, (2, 6)), (5, (5, 23)), (15, (15, 38)), (35, (35, 18)), (100, (50, 10))])
def test_loops_between_the_published_ones(ipc, loops):
    assert loops_for_ipc(ipc) == loops


def test_own_loops_win():
    assert CondenseConfig(ipc=10, inner_steps=3, net_steps=0).loops == (3, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CondenseConfig(ipc=0), "ipc=0"),
        (lambda: CondenseConfig(outer_steps=0), "outer_steps=0"),
        (lambda: CondenseConfig(lr_img=-1.0), "lr_img=-1"),
        (lambda: CondenseConfig(lr_net=float("nan")), "lr_net=nan"),
        (lambda: CondenseConfig(init="nois"), "'nois'. Did you mean 'noise'"),
        (lambda: CondenseConfig(distance="cosine"), "'cosine'"),
        (lambda: CondenseConfig(recipe="x"), "'x'"),
        (lambda: SearchConfig(trials=0), "trials=0"),
        (lambda: SearchConfig(sampler="tpu"), "'tpu'. Did you mean 'tpe'"),
        (lambda: ValidateConfig(sample=-1), "sample=-1"),
        (lambda: ValidateConfig(images=0), "images=0"),
        (lambda: Recipe(lr=0.0, epochs=1), "lr=0"),
        (lambda: Recipe(lr=0.1, epochs=0), "epochs=0"),
        (lambda: Recipe(lr=0.1, epochs=1, schedule="cosine"), "'cosine'"),
        (lambda: Recipe(lr=0.1, epochs=1, augmentation="flip"), "'flip'"),
        (lambda: Recipe(lr=0.1, epochs=1, optimizer="adam"), "'adam'"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(NasproxyError, match=message.replace("(", r"\(")):
        make()


def test_hash_sees_every_value_and_no_order():
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    base = CondenseConfig()
    for change in ({"ipc": 1}, {"seed": 1}, {"lr_img": 0.2}, {"layer_weights": (1.0, 2.0)}, {"distance": "mse"}):
        assert config_hash(replace(base, **change).as_json()) != config_hash(base.as_json())


@pytest.mark.parametrize(("side", "depth"), [(4, 1), (8, 1), (16, 2), (28, 3), (32, 3), (64, 4), (224, 6)])
def test_depth_follows_the_image(side, depth):
    assert CondenseConfig().resolved((3, side, side + 5), flip=True).depth == depth
    assert CondenseConfig(depth=2).resolved((3, side, side), flip=True).depth == 2


def test_settings_survive_json():
    config = CondenseConfig(ipc=3, layer_weights=(1.0, 0.5))
    values = config.as_json()
    again = CondenseConfig.from_json(values)
    assert again.as_json() == values


def test_defaults_exist():
    assert CondenseConfig.method in METHODS
    assert CondenseConfig.recipe in RECIPES
