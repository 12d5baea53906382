import re
import xml.etree.ElementTree as ET

import pytest

from nasproxy.plots import HEIGHT, WIDTH, Dot, dots_svg

DRAWINGS = {
    "two groups": lambda: dots_svg(
        [("a", [Dot(1, 2, "one"), Dot(3, 4, "two", 0.5)]), ("b", [Dot(2, 9, "<three> & 'four'")])],
        "x $",
        "y <",
        't "q"',
    ),
    "nothing": lambda: dots_svg([("a", []), ("b", [])], "x", "y", "t"),
    "one": lambda: dots_svg([("a", [Dot(0, 0, "one")])], "x", "y", "t"),
    "equal": lambda: dots_svg([("a", [Dot(5, 5, "one"), Dot(5, 5, "two")])], "x", "y", "t"),
    "ranks": lambda: dots_svg([("", [Dot(1, 2, "b"), Dot(2.5, 1, "a")])], "x", "y", "t", ranks=True),
    "small and large": lambda: dots_svg([("a", [Dot(1e-5, 1e12, "one"), Dot(3e-5, -1e12, "two")])], "x", "y", "t"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_xml_inside_their_frame_and_repeat(name):
    text = DRAWINGS[name]()
    assert text == DRAWINGS[name]()
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img"
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= HEIGHT
    assert "nan" not in text


def test_every_dot_says_who_it_is():
    root = ET.fromstring(DRAWINGS["two groups"]())
    assert [title.text for title in root.iter("title")] == ["one", "two", "<three> & 'four'"]
    assert root.attrib["aria-label"] == 't "q"'


def test_more_is_further_right_and_up_and_a_better_rank_too():
    def places(svg):
        return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in ET.fromstring(svg).iter("circle")]

    (x1, y1), (x2, y2) = places(dots_svg([("a", [Dot(1, 1, ""), Dot(2, 3, "")])], "x", "y", "t"))
    assert x1 < x2
    assert y1 > y2
    (x1, y1), (x2, y2) = places(dots_svg([("a", [Dot(1, 1, ""), Dot(2, 3, "")])], "x", "y", "t", ranks=True))
    assert x1 > x2
    assert y1 < y2


def test_a_thousand_dots_stay_small():
    dots = [Dot(i, i * i % 97, f"width={i} depth=3 activation=relu") for i in range(1000)]
    assert len(dots_svg([("a", dots)], "x", "y", "t")) < 150_000


def test_ticks_are_round_and_inside():
    text = dots_svg([("a", [Dot(0, 10, ""), Dot(100, 70, "")])], "x", "y", "t")
    assert re.findall(r'class="mid">([^<]*)<', text)[:6] == ["0", "20", "40", "60", "80", "100"]
    assert re.findall(r'class="end">([^<]*)<', text) == ["20", "40", "60"]


def test_ranks_begin_with_one():
    text = dots_svg([("", [Dot(i + 1, i + 1, "") for i in range(39)])], "x", "y", "t", ranks=True)
    assert re.findall(r'class="end">([^<]*)<', text) == ["1", "10", "20", "30"]
    text = dots_svg([("", [Dot(1, 2, ""), Dot(2, 1, "")])], "x", "y", "t", ranks=True)
    assert re.findall(r'class="end">([^<]*)<', text) == ["1", "2"]
