import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_dataset

from nasproxy.config import SCHEDULES, Recipe
from nasproxy.core.chunks import activation_bytes, couples_images, room
from nasproxy.networks import convnet, seeded
from nasproxy.training import candidate, loss
from nasproxy.training import checkpoint as checkpoint_module
from nasproxy.training.candidate import train_candidate
from nasproxy.training.fit import OVER_WEIGHTS, Passes, curve_epochs, fit, images_per_pass, learning_rate, num_updates
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")


def data_of(split="train"):
    dataset = toy_dataset()
    images = getattr(dataset, split)
    return TrainingImages(images.images, images.labels, dataset.normalize)


def small_net():
    return convnet((1, 8, 8), 3, width=8, depth=2)


def test_learns_the_toy_data():
    recipe = Recipe(lr=0.05, epochs=10, batch_size=32, schedule="one_cycle", nesterov=True)
    result = train_candidate(small_net, data_of(), data_of("val"), recipe, seed=0, device=CPU)
    assert result.failure is None
    assert result.value > 0.9
    assert result.loss < 0.5
    assert result.seconds > 0


def test_sgd_equals_the_update_rule_by_hand():
    """Full batch, step schedule, weight decay, Nesterov momentum, label smoothing: two updates written out."""
    recipe = Recipe(lr=0.1, epochs=2, batch_size=1000, nesterov=True, schedule="constant", label_smoothing=0.1)
    data = data_of()
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 0)
    weight, bias = (p.detach().double().clone() for p in net.parameters())
    fit(net, data, recipe, seed=0, device=CPU)

    inputs = data.prepare(data.images).flatten(1).double()
    target = torch.nn.functional.one_hot(data.labels, 3).double() * 0.9 + 0.1 / 3
    velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(2):
        error = (torch.softmax(inputs @ weight.T + bias, 1) - target) / len(inputs)
        gradients = [error.T @ inputs + 5e-4 * weight, error.sum(0) + 5e-4 * bias]
        for parameter, velocity, gradient in zip((weight, bias), velocities, gradients, strict=True):
            velocity.mul_(0.9).add_(gradient)
            parameter -= 0.1 * (gradient + 0.9 * velocity)
    torch.testing.assert_close(net[1].weight.double(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net[1].bias.double(), bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rates(schedule):
    learned = {"lrs": (0.1, 0.2, 0.05)} if schedule == "learned" else {}
    recipe = Recipe(lr=0.2, epochs=1, schedule=schedule, **learned)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.2)
    if schedule == "constant":
        assert set(rates) == {0.2}
    elif schedule == "learned":
        assert rates[:4] == [0.1, 0.2, 0.05, 0.1]
    elif schedule == "step":
        assert rates[50] == 0.2
        assert rates[51] == pytest.approx(0.02)
    else:
        assert rates.index(max(rates)) == 29
        assert rates[0] == pytest.approx(0.2 / 30)
        assert 0 < rates[-1] < 0.01
        assert rates[29:] == sorted(rates[29:], reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3, 4])
def test_one_cycle_of_very_short_trainings_is_positive(total):
    recipe = Recipe(lr=0.2, epochs=1, schedule="one_cycle")
    assert all(0 < learning_rate(recipe, step, total) <= 0.2 for step in range(total))


def test_number_of_updates_is_what_happens():
    data, recipe = data_of(), Recipe(lr=0.1, epochs=3, batch_size=50)
    seen = []
    fit(
        seeded(small_net, 0), data, recipe, seed=0, device=CPU, on_update=lambda done, total: seen.append((done, total))
    )
    assert num_updates(recipe, len(data.images)) == 9
    assert seen == [(i + 1, 9) for i in range(9)]


@pytest.mark.parametrize(("n", "batch", "expected"), [(33, 16, [16, 9, 8]), (17, 16, [9, 8]), (34, 16, [16, 16, 2])])
def test_no_batch_has_one_image(n, batch, expected):
    """A net with batch statistics of single values cannot train on one image."""
    seen = []
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), 0)
    net.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    data = data_of()
    own = TrainingImages(data.images[:n], data.labels[:n], data.prepare)
    recipe = Recipe(lr=0.05, epochs=2, batch_size=batch)
    assert math.isfinite(fit(net, own, recipe, seed=0, device=CPU).item())
    assert seen == 2 * expected
    assert num_updates(recipe, n) == len(seen)


