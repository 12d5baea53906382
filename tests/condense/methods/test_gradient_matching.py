from dataclasses import replace

import pytest
import torch
from reference import gradient_matching as reference
from torch.utils._python_dispatch import TorchDispatchMode
from toy import made_by, toy_dataset

from nasproxy.condense import class_matching, loop
from nasproxy.condense.checkpoint import checkpoint_config
from nasproxy.condense.class_matching import match, plan_groups
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import initial_images
from nasproxy.condense.matching_nets import build_net, train_net
from nasproxy.condense.methods import gradient_matching as module
from nasproxy.condense.methods.gradient_matching import gradient_matching, matching_stream
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import derive_seed
from nasproxy.networks import convnet, mlp, seeded
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")


def small(**settings):
    values = {"ipc": 2, "outer_steps": 3, "inner_steps": 3, "net_steps": 2, "width": 4, "depth": 2, "batch_real": 16}
    return CondenseConfig(**(values | settings))


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 3, 3), (2, 1, 4)])
@pytest.mark.parametrize("network", ["convnet", "mlp"])
def test_trajectory_equals_algorithm_1_in_float64(counts, network):
    """Three nets, nine matchings, momentum and net training: images as the float64 loop has them, to float32."""
    dataset = toy_dataset()
    config = small(ipc=counts[0], network=network, ipc_per_class=None if len(set(counts)) == 1 else counts)
    seen = []
    images, labels = made_by(
        dataset, config, BuildRun(CPU, progress=lambda done, total, note: seen.append((done, total, note)))
    )

    options = {"width": 4, "depth": 2} | ({"norm": "instance"} if network == "convnet" else {})
    family = {"convnet": convnet, "mlp": mlp}[network]
    real = RealBatches(dataset, CPU)

    def real_batch(k, t, c):
        drawn = real.draw(16, matching_stream(config, k, t, CPU))[c]
        return (dataset.train.images[drawn].double() / 255 - 0.3) / 0.25

    expected, distances = reference.condense(
        lambda k: seeded(lambda: family((1, 8, 8), 3, **options), derive_seed(0, "net", k)),
        real_batch,
        initial_images(dataset, config),
        counts=counts,
        outer=3,
        inner=3,
        net_epochs=2,
        lr_img=config.image_lr,
        momentum=0.5,
        lr_net=0.01,
    )
    torch.testing.assert_close(images.double(), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(images, initial_images(dataset, config), atol=1e-2)
    assert [s[:2] for s in seen] == [(i + 1, 9) for i in range(9)]
    for (_, _, note), distance in zip(seen, distances, strict=True):
        assert float(note.removeprefix("distance ")) == pytest.approx(distance, abs=2e-3)
    assert labels.tolist() == [c for c in range(3) for _ in range(counts[c])]


def test_learned_images_train_better_than_noise():
    dataset = toy_dataset()
    config = small(ipc=1, outer_steps=30, inner_steps=1, width=8, batch_real=40)
    images, labels = made_by(dataset, config, BuildRun(CPU))
    noise = initial_images(dataset, config)
    val = TrainingImages(dataset.val.images, dataset.val.labels, dataset.normalize)

    def accuracy(data):
        from nasproxy.config import Recipe

        fits = [
            train_candidate(
                lambda: convnet((1, 8, 8), 3, width=8, depth=2),
                TrainingImages(data, labels, lambda batch: batch),
                val,
                Recipe(lr=0.05, epochs=40, schedule="one_cycle"),
                seed=seed,
                device=CPU,
            )
            for seed in range(3)
        ]
        return sum(f.value for f in fits) / 3

    assert accuracy(images) > accuracy(noise) + 0.2


OPTIONS = [
    {"norm": "instance"},
    {"norm": "batch"},
    {"augmentation": "dsa"},
    {"real_choice": "kmeans", "choice_interval": 2},
    {"pool": 2, "pool_epochs": 1, "perturbation": 0.09},
    {"net_data": "real"},
    {"formation": 2},
    {"match_space": "convnet_small"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, monkeypatch, options, stop_after):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    dataset, config, path = toy_dataset(), small(**options), tmp_path / "c.checkpoint"
    whole, _ = made_by(dataset, config, BuildRun(CPU))

    class Killed(BaseException):
        pass

    def kill(done, total, note):
        if done == stop_after + 1:
            raise Killed

    with pytest.raises(Killed):
        gradient_matching(dataset, config, BuildRun(CPU, checkpoint=path, progress=kill))
    first = []
    resumed = gradient_matching(
        dataset, config, BuildRun(CPU, checkpoint=path, progress=lambda done, total, note: first.append(done))
    )
    assert first[0] == stop_after + 1
    assert torch.equal(resumed.images, whole)
    assert resumed.seconds > 0


def test_checkpoints_of_other_settings_or_damaged_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    dataset, config, path = toy_dataset(), small(layer_weights=(1.0, 1.0, 0.5)), tmp_path / "c.checkpoint"
    gradient_matching(dataset, config, BuildRun(CPU, checkpoint=path))
    assert checkpoint_config(path).as_json() == config.as_json()
    with pytest.raises(NasproxyError, match="belongs to other settings"):
        gradient_matching(dataset, replace(config, seed=1), BuildRun(CPU, checkpoint=path))
    with pytest.raises(NasproxyError, match="belongs to other settings"):
        gradient_matching(replace(dataset, fingerprint="0" * 64), config, BuildRun(CPU, checkpoint=path))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NasproxyError, match="cannot be read"):
        gradient_matching(dataset, config, BuildRun(CPU, checkpoint=path))


def test_initial_images():
    dataset = toy_dataset()
    noise = initial_images(dataset, small(ipc=40))
    assert noise.shape == (120, 1, 8, 8)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    real = initial_images(dataset, small(init="real"))
    pool = dataset.normalize(dataset.train.images)
    assert all((pool == image).flatten(1).all(1).any() for image in real)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, -1.0), (1.0,) * 4])
