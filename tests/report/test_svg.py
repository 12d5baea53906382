import re
import xml.etree.ElementTree as ET

import pytest

from nasproxy.report.svg import (
    HEIGHT,
    WIDTH,
    Dot,
    Line,
    Scale,
    Span,
    dots_svg,
    lines_svg,
    parallel_svg,
    shorter,
    spans_svg,
    tick_text,
)

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
    "both bars": lambda: dots_svg(
        [("a", [Dot(1, 2, "one", 0.5, 0.25, who=3), Dot(4, 2, "two")])], "x", "y", "t", level=0.0
    ),
    "logarithmic": lambda: dots_svg([("a", [Dot(10, 2, "one"), Dot(1e6, 3, "two")])], "x", "y", "t", log=True),
    "not logarithmic": lambda: dots_svg([("a", [Dot(0, 2, "one"), Dot(1e6, 3, "two")])], "x", "y", "t", log=True),
    "lines": lambda: lines_svg(
        [Line([(1, 2.0), (4, 3.0)], "<a>", "q1", 0), Line([(1, 1.0)], "b", "q5")], "x", "y", "t"
    ),
    "no lines": lambda: lines_svg([], "x", "y", "t"),
    "parallel": lambda: parallel_svg(
        [Scale("<width>", [(0, "1"), (1, "64")]), Scale("a name that is far too long", [])],
        [Line([(0, 0.5), (1, 1.0)], "a & b", "q1", 2)],
        "t",
    ),
    "nothing parallel": lambda: parallel_svg([], [], "t"),
    "spans": lambda: spans_svg(
        [("a <b>", [Span(0.5, 0.2, 0.7, "half"), Span(-0.5, None, None, "no", "second")]), ("nothing known", [])],
        "x",
        "t",
    ),
    "no spans": lambda: spans_svg([], "x", "t"),
    "one span at 0": lambda: spans_svg([("a", [Span(0.0, 0.0, 0.0, "")])], "x", "t"),
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


def marks(svg):
    """The marks by what they say."""
    return {mark.find("title").text: mark for mark in ET.fromstring(svg).iter() if mark.find("title") is not None}


def test_bars_go_both_ways_and_belong_to_their_dot():
    svg = DRAWINGS["both bars"]()
    (bars,) = [path.attrib["d"] for path in ET.fromstring(svg).iter("path") if path.attrib.get("class") == "bar"]
    dot = marks(svg)["one"].attrib
    x, low, high = re.match(r"M([\d.]+) ([\d.]+)V([\d.]+)", bars).groups()
    left, y, right = re.search(r"M([\d.]+) ([\d.]+)H([\d.]+)", bars).groups()
    assert x == dot["cx"]
    assert y == dot["cy"]
    assert (float(low) + float(high)) / 2 == pytest.approx(float(dot["cy"]), abs=0.1)
    assert (float(left) + float(right)) / 2 == pytest.approx(float(dot["cx"]), abs=0.1)
    assert bars.count("M") == 2  # the other dot has none


def test_a_mark_knows_its_candidate():
    assert marks(DRAWINGS["both bars"]())["one"].attrib["data-id"] == "3"
    assert "data-id" not in marks(DRAWINGS["both bars"]())["two"].attrib
    assert marks(DRAWINGS["parallel"]())["a & b"].attrib["data-id"] == "2"


def test_a_logarithmic_axis_gives_equal_room_to_equal_ratios():
    dots = [Dot(x, 0, str(x)) for x in (10, 1_000, 100_000)]
    svg = dots_svg([("a", dots)], "x", "y", "t", log=True)
    a, b, c = (float(mark.attrib["cx"]) for mark in marks(svg).values())
    assert b - a == pytest.approx(c - b, abs=0.2)
    assert re.findall(r'class="mid">([^<]*)<', svg)[:5] == ["10", "100", "1000", "10k", "100k"]


def test_parallel_lines_pass_their_axes_where_they_should():
    svg = DRAWINGS["parallel"]()
    (ax, ay), (bx, by) = (map(float, pair.split(",")) for pair in marks(svg)["a & b"].attrib["points"].split())
    axes = [path.attrib["d"] for path in ET.fromstring(svg).iter("path") if path.attrib.get("class") == "axis"]
    first, second = (tuple(map(float, re.findall(r"[\d.]+", d))) for d in axes)  # x, top, bottom
    assert ax == first[0]
    assert ay == pytest.approx((first[1] + first[2]) / 2, abs=0.1)
    assert bx == second[0]
    assert by == second[1]


def test_many_parallel_axes_make_a_wide_figure():
    few, many = (
        float(ET.fromstring(parallel_svg([Scale("a", [])] * n, [], "t")).attrib["viewBox"].split()[2]) for n in (2, 22)
    )
    assert few == WIDTH
    assert many > 2000


def test_spans_stand_on_one_scale_and_the_unknown_is_said():
    svg = DRAWINGS["spans"]()
    assert "unknown" in svg
    half, no = marks(svg)["half"], marks(svg)["no"]
    assert half.tag == "circle"
    assert no.tag == "polygon"
    (span,) = [path.attrib["d"] for path in ET.fromstring(svg).iter("path") if "span" in path.attrib.get("class", "")]
    left, right = (float(end) for end in re.match(r"M([\d.]+) [\d.]+H([\d.]+)", span).groups())
    assert (float(half.attrib["cx"]) - left) / (right - left) == pytest.approx(0.6, abs=0.01)  # .5 between .2 and .7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.5, "−0.5"),
        (9000, "9000"),
        (20_000, "20k"),
        (1.5e6, "1.5M"),
        (2e9, "2G"),
        (3e12, "3T"),
        (-2e4, "−20k"),
        (1e-5, "1e−5"),
        (1e18, "1e18"),
    ],
)
def test_numbers_with_little_room(value, text):
    assert tick_text(value) == text


def test_long_names_are_cut_in_the_middle():
    assert shorter("short", 10) == "short"
    assert shorter("activation_first", 10) == "activ…irst"
    assert len(shorter("x" * 99, 17)) == 17
