import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from nasproxy.report.matplotlib_svg import curves_svg, history_svg
from nasproxy.report.png import class_strips, image_grid_png

DRAWINGS = {
    "curves": lambda: curves_svg(
        [("a $x$", [1, 2], [3, 4]), ("b", [1, 2], [0, 1]), ("", [1, 2], [5, 6])], "k", "regret", name="c"
    ),
    "bands": lambda: curves_svg(
        [("a", [1, 2], [3, 4])], "k", "regret", name="d", bands={"a": ([2, 3], [4, 5])}, title="<t> & 'u'"
    ),
    "history": lambda: history_svg([(1, 0.2), (2, 0.5), (4, 0.3)], "accuracy, %"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_xml_and_repeat_byte_by_byte(name):
    first, second = DRAWINGS[name](), DRAWINGS[name]()
    assert first == second
    root = ET.fromstring(first)
    assert root.tag.endswith("svg")
    assert "<script" not in first
    assert "<style" not in first  # it would hold for the whole page
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_colour_is_one_of_the_page_s(name):
    without = re.sub(r"var\(--[a-z]+, #[0-9A-F]{6}\)", "", DRAWINGS[name]())
    assert not re.search(r"#[0-9a-fA-F]{6}\b", without)
    assert "DejaVu" not in without


def test_two_figures_share_no_ids():
    def ids(name):
        return set(re.findall(r'id="([^"]*)"', curves_svg([("a", [1, 2], [3, 4])], "k", "y", name=name)))

    assert ids("one")
    assert not ids("one") & ids("two")
    svg = curves_svg([("a", [1, 2], [3, 4])], "k", "y", name="one")
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', svg)) <= ids("one")


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_grid_has_one_row_per_class_and_shows_the_pixels():
    pixels = np.zeros((4, 3, 2, 2), dtype=np.uint8)
    pixels[2] = 200
    pixels[:, 0] += 50
    grid = picture(image_grid_png(pixels, np.array([0, 0, 1, 1]), 2))
    factor = 8
    gap = factor // 2
    assert grid.shape == (2 * 2 * factor + gap, 2 * 2 * factor + gap, 3)
    assert grid[0, 0].tolist() == [50, 0, 0]
    assert grid[2 * factor + gap, 0].tolist() == [250, 200, 200]
    assert grid[2 * factor, 0].tolist() == [255, 255, 255]


def test_many_classes_of_few_images_stand_side_by_side():
    pixels = np.zeros((10, 3, 4, 4), dtype=np.uint8)
    grid = picture(image_grid_png(pixels, np.arange(10), 10))
    assert grid.shape[1] > 9 * grid.shape[0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_any_number_of_channels_and_uneven_classes(channels):
    pixels = np.full((5, channels, 4, 6), 7, dtype=np.uint8)
    grid = picture(image_grid_png(pixels, np.array([0, 0, 0, 2, 2]), 3))
    assert grid[0, 0].tolist() == [7, 7, 7]


def test_strips_are_limited():
    pixels = np.zeros((200, 1, 4, 4), dtype=np.uint8)
    labels = np.arange(200) % 40
    strips = class_strips(pixels, labels, [f"c{i}" for i in range(40)], max_classes=5, max_images=3)
    assert [name for name, _ in strips] == ["c0", "c1", "c2", "c3", "c4"]
    assert picture(strips[0][1]).shape == (4, 3 * 4 + 2, 3)  # one pixel a pixel, and one between