def test_layer_weights_must_fit_the_net(weights):
    with pytest.raises(NasproxyError, match="3 numbers"):
        gradient_matching(toy_dataset(), small(layer_weights=weights), BuildRun(CPU))


def test_layer_weights_are_used():
    dataset = toy_dataset()
    even, _ = made_by(dataset, small(), BuildRun(CPU))
    ones, _ = made_by(dataset, small(layer_weights=(1.0, 1.0, 1.0)), BuildRun(CPU))
    other, _ = made_by(dataset, small(layer_weights=(1.0, 0.0, 3.0)), BuildRun(CPU))
    assert torch.equal(even, ones)
    assert not torch.equal(even, other)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_biases_and_norms_change_what_is_learned(norm):
    dataset = toy_dataset()
    own, _ = made_by(dataset, small(distance="mse_all", norm=norm), BuildRun(CPU))
    other, _ = made_by(dataset, small(distance="mse", norm=norm), BuildRun(CPU))
    assert own.isfinite().all()
    assert not torch.equal(own, other)


def test_a_distance_of_all_parameters_has_no_layer_weights():
    with pytest.raises(NasproxyError, match=r"layer_weights=\[1\.0, 0\.5\]: leave them out, or use 'mse'\."):
        small(distance="mse_all", layer_weights=(1.0, 0.5))


def test_divergence_names_the_step_and_the_way_out():
    with pytest.raises(NasproxyError, match=r"became (nan|inf) at step \d+ of \d+, .*--lr-img \(now 1e\+30\)"):
        gradient_matching(toy_dataset(), small(lr_img=1e30, distance="mse"), BuildRun(CPU))


def test_snapshots_come_ten_times_and_at_the_end():
    seen = []
    gradient_matching(
        toy_dataset(),
        small(outer_steps=25, inner_steps=1, width=4, depth=1, batch_real=4),
        BuildRun(CPU, on_snapshot=lambda outer, images: seen.append((outer, images.shape))),
    )
    assert [outer for outer, _ in seen] == [*range(2, 25, 2), 25]
    assert {shape for _, shape in seen} == {(6, 1, 8, 8)}


def test_threads_are_put_back():
    before = torch.get_num_threads()
    gradient_matching(toy_dataset(), small(threads=before + 1), BuildRun(CPU))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("ipc", [1, 10])
