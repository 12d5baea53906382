"""Class-incremental learning with a memory: what is stored, what is trained on, what is compared."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import toy_dataset

from nasproxy.core.errors import NasproxyError
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages

PATH = Path(__file__).parents[2] / "benchmarks" / "continual.py"


def load():
    """The benchmark is a script and in no package."""
    spec = importlib.util.spec_from_file_location("continual", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module


continual = load()
CPU = torch.device("cpu")
SMALL = continual.Settings(
    dataset="toy", ipc=3, steps=2, seeds=2, methods=("random",), epochs=2, width=4, outer_steps=1
)


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset(num_classes=4)


def six_classes():
    return toy_dataset(num_classes=6, num_per_class=20, shape=(1, 12, 12))


def original(dataset, image):
    """The label that ``dataset`` gives a normalised training image."""
    same = (dataset.normalize(dataset.train.images) - image).abs().amax(dim=(1, 2, 3)) < 1e-6
    (label,) = dataset.train.labels[same].unique().tolist()
    return label


@pytest.mark.parametrize("method", ["random", "gradient_matching"])
def test_a_memory_holds_as_many_images_of_every_old_class_with_the_heads_labels(method, cpu):
    dataset = six_classes()
    settings = replace(SMALL, steps=3, methods=(method,))
    steps = continual.class_steps(dataset, settings, seed=1)
    outcome = continual.learn(steps, method, settings, 1, cpu)
    assert [offset for offset, _ in outcome.memory] == [0, 2]  # the last step is not recalled
    order = continual.class_order(6, 1)
    for offset, proxy in outcome.memory:
        held = continual.remembered(proxy, offset)
        assert held.labels.bincount().tolist() == [0] * offset + [3, 3]
        assert proxy.class_names == tuple(dataset.class_names[c] for c in order[offset : offset + 2])
        if method == "random":
            assert [original(dataset, image) for image in held.images] == [order[c] for c in held.labels.tolist()]


def test_a_restricted_dataset_keeps_the_normalisation_and_its_labels_lead_back(dataset):
    own = continual.restricted(dataset, [3, 1])
    assert (own.mean, own.std) == (dataset.mean, dataset.std)
    assert own.class_names == ("bar 3", "bar 1")
    for split in ("train", "val", "test"):
        part, whole = getattr(own, split), getattr(dataset, split)
        for label, before in enumerate([3, 1]):
            assert torch.equal(part.images[part.labels == label], whole.images[whole.labels == before])
        assert len(part) == ((whole.labels == 3) | (whole.labels == 1)).sum()
    assert own.fingerprint != dataset.fingerprint
    assert own.fingerprint != continual.restricted(dataset, [1, 3]).fingerprint


def test_a_limit_holds_for_training_images_only(dataset):
    own = continual.limited(dataset, 7, seed=0)
    assert own.train.labels.bincount().tolist() == [7] * 4
    assert len(own.test) == len(dataset.test)
    assert (own.mean, own.std) == (dataset.mean, dataset.std)
    again, other = continual.limited(dataset, 7, seed=0), continual.limited(dataset, 7, seed=1)
    assert torch.equal(own.train.images, again.train.images)
    assert not torch.equal(own.train.images, other.train.images)


def test_steps_bring_every_class_once_and_test_on_all_seen(dataset):
    steps = continual.class_steps(dataset, SMALL, seed=3)
    order = continual.class_order(4, 3)
    assert sorted(order) == [0, 1, 2, 3]
    assert [name for step in steps for name in step.new.class_names] == [dataset.class_names[c] for c in order]
    assert [step.test.labels.bincount().tolist() for step in steps] == [[20] * 2, [20] * 4]
    for place, label in enumerate(order):
        expected = dataset.test.images[dataset.test.labels == label]
        assert torch.equal(steps[-1].test.images[steps[-1].test.labels == place], expected)


class Unseen(nn.Module):
    """Says the last of three classes, whatever it is shown."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 1.0, 100.0]))

    def forward(self, images):
        return self.bias.expand(len(images), 3)


def test_unseen_classes_are_never_predicted_nor_trained():
    net = Unseen()
    seen = continual.SeenClasses(net, 2)
    images = torch.zeros(4, 1, 2, 2)
    assert seen(images).shape == (4, 2)
    assert accuracy_and_loss(seen, TrainingImages(images, torch.ones(4, dtype=torch.int64)), CPU)[0] == 1.0
    nn.functional.cross_entropy(seen(images), torch.zeros(4, dtype=torch.int64)).backward()
    assert net.bias.grad[2] == 0
    assert net.bias.grad[0] < 0


def test_replay_shows_old_classes_as_often_as_new_ones():
    new = TrainingImages(torch.zeros(10, 1, 2, 2), torch.tensor([4] * 6 + [5] * 4))
    numbers = torch.arange(6.0).view(6, 1, 1, 1).expand(-1, 1, 2, 2)
    old = [
        TrainingImages(numbers, torch.tensor([0, 0, 0, 1, 1, 1])),
        TrainingImages(torch.ones(9, 1, 2, 2), torch.tensor([2] * 7 + [3] * 2)),
    ]
    mixed = continual.with_replay(new, old, torch.Generator().manual_seed(0))
    assert mixed.labels.bincount().tolist() == [5, 5, 5, 5, 6, 4]
    assert torch.equal(mixed.images[:10], new.images)
    for label in (0, 1):
        own = mixed.images[mixed.labels == label][:, 0, 0, 0].long()
        assert sorted(own.bincount()[3 * label :].tolist()) == [1, 2, 2]  # 5 times 3 images, as evenly as it goes
    assert len(continual.with_replay(new, [], torch.Generator()).labels) == 10


