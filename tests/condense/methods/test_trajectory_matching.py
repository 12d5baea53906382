"""Following experts: the gradient against its formula, the experts' files, and what is learned."""

import numpy as np
import pytest
import torch
from counting import Counter
from torch import nn
from torch.nn import functional
from toy import toy_dataset

from nasproxy.condense import experts, loop
from nasproxy.condense.build import build_proxy
from nasproxy.condense.build_plan import budget_config, omissions
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.experts import expert_file, expert_files, flattened, train_expert
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods import trajectory_matching as module
from nasproxy.condense.methods.trajectory_matching import (
    LEAST_STEP_SIZE,
    Way,
    follow,
    trajectory_matching,
)
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import FunctionalNet
from nasproxy.config import RECIPES, Recipe, condense_config
from nasproxy.core.errors import NasproxyError
from nasproxy.data.augment import apply_augmentation
from nasproxy.data.multi_formation import decode
from nasproxy.networks import NETWORKS, seeded
from nasproxy.training.fit import fit
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

CPU = torch.device("cpu")
FAST = {
    "method": "trajectory_matching",
    "ipc": 2,
    "outer_steps": 4,
    "width": 4,
    "depth": 1,
    "num_experts": 2,
    "start_epochs": 1,
    "target_epochs": 1,
    "unroll_steps": 3,
}


def config_of(**settings):
    return condense_config(**(FAST | settings))


def matched(config, **options):
    dataset = toy_dataset()
    config = config.resolved(dataset.input_shape, flip=dataset.flip)
    return trajectory_matching(dataset, config, BuildRun(CPU, **options))


class Killed(BaseException):
    pass


# ------------------------------------------------------------------------------------------------------- the gradient


def tiny_net(seed=0):
    """Linear, tanh, linear on 1×4×4 images, 3 classes, in float64."""

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    return seeded(build, seed, CPU)


@pytest.mark.parametrize("formation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_is_the_derivative_of_training(formation, stride):
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 4, 4, generator=stream, dtype=torch.float64).requires_grad_()
    labels = torch.arange(3).repeat_interleave(2 * formation**2)
    step_size = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    model = FunctionalNet(tiny_net())
    start, target = model.parameters(), FunctionalNet(tiny_net(1)).parameters()
    config = config_of(unroll_steps=4, batch_net=5, augmentation="shift")
    way = Way.draw(config, len(labels), (1, 4, 4), stream)

    def by_hand(images, step_size):
        def logits(weights, some):
            return torch.tanh(some.flatten(1) @ weights[0].T + weights[1]) @ weights[2].T + weights[3]

        weights = [part.clone().requires_grad_() for part in start]
        for batch, augmentation in zip(way.batches, way.augmentations, strict=True):
            seen = apply_augmentation(decode(images, formation)[batch], augmentation)
            value = -logits(weights, seen).log_softmax(1)[torch.arange(len(batch)), labels[batch]].mean()
            moves = torch.autograd.grad(value, weights, create_graph=True)
            weights = [own - step_size * move for own, move in zip(weights, moves, strict=True)]
        left = sum(((a - b) ** 2).sum() for a, b in zip(weights, target, strict=True))
        return left / sum(((a - b) ** 2).sum() for a, b in zip(start, target, strict=True))

    distance, gradients = follow(
        model, start, target, way, images, labels, step_size, formation=formation, stride=stride
    )
    expected = by_hand(images, step_size)
    assert distance.item() == pytest.approx(expected.item(), rel=1e-12)
    naive = torch.autograd.grad(expected, [images, step_size])
    for ours, theirs in zip(gradients, naive, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)
    for place in [(0, 0, 0, 0), (3, 0, 2, 1), (5, 0, 3, 3)]:
        moved = torch.zeros_like(images)
        moved[place] = 1e-5
        slope = (by_hand(images + moved, step_size) - by_hand(images - moved, step_size)) / 2e-5
        assert gradients[0][place].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-10)
    slope = (by_hand(images, step_size + 1e-5) - by_hand(images, step_size - 1e-5)) / 2e-5
    assert gradients[1].item() == pytest.approx(slope.item(), rel=1e-5)


def test_batches_go_through_the_set_again_and_again():
    stream = torch.Generator().manual_seed(0)
    way = Way.draw(config_of(unroll_steps=5, batch_net=4, augmentation="none"), 6, (1, 8, 8), stream)
    assert [len(batch) for batch in way.batches] == [4, 2, 4, 2, 4]
    assert sorted(torch.cat(way.batches[:2]).tolist()) == list(range(6))
    assert way.augmentations == (None,) * 5


# -------------------------------------------------------------------------------------------------------- the experts


