import re
import xml.etree.ElementTree as ET

from nasproxy.correlation import Estimate
from nasproxy.report.forest import LABEL_LINE, ForestRow, forest_svg


def estimate(value=0.1, low=0.0, high=0.2):
    return Estimate(value, low, high, 9)


def test_it_is_xml_and_an_empty_one_is_too():
    for rows in ([ForestRow("a <b> & 'c' \"d\"", (("proxy", estimate()),))], []):
        root = ET.fromstring(forest_svg(rows, "ρ & x", "Title <t>"))
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"].startswith("Title <t>")


def test_a_row_has_room_for_the_lines_of_its_name():
    long = "Proxy set (distribution matching, 10 per class, 417f2bbd)"  # three lines
    rows = [ForestRow(label, (("proxy", estimate()),)) for label in ("a", long, "b")]
    svg = forest_svg(rows, "ρ", "Title")
    tops = [float(y) for y in re.findall(r'<text class="name" y="([\d.]+)"', svg)]
    assert len(tops) == 3
    assert svg.count("<tspan") == 1 + 3 + 1
    first, second = tops[1] - tops[0], tops[2] - tops[1]
    assert second == first + 2 * LABEL_LINE
    assert "distribution" in svg
    assert "417f2bbd" in svg  # nothing is cut off