def test_same_seed_same_bits_and_other_seed_other_net():
    recipe = Recipe(lr=0.05, epochs=2, batch_size=32, augmentation="flip_shift")
    build = lambda: convnet((1, 8, 8), 3, width=8, depth=1, dropout=0.5)  # noqa: E731
    results = [train_candidate(build, data_of(), data_of("val"), recipe, seed=seed, device=CPU) for seed in (0, 0, 1)]
    assert results[0].loss == results[1].loss
    assert results[0].loss != results[2].loss


def test_sorted_sets_are_shuffled_unless_the_recipe_keeps_the_order():
    dataset = toy_dataset()
    order = dataset.train.labels.argsort(stable=True)
    sorted_data = TrainingImages(dataset.train.images[order], dataset.train.labels[order], dataset.normalize)
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, images):
            seen.append(images.clone())
            return self.head(images.flatten(1))

    for shuffle in (True, False):
        seen.clear()
        fit(seeded(Spy, 0), sorted_data, Recipe(lr=0.1, epochs=1, batch_size=40, shuffle=shuffle), seed=0, device=CPU)
        in_order = torch.equal(torch.cat(seen), dataset.normalize(sorted_data.images))
        assert in_order != shuffle


def test_evaluate_equals_the_mean_over_single_images():
    data, net = data_of("val"), seeded(small_net, 0)
    accuracy, loss = accuracy_and_loss(net, data, CPU)
    losses, hits = [], []
    with torch.no_grad():
        for image, label in zip(data.images, data.labels, strict=True):
            logits = net(data.prepare(image[None]))[0].double()
            losses.append(float(torch.logsumexp(logits, 0) - logits[label]))
            hits.append(int(logits.argmax() == label))
    assert accuracy == pytest.approx(sum(hits) / len(hits))
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_divergence_is_a_failure_with_a_reason():
    recipe = Recipe(lr=1e20, epochs=5, schedule="constant")
    result = train_candidate(small_net, data_of(), data_of("val"), recipe, seed=0, device=CPU)
    assert result.value is None
    assert result.loss is None
    assert "diverged" in result.failure
    assert "nan" in result.failure or "inf" in result.failure


def test_a_net_that_cannot_run_is_a_failure_with_a_reason():
    result = train_candidate(
        lambda: nn.Linear(5, 3), data_of(), data_of("val"), Recipe(lr=0.1, epochs=1), seed=0, device=CPU
    )
    assert result.failure.startswith("RuntimeError: ")
    assert math.isfinite(result.seconds)


def test_a_bug_is_raised():
    def broken():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        train_candidate(broken, data_of(), data_of("val"), Recipe(lr=0.1, epochs=1), seed=0, device=CPU)


def test_soft_labels_train():
    data = data_of()
    soft = TrainingImages(data.images, torch.nn.functional.one_hot(data.labels, 3).float(), data.prepare)
    recipe = Recipe(lr=0.05, epochs=2)
    hard_net, soft_net = seeded(small_net, 0), seeded(small_net, 0)
    fit(hard_net, data, recipe, seed=0, device=CPU)
    fit(soft_net, soft, recipe, seed=0, device=CPU)
    torch.testing.assert_close(soft_net[0].weight, hard_net[0].weight, rtol=1e-4, atol=1e-5)


def nets_of_norms():
    return [("none", "relu"), ("batch", "relu"), ("layer", "sigmoid"), ("instance", "leaky_relu"), ("group", "relu")]


