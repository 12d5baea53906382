import pytest
import torch
from toy import uneven_dataset

from nasproxy.condense.real_batches import RealBatches
from nasproxy.core.errors import NasproxyError

CPU = torch.device("cpu")


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_draw_is_of_different_images_of_the_right_class():
    dataset = uneven_dataset()
    real = RealBatches(dataset, CPU)
    drawn = real.draw(10, stream())
    assert drawn.shape == (3, 10)
    for label, count in enumerate((5, 10, 10)):
        assert real.count(label, 10) == count
        own = drawn[label, :count]
        assert len(set(own.tolist())) == count
        assert (dataset.train.labels[own] == label).all()


def test_valid_places_leave_out_what_fills_up_a_short_row():
    dataset = uneven_dataset()
    real = RealBatches(dataset, CPU)
    numbers = real.draw(16, stream()).flatten()[real.valid(16)]
    assert torch.bincount(dataset.train.labels[numbers]).tolist() == [5, 16, 16]
    assert torch.bincount(dataset.train.labels[real.draw(99, stream()).flatten()[real.valid(99)]]).tolist() == [
        5,
        40,
        17,
    ]


def test_every_image_is_equally_likely():
    real = RealBatches(uneven_dataset(), CPU)
    generator = stream()
    seen = torch.zeros(62)
    for _ in range(2000):
        seen += torch.bincount(real.draw(4, generator)[1], minlength=62)
    own = seen[seen > 0]
    assert len(own) == 40
    # 2000 · 4 / 40 = 200 each; binomial standard deviation 13.4, five of them.
    assert (own - 200).abs().max() < 5 * 13.4


def test_same_stream_same_draw_and_the_global_generator_rests():
    real = RealBatches(uneven_dataset(), CPU)
    assert torch.equal(real.draw(4, stream(3)), real.draw(4, stream(3)))
    assert not torch.equal(real.draw(4, stream(3)), real.draw(4, stream(4)))


def test_images_are_normalised_as_the_data_set_does():
    dataset = uneven_dataset()
    numbers = torch.tensor([3, 0, 61])
    torch.testing.assert_close(
        RealBatches(dataset, CPU).take(numbers), dataset.normalize(dataset.train.images[numbers]), rtol=1e-6, atol=1e-6
    )


def test_an_empty_class_is_named():
    with pytest.raises(NasproxyError, match="'bar 1' has none"):
        RealBatches(uneven_dataset((5, 0, 3)), CPU)