@pytest.fixture(scope="module")
def result(dataset):
    from nasproxy.core.devices import choose_device

    return continual.compare(dataset, SMALL, choose_device("cpu"))


def test_the_same_seeds_give_the_same_table(dataset, result, cpu):
    calls = []
    again = continual.compare(dataset, SMALL, cpu, lambda done, total, note: calls.append((done, total)))
    assert again["accuracy"] == result["accuracy"]
    assert calls == [(number + 1, 12) for number in range(12)]  # 2 seeds × 3 rows × 2 steps
    one = continual.compare(dataset, replace(SMALL, seeds=1), cpu)["accuracy"]
    assert one == {row: runs[:1] for row, runs in result["accuracy"].items()}


def test_rows_are_paired_and_bounds_cost_nothing(result):
    first = {tuple(own[0] for own in runs) for runs in result["accuracy"].values()}
    assert len(first) == 1  # no row has a memory yet
    assert list(result["accuracy"]) == ["random", "no memory", "all data kept"]
    assert result["seconds"]["no memory"] == result["seconds"]["all data kept"] == [0.0, 0.0]
    assert len(result["seconds"]["random"]) == 2


def test_keeping_everything_forgets_less_than_keeping_nothing(dataset, cpu):
    settings = replace(SMALL, epochs=15, width=8)
    steps = continual.class_steps(dataset, settings, seed=0)
    kept, lost = (continual.learn(steps, row, settings, 0, cpu).accuracies for row in ("all data kept", "no memory"))
    assert kept[-1] > 0.9
    assert lost[-1] < 0.7  # half of the test images are of classes that it no longer sees


def test_differences_are_means_of_pairs():
    accuracy = {
        "herding": [[0.9, 0.6, 0.5], [0.9, 0.8, 0.9]],
        "random": [[0.9, 0.5, 0.4], [0.9, 0.6, 0.6]],
    }
    herding, random = continual.summarize(accuracy, {"herding": [1.0, 3.0], "random": [0.0, 0.0]})
    assert herding.steps[1].value == pytest.approx(0.7)
    assert herding.mean.value == pytest.approx((0.55 + 0.85) / 2)  # without the first step
    assert herding.lead_last.value == pytest.approx((0.1 + 0.3) / 2)
    assert herding.lead_mean.value == pytest.approx((0.1 + 0.25) / 2)
    # Two pairs: 12.706 (t of one degree) × 0.2 / √2 (their deviation) / √2.
    assert herding.lead_last.high - herding.lead_last.value == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert herding.seconds == 2.0
    assert random.lead_last is random.lead_mean is None


def test_the_table_and_the_curves_name_every_row():
    accuracy = {"random": [[0.9, 0.5], [0.9, 0.7]], "all data kept": [[0.9, 0.4], [0.9, 0.6]]}
    rows = continual.summarize(accuracy, {row: [0.5, 0.5] for row in accuracy})
    lines = continual.markdown(rows, 2).splitlines()
    assert lines[0].startswith("| memory | 2 classes | 4 classes | mean from step 2 | last − random |")
    assert lines[2].startswith("| random | 90.0 ± 0.0 | 60.0 ± 127.1 |")
    assert lines[3].endswith("| −10.0 ± 0.0 | −10.0 ± 0.0 |  |")
    assert {line.count("|") for line in lines} == {8}
    for some in (rows, continual.summarize({"random": [[0.9, 0.5]]}, {"random": [0.5]})):
        svg = continual.curves(some, 2)
        assert all(row.name in svg for row in some)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 0}, "got ipc=0"),
        ({"seeds": 0}, "got seeds=0"),
        ({"epochs": -1}, "got epochs=-1"),
        ({"images_per_class": 2}, "images_per_class=2 and ipc=3"),
        ({"methods": ("randon",)}, "Unknown method 'randon'. Did you mean 'random'"),
        ({"methods": ()}, "at least one"),
        ({"methods": ("random", "random")}, "once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(NasproxyError) as error:
        replace(SMALL, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_steps_that_do_not_divide_the_classes_are_refused(steps, dataset, cpu):
    with pytest.raises(NasproxyError, match=f"got steps={steps} for 4 classes: use --steps 2."):
        continual.compare(dataset, replace(SMALL, steps=steps), cpu)
    with pytest.raises(NasproxyError, match="take a data set with more"):
        replace(SMALL, steps=steps).classes_per_step(3)


def test_shares_of_classes_are_refused(dataset, cpu):
    settings = replace(SMALL, epochs=1)
    steps = continual.class_steps(dataset, settings, seed=0)
    ((_, proxy),) = continual.learn(steps, "random", settings, 0, cpu).memory
    soft = replace(proxy, labels=nn.functional.one_hot(proxy.labels, 2).float())
    with pytest.raises(NasproxyError, match="one class, but method 'random'"):
        continual.remembered(soft, 0)