@pytest.mark.parametrize(("norm", "activation"), nets_of_norms())
def test_bfloat16_learns_what_float32_learns(norm, activation):
    """It once kept the first step's weights for all later ones, and every accuracy was chance."""
    dataset = toy_dataset(num_per_class=60)
    own, held_out = (TrainingImages(s.images, s.labels, dataset.normalize) for s in (dataset.train, dataset.val))
    recipe = Recipe(lr=0.05, epochs=12, batch_size=64, schedule="one_cycle", nesterov=True)
    build = partial(convnet, (1, 8, 8), 3, width=8, depth=2, norm=norm, activation=activation)
    fits = [
        train_candidate(build, own, held_out, recipe, seed=0, device=CPU, precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    assert fits[0].value > 0.8
    assert fits[1].value == pytest.approx(fits[0].value, abs=0.1)
    assert fits[1].loss == pytest.approx(fits[0].loss, abs=0.1)
    assert fits[1].loss != fits[0].loss


@pytest.mark.parametrize(("norm", "activation"), nets_of_norms())
def test_batches_in_parts_give_the_gradients_of_whole_ones(norm, activation):
    dataset = toy_dataset()
    data = TrainingImages(dataset.train.images, dataset.train.labels, dataset.normalize)
    recipe = Recipe(lr=0.01, epochs=2, batch_size=50, label_smoothing=0.1)

    def trained(per_pass):
        net = seeded(partial(convnet, (1, 8, 8), 3, width=4, depth=2, norm=norm, activation=activation), 0).double()
        doubles = TrainingImages(data.images, data.labels, lambda batch: dataset.normalize(batch).double())
        fit(net, doubles, recipe, seed=0, device=CPU, passes=Passes(per_pass))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    net = seeded(partial(convnet, (1, 8, 8), 3, width=4, depth=2, norm=norm, activation=activation), 0)
    assert couples_images(net, (1, 8, 8)) == (norm == "batch")
    if norm == "batch":
        assert images_per_pass(net, (1, 8, 8), CPU) is None
        return
    assert images_per_pass(net, (1, 8, 8), CPU) > 1
    whole = trained(None)
    for per_pass in (1, 7, 49):
        assert torch.allclose(trained(per_pass), whole, rtol=1e-10, atol=1e-12)


def test_out_of_memory_starts_again_with_fewer_images(monkeypatch):
    """The answer is that of a training that never ran out."""
    dataset = toy_dataset()
    data = TrainingImages(dataset.train.images, dataset.train.labels, dataset.normalize)
    recipe = Recipe(lr=0.01, epochs=2, batch_size=64)
    build = partial(convnet, (1, 8, 8), 3, width=4, depth=1)
    sizes = []

    def starved(net, *arguments, passes, **named):
        sizes.append(passes.size)
        if passes.size is None or passes.size > 20:
            raise torch.OutOfMemoryError("no room")
        return fit(net, *arguments, passes=passes, **named)

    expected = train_candidate(build, data, data, recipe, seed=0, device=CPU)
    monkeypatch.setattr(candidate, "fit", starved)
    found = train_candidate(build, data, data, recipe, seed=0, device=CPU)
    assert sizes[1:] == [32, 16]
    assert found.value == expected.value
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    batch_norm = partial(convnet, (1, 8, 8), 3, width=4, depth=1, norm="batch")
    assert train_candidate(batch_norm, data, data, recipe, seed=0, device=CPU).failure == "out of memory: no room"


def test_a_net_with_dropout_treats_images_one_by_one():
    net = seeded(partial(convnet, (1, 8, 8), 3, width=4, depth=1, dropout=0.5), 0)
    assert not couples_images(net, (1, 8, 8))


# --------------------------------------------------------------------------------------------------------- checkpoints


def dropout_net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("augmentation", ["flip_shift", "alternate_shift_cutout"])
def test_an_interrupted_training_goes_on_to_the_same_weights(augmentation, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SECONDS", -1.0)
    recipe = Recipe(lr=0.05, epochs=6, batch_size=32, schedule="one_cycle", nesterov=True, augmentation=augmentation)
    checkpoint, seen = tmp_path / "training.pt", []

    def fitted(*, at_most, checkpoint):
        net = seeded(dropout_net, 0)

        def look(done, total):
            seen.append(done)
            if done >= at_most * total:
                raise Killed

        fit(net, data_of(), recipe, seed=3, device=CPU, checkpoint=checkpoint, on_update=look)
        return net.state_dict()

    whole = fitted(at_most=2, checkpoint=None)
    num_updates_done = len(seen)
    seen.clear()
    for share in (0.3, 0.65):
        with pytest.raises(Killed):
            fitted(at_most=share, checkpoint=checkpoint)
    resumed = fitted(at_most=2, checkpoint=checkpoint)
    per_epoch = num_updates_done // 6
    assert seen.count(1) == 1, "it did not begin again"
    assert len(seen) <= num_updates_done + 2 * per_epoch, "each time at most an epoch is lost"
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_seconds_count_what_came_before_and_an_unreadable_checkpoint_is_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SECONDS", -1.0)
    recipe = Recipe(lr=0.05, epochs=3, batch_size=32)
    checkpoint = tmp_path / "training.pt"
    checkpoint.write_bytes(b"half of a check")
    settings = {"seed": 0, "device": CPU, "checkpoint": checkpoint}
    first = train_candidate(small_net, data_of(), data_of("val"), recipe, **settings)
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["epoch"] == 2
    torch.save(kept | {"seconds": 1000.0}, checkpoint)
    second = train_candidate(small_net, data_of(), data_of("val"), recipe, **settings)
    assert first.seconds < 1000 < second.seconds
    assert (first.value, first.loss) == (second.value, second.loss)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SECONDS", -1.0)
    (tmp_path / "file").write_text("")
    found = train_candidate(
        small_net,
        data_of(),
        data_of("val"),
        Recipe(lr=0.05, epochs=3, batch_size=32),
        seed=0,
        device=CPU,
        checkpoint=tmp_path / "file" / "training.pt",
    )
    assert found.failure is None


# -------------------------------------------------------------------------------------------------------------- curves


def test_a_curve_is_measured_at_few_epochs_and_ends_with_the_value():
    assert curve_epochs(1) == frozenset()
    assert curve_epochs(4) == {1, 2, 3}
    assert curve_epochs(200) == {1, 3, 10, 30} | {20, 40, 60, 80, 100, 120, 140, 160, 180}
    # Trainings of 10 and of 40 epochs are both measured after 1, 3 and 10.
    assert curve_epochs(40) & (curve_epochs(10) | {10}) >= {1, 3, 10}
    recipe = Recipe(lr=0.05, epochs=4, batch_size=32)
    arguments = (dropout_net, data_of(), data_of("val"), recipe)
    plain, watched = (train_candidate(*arguments, seed=0, device=CPU, watched=w) for w in (False, True))
    assert plain.curve == ()
    assert [epoch for epoch, _ in watched.curve] == [1, 2, 3, 4]
    assert watched.curve[-1] == (4, watched.value)
    assert (plain.value, plain.loss) == (watched.value, watched.loss), "being watched changes nothing"
    # With a constant rate, what was measured on the way is what a shorter training ends with.
    constant = replace(recipe, schedule="constant")
    long = train_candidate(*arguments[:3], constant, seed=0, device=CPU, watched=True)
    short = train_candidate(*arguments[:3], replace(constant, epochs=2), seed=0, device=CPU)
    assert dict(long.curve)[2] == short.value


@pytest.mark.parametrize(("epochs", "parts"), [(1, 1), (6, 6), (37, 1), (40, 20), (64, 32)])
def test_training_losses_are_means_over_equal_parts(epochs, parts):
    recipe, losses = Recipe(lr=0.05, epochs=epochs, batch_size=25), []
    arguments = (small_net, data_of(), data_of("val"), recipe)
    found = train_candidate(*arguments, seed=0, device=CPU, losses=losses)
    each = [one.item() for one in losses]
    assert len(each) == num_updates(recipe, len(data_of().images))
    expected = [np.mean(part) for part in np.array_split(each, parts)]
    assert found.train_losses == pytest.approx(expected, rel=1e-5)


def test_a_failed_training_has_no_losses():
    arguments = (small_net, data_of(), data_of("val"), Recipe(lr=1e30, epochs=3, batch_size=25))
    found = train_candidate(*arguments, seed=0, device=CPU)
    assert found.failure is not None
    assert found.train_losses == ()


def test_a_curve_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SECONDS", -1.0)
    recipe = Recipe(lr=0.05, epochs=6, batch_size=32)

    def trained(checkpoint, at_most=10**9):
        def look(done, total):
            if done >= at_most:
                raise Killed

        return train_candidate(
            dropout_net,
            data_of(),
            data_of("val"),
            recipe,
            seed=0,
            device=CPU,
            checkpoint=checkpoint,
            watched=True,
            on_update=look,
        )

    whole = trained(None)
    with pytest.raises(Killed):
        trained(tmp_path / "c.pt", at_most=13)
    assert torch.load(tmp_path / "c.pt", weights_only=True)["curve"]
    resumed = trained(tmp_path / "c.pt")
    assert resumed.curve == whole.curve
    assert resumed.train_losses == whole.train_losses
    assert len(whole.train_losses) == 6


def test_losses_that_an_earlier_version_did_not_keep_are_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SECONDS", -1.0)
    checkpoint = tmp_path / "c.pt"
    settings = {"seed": 0, "device": CPU, "checkpoint": checkpoint}
    arguments = (small_net, data_of(), data_of("val"), Recipe(lr=0.05, epochs=4, batch_size=32))
    first = train_candidate(*arguments, **settings)
    old = torch.load(checkpoint, weights_only=True)
    del old["losses"]
    torch.save(old, checkpoint)
    second = train_candidate(*arguments, **settings)
    assert second.value == first.value
    assert second.train_losses == ()
    assert torch.load(checkpoint, weights_only=True)["losses"] is not None


@pytest.mark.parametrize(
    ("vectors", "num_images", "expected"), [("AVX512", 10**9, True), ("AVX512", 10, False), ("AVX2", 10**9, False)]
)
def test_only_long_trainings_on_wide_vectors_are_compiled(vectors, num_images, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(loss.shutil, "which", lambda name: "/a/compiler")
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)), 0)
    assert loss.compiles(net, (1, 8, 8), num_images, torch.device("cpu")) == expected


def test_a_pass_has_many_more_bytes_of_activations_than_of_weights():
    """Parts that fit the cache would be tiny for a net with large weights, which every part reads."""
    heavy = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 999), nn.Linear(999, 999), nn.Linear(999, 3)), 0)
    weights = sum(parameter.nbytes for parameter in heavy.parameters())
    each = activation_bytes(heavy, (1, 8, 8))
    assert room(CPU) // each < images_per_pass(heavy, (1, 8, 8), CPU) == math.ceil(OVER_WEIGHTS * weights / each)
    light = seeded(small_net, 0)
    assert images_per_pass(light, (1, 8, 8), CPU) == room(CPU) // activation_bytes(light, (1, 8, 8))