def test_twenty_outer_steps_stay_on_the_published_trajectory(ipc):
    """In float64 everything but the order of sums is equal, so the images agree to rounding after twenty nets."""
    dataset = toy_dataset()
    inner, net_steps = (1, 1) if ipc == 1 else (2, 2)
    config = small(ipc=ipc, outer_steps=20, inner_steps=inner, net_steps=net_steps)
    real = RealBatches(dataset, CPU)

    def real_batch(k, t, c):
        drawn = real.draw(16, matching_stream(config, k, t, CPU))[c]
        return (dataset.train.images[drawn].double() / 255 - 0.3) / 0.25

    expected, _ = reference.condense(
        lambda k: seeded(lambda: convnet((1, 8, 8), 3, width=4, depth=2), derive_seed(0, "net", k)),
        real_batch,
        initial_images(dataset, config),
        counts=(ipc,) * 3,
        outer=20,
        inner=inner,
        net_epochs=net_steps,
        lr_img=0.1,
        momentum=0.5,
        lr_net=0.01,
    )
    images, _ = made_by(dataset, config, BuildRun(CPU))
    torch.testing.assert_close(images.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("limit", [1, 150_000])
def test_chunks_change_the_rounding_and_nothing_else(monkeypatch, limit):
    dataset, config = toy_dataset(), small(ipc=3)
    whole, _ = made_by(dataset, config, BuildRun(CPU))
    for own in (module, class_matching):
        monkeypatch.setattr(own, "room", lambda device: limit)
    net = build_net(config, dataset, 0, CPU)
    groups = plan_groups(net, RealBatches(dataset, CPU), config, CPU)
    assert (len(groups), len(groups[0].chunks)) == ((3, 16) if limit == 1 else (1, 2))
    chunked, _ = made_by(dataset, config, BuildRun(CPU))
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("augmentation", ["flip_shift", "dsa"])
def test_a_matching_reads_nothing_back(augmentation):
    """On a GPU every read-back waits for the device: none may be in a matching or in the training of the net."""

    class NoReadBack(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
            return func(*args, **(kwargs or {}))

    dataset = toy_dataset()
    config = small(augmentation=augmentation, ipc=3, batch_net=4)
    real, net = RealBatches(dataset, CPU), build_net(config, dataset, 0, CPU)
    groups = plan_groups(net, real, config, CPU)
    images, labels = initial_images(dataset, config), torch.arange(3).repeat_interleave(3)
    with NoReadBack():
        match(net, images, groups, real, config, matching_stream(config, 0, 0, CPU))
        train_net(net, images, labels, config, matching_stream(config, 0, 0, CPU), at_once=2)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            images.sum().item()


@pytest.mark.parametrize("augmentation", ["flip_shift", "dsa"])
def test_siamese_augmentation_is_one_for_both_sides_of_a_class(augmentation):
    """With the synthetic images equal to the real ones, the distance stays zero under any siamese augmentation."""
    dataset = toy_dataset(num_per_class=4)
    config = small(ipc=4, batch_real=4, augmentation=augmentation, init="real")
    real, net = RealBatches(dataset, CPU), build_net(config, dataset, 0, CPU)
    groups = plan_groups(net, real, config, CPU)
    images = torch.cat([dataset.normalize(dataset.train.images[dataset.train.labels == c]) for c in range(3)])
    distances, _ = match(net, images, groups, real, config, matching_stream(config, 0, 0, CPU))
    assert distances.abs().max() < 1e-3
    other, _ = match(net, images.flip(2), groups, real, config, matching_stream(config, 0, 0, CPU))
    assert other.min() > 0.1


def test_bfloat16_is_close_and_not_in_the_synthetic_gradient():
    dataset, config = toy_dataset(), small(width=8)
    real, net = RealBatches(dataset, CPU), build_net(config, dataset, 0, CPU)
    groups = plan_groups(net, real, config, CPU)
    images = initial_images(dataset, config)
    exact, _ = match(net, images, groups, real, config, matching_stream(config, 0, 0, CPU))
    coarse, gradient = match(
        net, images, groups, real, replace(config, precision="bfloat16"), matching_stream(config, 0, 0, CPU)
    )
    assert gradient.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=0.05, atol=0.05)


def test_formation_matches_the_enlarged_tiles():
    """Four shrunk real images in one; its gradient is that of the tiles, and the matched loss falls."""
    dataset = toy_dataset()
    config = small(ipc=1, formation=2, init="real", outer_steps=15, inner_steps=1, width=8)
    start = initial_images(dataset, config)
    assert start.shape == (3, 1, 8, 8)
    seen = []
    images, labels = made_by(
        dataset, config, BuildRun(CPU, progress=lambda done, total, note: seen.append(float(note.split()[-1])))
    )
    assert (images.shape, labels.tolist()) == ((3, 1, 8, 8), [0, 1, 2])
    assert sum(seen[-5:]) < sum(seen[:5])
    net = build_net(config, dataset, 0, CPU)
    (group,) = plan_groups(net, RealBatches(dataset, CPU), config, CPU)
    assert group.counts == (4, 4, 4)
    assert group.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert group.rows == slice(0, 3)


def test_representatives_change_every_interval(monkeypatch):
    calls = []
    chosen = torch.arange(48).reshape(3, 16)
    monkeypatch.setattr(module, "representative_images", lambda *args: calls.append(args) or chosen)
    gradient_matching(
        toy_dataset(), small(inner_steps=5, outer_steps=2, real_choice="kmeans", choice_interval=2), BuildRun(CPU)
    )
    assert len(calls) == 6  # before matchings 0, 2 and 4 of each net
