"""The page in a real browser: what a person can do with it, and that it asks nobody for anything."""

import base64
import csv
import gzip
import io
import json
import re
import shutil

import pytest
from test_report import HOSTILE, make_report, modern

from nasproxy.page import candidates_csv, render_report

WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, driven by Playwright, which must not bring its own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class Visit:
    """A page that was opened, with everything it asked for and complained of."""

    def __init__(self, browser, path, **options):
        self.asked, self.complaints = [], []
        self.page = browser.new_page(**options)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    def close(self):
        self.page.close()
        assert not self.complaints
        outside = [url for url in self.asked if not url.startswith(("file:", "data:"))]
        assert not outside


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    reports = {"modern": modern(), "old": make_report(), "hostile": make_report(hostile=HOSTILE)}
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(render_report(report), encoding="utf-8")
    return folder, reports


@pytest.fixture(params=WIDTHS)
def visit(request, browser, pages):
    width = WIDTHS[request.param]
    found = Visit(browser, pages[0] / "modern.html", viewport={"width": width, "height": 900}, has_touch=width < 500)
    yield found
    found.close()


@pytest.mark.parametrize("width", WIDTHS.values())
@pytest.mark.parametrize("name", ["modern", "old", "hostile"])
def test_it_opens_alone_without_complaint_and_fits_the_window(browser, pages, name, width):
    visit = Visit(browser, pages[0] / f"{name}.html", viewport={"width": width, "height": 900})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close()
    assert len([url for url in visit.asked if url.startswith("file:")]) == 1


def column(page, place):
    cells = page.locator(f"#candidates tbody tr td:nth-child({place + 1})")
    return cells.evaluate_all("cells => cells.map((cell) => cell.dataset.value ?? cell.textContent)")


def test_a_table_sorts_by_click_and_by_keyboard(visit):
    page = visit.page
    heads = page.locator("#candidates thead th")
    place = heads.all_inner_texts().index("full accuracy")
    before = [float(value) for value in column(page, place)]
    assert before == sorted(before, reverse=True), "the best first"
    heads.nth(place).locator("button").click()
    first = heads.nth(place).get_attribute("aria-sort")
    values = [float(value) for value in column(page, place)]
    assert values == sorted(values, reverse=first == "descending")
    heads.nth(place).locator("button").press("Enter")
    second = heads.nth(place).get_attribute("aria-sort")
    assert {first, second} == {"ascending", "descending"}
    values = [float(value) for value in column(page, place)]
    assert values == sorted(values, reverse=second == "descending")
    assert "Sorted by full accuracy" in page.locator("#said").inner_text()


def test_a_mark_names_its_candidate_and_is_marked_everywhere(visit):
    page = visit.page
    plot = page.locator("svg.plot").first
    plot.scroll_into_view_if_needed()
    circle = plot.locator("circle[data-id]").first
    who = circle.get_attribute("data-id")
    box = circle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    assert tip.is_visible()
    marked = page.locator(".on").evaluate_all("all => all.map((one) => one.dataset.id)")
    assert len(set(marked)) == 1
    assert len(marked) > 1, "in other figures, and in the table"
    assert page.locator("tr.on").count() >= 1
    name = re.match(r"([^:]*): ", tip.inner_text()).group(1)
    assert "=" in name
    page.mouse.move(2, 2)
    assert not tip.is_visible()
    assert who is not None


def test_arrow_keys_step_through_a_figure(visit):
    page = visit.page
    plot = page.locator("svg.plot").first
    plot.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End"):
        page.keyboard.press(key)
        said.append(page.locator("#said").inner_text())
    assert said[0] == said[2] != said[1]
    assert said[3] not in said[:3]
    page.keyboard.press("Enter")
    assert page.locator(".pinned").count() > 1
    page.keyboard.press("Escape")
    assert page.locator(".pinned").count() == 0


def test_every_figure_has_words_and_every_control_a_name(visit):
    page = visit.page
    words = page.locator("svg").evaluate_all("all => all.map((one) => one.getAttribute('aria-label') ?? '')")
    assert words
    assert all(len(text) > 10 for text in words)
    pictures = page.locator("img").evaluate_all("all => all.map((one) => one.alt)")
    assert all(pictures)
    names = page.locator("button, summary, a").evaluate_all("all => all.map((one) => one.textContent.trim())")
    assert all(names)


def test_in_the_dark_nothing_is_white(browser, pages):
    visit = Visit(browser, pages[0] / "modern.html", viewport={"width": 1280, "height": 900}, color_scheme="dark")
    colours = visit.page.locator("body, main, figure, svg, .card, details, .scroll").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    opaque = [tuple(map(int, re.findall(r"\d+", c)[:3])) for c in colours if not c.endswith(", 0)")]
    assert opaque
    assert all(max(rgb) < 80 for rgb in opaque)
    visit.close()


def test_downloads_hold_the_data(browser, pages):
    report = pages[1]["modern"]
    visit = Visit(browser, pages[0] / "modern.html", viewport={"width": 1280, "height": 900})
    links = visit.page.locator("a[download]").evaluate_all("all => all.map((one) => [one.download, one.href])")
    found = {}
    for name, address in links:
        data = base64.b64decode(address.split(",", 1)[1])
        found[name.removesuffix(".gz")] = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    assert found["candidates.csv"] == candidates_csv(report)
    rows = list(csv.DictReader(io.StringIO(found["candidates.csv"])))
    assert len(rows) == len(report.candidates)
    assert len(json.loads(found["report.json"])["candidates"]) == len(report.candidates)
    visit.close()
