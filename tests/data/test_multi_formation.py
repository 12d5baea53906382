import pytest
import torch
from torch.nn import functional

from nasproxy.data.multi_formation import decode, encode


def images_of(n=2, c=2, h=8, w=12):
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def decode_by_loop(images, formation):
    """Tile by tile; every output pixel from the four nearest pixels of its tile, those at the border repeated."""
    _, c, h, w = images.shape
    rows, columns = -(-h // formation), -(-w // formation)
    out = []
    for image in images:
        for i in range(formation):
            for j in range(formation):
                tile = torch.zeros(c, rows, columns, dtype=images.dtype)
                part = image[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
                tile[:, : part.shape[1], : part.shape[2]] = part
                large = torch.zeros(c, h, w, dtype=images.dtype)
                for y in range(h):
                    for x in range(w):
                        at_y = min(max((y + 0.5) * rows / h - 0.5, 0), rows - 1)
                        at_x = min(max((x + 0.5) * columns / w - 0.5, 0), columns - 1)
                        for row in range(rows):
                            for column in range(columns):
                                share = max(0.0, 1 - abs(at_y - row)) * max(0.0, 1 - abs(at_x - column))
                                large[:, y, x] += share * tile[:, row, column]
                out.append(large)
    return torch.stack(out)


@pytest.mark.parametrize("formation", [2, 3])
def test_decode_equals_the_loop(formation):
    images = images_of(h=6, w=7)  # 2 does not divide 7, 3 does not either
    decoded = decode(images, formation)
    assert decoded.shape == (2 * formation**2, 2, 6, 7)
    torch.testing.assert_close(decoded, decode_by_loop(images, formation), rtol=0, atol=1e-12)


def test_formation_of_one_changes_nothing():
    images = images_of()
    assert decode(images, 1) is images
    assert encode(images, 1) is images


@pytest.mark.parametrize(("h", "w"), [(8, 12), (7, 9)])
@pytest.mark.parametrize("formation", [2, 3])
def test_encode_puts_every_image_where_decode_looks(h, w, formation):
    flat = torch.arange(2.0 * formation**2).reshape(-1, 1, 1, 1).expand(-1, 3, h, w)
    stored = encode(flat, formation)
    assert stored.shape == (2, 3, h, w)
    decoded = decode(stored, formation)
    # The upper left pixel; where the side is not divided, the lower right of the last tiles reaches into the padding.
    torch.testing.assert_close(decoded[:, 0, 0, 0], flat[:, 0, 0, 0])


def test_encode_averages():
    images = images_of(4)
    stored = encode(images, 2)
    torch.testing.assert_close(stored[0, :, :4, 6:], functional.avg_pool2d(images[1], 2))


def test_differentiable():
    images = images_of(1, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: decode(x, 2), (images,))