def test_an_expert_goes_by_plain_gradient_descent():
    """The toy set is one batch, so that an epoch is one step of it."""
    dataset, config = (
        toy_dataset(),
        config_of(augmentation="none", lr_net=0.05, depth=1).resolved((1, 8, 8), flip=False),
    )
    weights = train_expert(dataset, config, RealBatches(dataset, CPU), 1)
    net = build_net(config, dataset, 1, CPU)
    assert weights.shape == (3, sum(parameter.numel() for parameter in net.parameters()))
    images, labels = dataset.normalize(dataset.train.images), dataset.train.labels
    for row in weights:
        torch.testing.assert_close(row, flattened(net), rtol=1e-4, atol=1e-6)
        functional.cross_entropy(net(images), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.05 * parameter.grad
                parameter.grad = None


def test_epochs_that_no_step_uses_change_nothing():
    short, long = (matched(config_of(expert_epochs=epochs)) for epochs in (2, 50))
    assert torch.equal(short.images, long.images)


def test_every_start_is_drawn(monkeypatch):
    seen = set()
    after = experts.Experts.after

    def spy(self, number, epochs):
        seen.add((number, epochs))
        return after(self, number, epochs)

    monkeypatch.setattr(experts.Experts, "after", spy)
    matched(config_of(outer_steps=40, start_epochs=2, target_epochs=3, unroll_steps=1))
    assert seen == {(number, epoch + more) for number in range(2) for epoch in range(3) for more in (0, 3)}


@pytest.fixture
def trained(monkeypatch):
    """Numbers of the experts as they are trained."""
    numbers = []
    train = experts.train_expert

    def spy(dataset, config, real, number, on_update=None):
        numbers.append(number)
        return train(dataset, config, real, number, on_update)

    monkeypatch.setattr(experts, "train_expert", spy)
    return numbers


def stopping(word, count=1):
    left = [count]

    def stop(done, total, note):
        left[0] -= note.startswith(word)
        if left[0] == 0:
            raise Killed

    return stop


@pytest.mark.parametrize(("word", "count"), [("expert 1", 1), ("expert 2", 1), ("expert 3", 1), ("distance", 3)])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, monkeypatch, trained, word, count):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    config = config_of(num_experts=3)
    whole = matched(config)
    trained.clear()
    path = tmp_path / "c.checkpoint"
    with pytest.raises(Killed):
        matched(config, checkpoint=path, progress=stopping(word, count))
    assert path.exists()
    seen = []
    resumed = matched(config, checkpoint=path, progress=lambda done, total, note: seen.append(done))
    assert torch.equal(resumed.images, whole.images)
    assert resumed.recipe == whole.recipe
    killed = {"expert 1": [0], "expert 2": [1], "expert 3": [2]}.get(word, [])
    assert sorted(trained) == sorted([0, 1, 2, *killed])  # no other was trained twice
    assert expert_files(path) == [expert_file(path, number) for number in range(3)]
    assert resumed.seconds > 0


def test_experts_serve_other_settings_of_the_set(tmp_path, trained):
    path = tmp_path / "c.checkpoint"
    matched(config_of(), checkpoint=path)
    path.unlink()
    trained.clear()
    other = config_of(ipc=1, lr_img=10.0, outer_steps=3, num_experts=3)
    again = matched(other, checkpoint=path)
    assert trained == [2]
    assert torch.equal(again.images, matched(other).images)


def test_a_damaged_expert_is_trained_again(tmp_path, trained):
    path = tmp_path / "c.checkpoint"
    whole = matched(config_of(), checkpoint=path)
    data = expert_file(path, 1).read_bytes()
    for damaged in (data[:100], b"", data[:-4]):
        expert_file(path, 1).write_bytes(damaged)
        path.unlink()
        trained.clear()
        assert torch.equal(matched(config_of(), checkpoint=path).images, whole.images)
        assert trained == [1]


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr_net": 0.02}, {"start_epochs": 2}, {"augmentation": "none"}])
def test_foreign_experts_are_refused(tmp_path, change):
    path = tmp_path / "c.checkpoint"
    matched(config_of(), checkpoint=path)
    with pytest.raises(NasproxyError, match=r"checkpoint '.*c\.checkpoint' belongs to other settings"):
        matched(config_of(**change), checkpoint=path)
    path.unlink()
    with pytest.raises(NasproxyError, match=r"expert '.*c\.expert-0\.checkpoint' belongs to other settings"):
        matched(config_of(**change), checkpoint=path)


def test_an_expert_that_goes_away_is_named(tmp_path):
    path = tmp_path / "c.checkpoint"

    def remove(done, total, note):
        for file in expert_files(path) if note.startswith("distance") else ():
            file.unlink()

    with pytest.raises(NasproxyError, match=r"cannot be read any more .* repeat the command"):
        matched(config_of(), checkpoint=path, progress=remove)
    assert torch.equal(matched(config_of(), checkpoint=path).images, matched(config_of()).images)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experts, "write_atomically", full)
    with pytest.raises(NasproxyError, match=r"No space left on device.*fewer --num-experts"):
        matched(config_of(), checkpoint=tmp_path / "c.checkpoint")


