import pytest
import torch
from torch import nn

from nasproxy.core.chunks import CPU_BYTES, activation_bytes, class_chunks, even_parts, room
from nasproxy.networks import convnet, seeded


@pytest.mark.parametrize(
    ("total", "limit", "parts"),
    [(10, 10, [10]), (10, 4, [4, 3, 3]), (256, 100, [86, 85, 85]), (3, 1, [1, 1, 1]), (2, 0, [1, 1])],
)
def test_even_parts(total, limit, parts):
    assert even_parts(total, limit) == parts


def spans(chunks):
    return [[(p.label, p.start, p.stop) for p in chunk] for chunk in chunks]


def test_classes_share_a_chunk_while_they_fit():
    assert spans(class_chunks([0, 1, 2], [4, 4, 4], 8)) == [[(0, 0, 4), (1, 0, 4)], [(2, 0, 4)]]


def test_a_class_that_is_too_large_is_cut_evenly():
    assert spans(class_chunks([5, 6, 7], [1, 7, 2], 3)) == [
        [(5, 0, 1)],
        [(6, 0, 3)],
        [(6, 3, 5)],
        [(6, 5, 7)],
        [(7, 0, 2)],
    ]


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
def test_every_image_is_in_one_chunk(limit):
    counts = [3, 9, 1, 4, 4]
    seen = sorted(
        (piece.label, image)
        for chunk in class_chunks(range(5), counts, limit)
        for piece in chunk
        for image in range(piece.start, piece.stop)
    )
    assert seen == [(label, image) for label, count in enumerate(counts) for image in range(count)]


def test_bytes_of_one_image_are_those_that_autograd_keeps():
    net = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False), nn.Sigmoid(), nn.Linear(7, 3, bias=False)), 0
    )
    # Kept: the image, the sigmoid's output (shared by two nodes), the log-probabilities; and two scalars of the loss.
    expected = 4 * (12 + 7 + 3)
    assert expected <= activation_bytes(net, (3, 2, 2)) <= expected + 32


def test_second_order_keeps_more_and_width_scales():
    def bytes_of(width, **options):
        net = seeded(lambda: convnet((3, 16, 16), 10, width=width, depth=2), 0)
        return activation_bytes(net, (3, 16, 16), **options)

    assert bytes_of(16, second_order=True) > 1.5 * bytes_of(16)
    assert 1.8 < bytes_of(64) / bytes_of(32) < 2.2
    assert bytes_of(32) > 4 * 32 * 16 * 16  # at least the first convolution's output


def test_room_on_a_cpu():
    assert room(torch.device("cpu")) == CPU_BYTES