def test_the_losses_of_a_training_are_given_and_change_nothing():
    """Three epochs of two batches: the first loss is that of the untrained net, the last is what ``fit`` returns."""
    data = data_of()
    batch = math.ceil(len(data.images) / 2)
    recipe = Recipe(lr=0.05, epochs=3, batch_size=batch, shuffle=False)
    plain, watched = (seeded(small_net, 0) for _ in range(2))
    before = seeded(small_net, 0)
    losses = [torch.tensor(-1.0)]
    last = fit(plain, data, recipe, seed=0, device=CPU)
    losses.clear()
    assert torch.equal(last, fit(watched, data, recipe, seed=0, device=CPU, losses=losses))
    assert len(losses) == 6
    assert torch.equal(losses[-1], last)
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    images, labels = data.batch(slice(0, batch), CPU)
    torch.testing.assert_close(losses[0], nn.functional.cross_entropy(before(images), labels))


def test_the_losses_of_a_candidate_are_those_of_one_attempt():
    recipe = Recipe(lr=0.05, epochs=2, batch_size=10_000)
    losses = [torch.tensor(-1.0)]
    found = train_candidate(small_net, data_of(), data_of("val"), recipe, seed=0, device=CPU, losses=losses)
    assert found.failure is None
    assert len(losses) == 2
    assert min(losses) > 0