def test_experts_belong_to_their_checkpoint(tmp_path):
    """Brackets in a name are no pattern, and a second set has files of its own."""
    paths = [tmp_path / name for name in ("a[1].checkpoint", "a[1].set1.checkpoint", "a1.checkpoint")]
    for path in paths:
        expert_file(path, 0).touch()
    assert [expert_files(path) for path in paths] == [[expert_file(path, 0)] for path in paths]


# ------------------------------------------------------------------------------------------------------------- the set


def test_progress_counts_experts_in_outer_steps():
    seen = []
    matched(config_of(num_experts=4, start_epochs=5), progress=lambda *mark: seen.append(mark))
    done = [mark[0] for mark in seen]
    assert done == sorted(set(done))
    # 4 experts of 6 epochs of 120 images; an outer step is 3 steps of 6 images, four times as dear.
    assert {total for _, total, _ in seen} == {4 * 6 * 120 // (4 * 3 * 6) + 4}
    assert done[-4:] == [41, 42, 43, 44]
    assert [note.split()[0] for _, _, note in seen] == ["expert"] * (len(seen) - 4) + ["distance"] * 4


def test_the_learned_step_size_is_the_learning_rate(cpu, monkeypatch):
    config = config_of(start_epochs=3, target_epochs=5)
    proxy = build_proxy(toy_dataset(), config, choice=cpu)
    assert proxy.recipe.lr != 0.01
    assert proxy.recipe.lr == pytest.approx(0.01, rel=0.5)
    assert (proxy.recipe.epochs, proxy.recipe.augmentation) == (RECIPES["dsa"].epochs, "dsa_no_flip")
    assert proxy.recipe.lr == matched(config).recipe["lr"]
    monkeypatch.setattr(module, "STEP_SIZE_LR", 1e3)
    assert matched(config_of(outer_steps=1)).recipe["lr"] >= np.float32(LEAST_STEP_SIZE)


def test_nets_with_batch_norm_are_followed():
    made = matched(config_of(norm="batch"))
    assert made.images.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_epochs": 3, "expert_epochs": 3}, r"got 3 \+ 1 > 3: use a larger --expert-epochs"),
        ({"lr_net": 1e38}, "Expert 1 of 2 diverged.*smaller --lr-net"),
        ({"lr_img": 1e38, "momentum_img": 0.0}, "smaller --lr-img"),
        ({"ipc": 41}, "40 training images and ipc=41"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(NasproxyError, match=message):
        matched(config_of(**settings))


@pytest.mark.slow
def test_what_is_learned_from_noise_trains_a_net(cpu):
    dataset = toy_dataset()
    settings = {"init": "noise", "outer_steps": 60, "num_experts": 3, "width": 8, "ipc": 1, "augmentation": "none"}
    more = {"start_epochs": 10, "target_epochs": 5, "unroll_steps": 5, "lr_net": 0.05}
    learned = matched(config_of(**settings, **more))
    start = matched(config_of(**settings, **(more | {"lr_img": 1e-9})))

    def accuracy(made, seed):
        net = seeded(lambda: NETWORKS["convnet"](dataset.input_shape, 3, width=8, depth=1), seed, CPU)
        fit(net, TrainingImages(made.images, made.labels), Recipe(lr=0.05, epochs=60), seed=seed, device=CPU)
        held_out = TrainingImages(dataset.normalize(dataset.test.images), dataset.test.labels)
        return accuracy_and_loss(net, held_out, CPU)[0]

    assert np.mean([accuracy(learned, seed) for seed in range(2)]) > 0.8
    assert np.mean([accuracy(start, seed) for seed in range(2)]) < 0.6


def test_a_budget_makes_no_more_steps_than_the_expert():
    """The toy's 120 images are one batch: two epochs are two updates."""
    config = budget_config("paper", {"method": "trajectory_matching"}, toy_dataset())
    assert (config.unroll_steps, config.num_experts, config.outer_steps) == (2, 100, 5000)
    asked = budget_config("quick", {"method": "trajectory_matching", "unroll_steps": 9}, toy_dataset())
    assert (asked.unroll_steps, asked.num_experts) == (9, 4)
    large = budget_config("paper", {"method": "trajectory_matching"}, toy_dataset(num_per_class=2000))
    assert large.unroll_steps == 30
    assert omissions(large) == ""


@pytest.mark.parametrize("options", [{}, {"formation": 2}])
def test_the_count_of_flops_is_that_of_torch(options, cpu):
    dataset, config = toy_dataset(), config_of(width=16, depth=2, expert_epochs=3, **options)
    with Counter() as counter:
        build_proxy(dataset, config, choice=cpu)
    assert condensing_flops(dataset, config) == pytest.approx(counter.flops, rel=0.2)
