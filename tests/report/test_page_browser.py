"""The report's page as Chromium shows it: nothing is asked of a network, and what is said to work works.

One browser for the module; every test has a page of its own.
"""

import json
import shutil
from itertools import pairwise

import pytest
from toy import toy_dataset

from nasproxy.report.page import candidates_csv, render_report
from nasproxy.validation.set_page import render_sets
from reports import HOSTILE, downloads, make_report, modern, several_objectives, some_sets

pytestmark = pytest.mark.integration

DESKTOP, PHONE = 1280, 390
WIDTHS = pytest.mark.parametrize("width", [DESKTOP, PHONE])

PAGES = {
    "modern": modern,
    "old": make_report,
    "hostile": lambda: modern(hostile=HOSTILE),
    "twenty parameters": lambda: modern(num_parameters=20),
    "many": lambda: modern(310, top=10),
    "several objectives": several_objectives,
    "proxy sets": lambda: render_sets(some_sets(), toy_dataset(), commands=["nasproxy compare --dataset digits"]),
}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The path of a page by its name in ``PAGES``, rendered once."""
    folder = tmp_path_factory.mktemp("pages")

    def path(name):
        file = folder / f"{name.replace(' ', '_')}.html"
        if not file.exists():
            made = PAGES[name]()
            file.write_text(made if isinstance(made, str) else render_report(made))
        return file

    return path


@pytest.fixture
def visit(browser, files):
    """Opens a page and keeps what it says and asks for; both are checked when the test is over."""
    contexts, said, asked = [], [], []

    def opened(name="modern", width=DESKTOP, **settings):
        context = browser.new_context(viewport={"width": width, "height": 800}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append((message.type, message.text)))
        page.on("pageerror", lambda error: said.append(("error", str(error))))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(files(name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [entry for entry in said if entry[0] in ("error", "warning")] == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == len(contexts)


def column(page, number):
    return page.eval_on_selector_all(
        "#candidates tbody tr",
        f"rows => rows.map(row => row.cells[{number}].dataset.value ?? row.cells[{number}].textContent)",
    )


def dot(page, figure=0, mark=3):
    """The middle of a mark of a figure on the screen, the figure's own element, and the mark's candidate."""
    svg = page.locator("svg.plot").nth(figure)
    svg.scroll_into_view_if_needed()
    return page.evaluate(
        """([figure, mark]) => {
            const circle = document.querySelectorAll("svg.plot")[figure].querySelectorAll("circle")[mark];
            const box = circle.getBoundingClientRect();
            return { x: box.x + box.width / 2, y: box.y + box.height / 2, id: circle.dataset.id };
        }""",
        [figure, mark],
    )


def scatter(page):
    """The number of the first scatter plot among the figures."""
    labels = page.eval_on_selector_all("svg.plot", "all => all.map(svg => svg.getAttribute('aria-label'))")
    return next(number for number, label in enumerate(labels) if "score against full accuracy" in label)


def tip(page):
    return page.locator("#tip").text_content() if page.locator("#tip").is_visible() else None


@WIDTHS
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_asked_said_or_wider_than_the_window(visit, name, width):
    page = visit(name, width)
    page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.eval_on_selector_all(
        "figure, .card, h1, h2, h3, p", f"all => all.filter(e => e.getBoundingClientRect().right > {width}).length"
    )
    assert cut == 0


@WIDTHS
def test_a_press_sorts_and_a_second_one_turns_it_round(visit, width):
    page = visit(width=width)
    report = modern()
    head = page.locator("#candidates th").filter(has_text="params")
    number = page.locator("#candidates th").all_text_contents().index("params")
    assert column(page, number) != sorted(column(page, number), key=float)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, number) == sorted(column(page, number), key=float, reverse=True)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, number) == sorted(column(page, number), key=float)
    assert len(column(page, number)) == len({row.id for row in report.candidates})


def test_the_keyboard_sorts(visit):
    page = visit()
    before = column(page, 1)
    page.locator("#candidates th button").nth(1).focus()
    page.keyboard.press("Enter")
    assert column(page, 1) != before
    assert page.locator("#candidates th").nth(1).get_attribute("aria-sort") == "descending"
    assert "Sorted by depth, descending" in page.locator("#said").text_content()
    page.keyboard.press("Space")
    assert page.locator("#candidates th").nth(1).get_attribute("aria-sort") == "ascending"


def test_unknown_values_stay_below(visit):
    """The third parameter is not active in every other candidate."""
    page = visit()
    for _ in range(2):
        page.locator("#candidates th button").nth(2).click()
        values = column(page, 2)
        assert values == [value for value in values if value] + [value for value in values if not value]
        assert "" in values


def test_the_address_sorts(browser, files):
    page = browser.new_page()
    page.goto(f"{files('modern').as_uri()}#sort=candidates,1")
    assert page.locator("#candidates th").nth(1).get_attribute("aria-sort") == "descending"
    page.close()


@WIDTHS
@pytest.mark.parametrize("name", ["modern", "many"])
def test_the_pointer_names_a_candidate_and_marks_it_everywhere(visit, width, name):
    """With many candidates, too, whose names stand in the table only."""
    page, report = visit(name, width), PAGES[name]()
    place = dot(page, scatter(page))
    page.mouse.move(place["x"], place["y"])
    row = report.candidates[int(place["id"])]
    assert tip(page).startswith(f"{row.label}: score ")
    assert "full accuracy" in tip(page)
    same = page.locator(f'[data-id="{place["id"]}"]')
    on = page.locator(".on")
    assert on.count() == same.count() > 5
    assert set(on.evaluate_all("all => all.map(element => element.dataset.id)")) == {place["id"]}
    assert {"circle", "polyline", "tr"} <= set(on.evaluate_all("all => all.map(element => element.localName)"))
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.mouse.move(2, 2)
    assert tip(page) is None
    assert page.locator(".on").count() == 0


def test_a_row_marks_its_candidate_and_a_click_keeps_it(visit):
    page = visit()
    row = page.locator("#candidates tbody tr").nth(2)
    row.hover()
    number = row.get_attribute("data-id")
    assert page.locator(f'svg .on[data-id="{number}"]').count() > 3
    row.click()
    page.mouse.move(2, 2)
    assert page.locator(".on").count() == 0
    assert page.locator(f'svg .pinned[data-id="{number}"]').count() > 3
    row.click()
    assert page.locator(".pinned").count() == 0


def test_a_finger_names_a_candidate(visit):
    page = visit(width=PHONE, has_touch=True, is_mobile=True)
    place = dot(page, scatter(page))
    page.touchscreen.tap(place["x"] + 6, place["y"])  # fingers are not exact
    assert "full accuracy" in tip(page)
    page.touchscreen.tap(4, 4)
    assert tip(page) is None


def test_arrow_keys_step_through_a_figure_and_say_where(visit):
    page = visit()
    svg = page.locator("svg.plot").nth(scatter(page))
    svg.focus()
    page.keyboard.press("ArrowRight")
    first = tip(page)
    assert page.locator("#said").text_content() == first
    page.keyboard.press("ArrowRight")
    assert tip(page) != first
    page.keyboard.press("ArrowLeft")
    assert tip(page) == first
    page.keyboard.press("End")
    last = tip(page)
    page.keyboard.press("ArrowRight")  # there is none
    assert tip(page) == last != first
    page.keyboard.press("Home")
    assert tip(page) == first
    page.keyboard.press("Enter")
    assert page.locator("tr.pinned").count() > 0
    page.keyboard.press("Escape")
    assert tip(page) is None
    assert page.locator(".pinned, .on").count() == 0
    assert page.evaluate("document.activeElement === document.body")


def test_every_figure_of_marks_can_be_stepped_through(visit):
    page = visit()
    page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    figures = page.locator("svg.plot")
    assert figures.count() >= 10
    for number in range(figures.count()):
        figures.nth(number).focus()
        page.keyboard.press("ArrowRight")
        assert tip(page), figures.nth(number).get_attribute("aria-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_and_can_be_read(visit, scheme):
    """No figure has a white ground in the dark, and words stand out by at least 4.5 to 1."""
    page = visit(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    poor = page.evaluate(
        """() => {
            const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
            const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const share = [0.2126, 0.7152, 0.0722];
            const light = (rgb) => rgb.reduce((sum, c, i) => sum + share[i] * linear(c / 255), 0);
            const ground = (element) => {
                for (; element; element = element.parentElement) {
                    const colour = parse(getComputedStyle(element).backgroundColor);
                    if (colour.length === 3) return colour;
                }
                return [255, 255, 255];
            };
            const found = [];
            for (const element of document.querySelectorAll("main *, header *, footer")) {
                const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
                if (!own || element.closest(".unseen") || element.localName === "title") continue;
                const style = getComputedStyle(element);
                const ink = light(parse(element.localName === "text" ? style.fill : style.color));
                const paper = light(ground(element));
                const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
                if (contrast < 4.5) found.push([element.outerHTML.slice(0, 80), contrast]);
            }
            return found;
        }"""
    )
    assert poor == []
    grounds = page.eval_on_selector_all(
        "figure, .card, .scroll", "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    white = {"rgb(255, 255, 255)"}
    assert (set(grounds) == white) if scheme == "light" else not white & set(grounds)


def test_curves_are_drawn_in_the_page_s_colours(visit):
    """What matplotlib draws black by itself would be lost in the dark."""
    page = visit(color_scheme="dark")
    inks = page.eval_on_selector_all(
        "svg.chart path, svg.chart use, svg.chart text",
        "all => all.map(e => getComputedStyle(e).stroke)",
    )
    words = page.eval_on_selector_all("svg.chart text", "all => all.map(e => getComputedStyle(e).fill)")
    assert len(set(inks)) > 4
    assert "rgb(0, 0, 0)" not in {*inks, *words}


@WIDTHS
def test_paper_shows_everything(visit, width):
    """What is behind a summary is open, and no table or figure is cut at the edge of the paper."""
    page = visit("twenty parameters", width)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    overflow = page.eval_on_selector_all(".scroll, .sideways", "all => all.map(e => getComputedStyle(e).overflowX)")
    assert set(overflow) == {"visible"}
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


@pytest.mark.parametrize("name", ["candidates.csv", "report.json"])
def test_downloads_are_the_data_that_the_page_was_made_of(visit, files, tmp_path, name):
    page = visit()
    with page.expect_download() as started:
        page.locator(f'a[download="{name}"]').click()
    assert started.value.suggested_filename == name
    started.value.save_as(tmp_path / name)
    text = (tmp_path / name).read_text()
    assert text == downloads(files("modern").read_text())[name]
    if name.endswith("csv"):
        assert text == candidates_csv(modern())
    else:
        assert json.loads(text)["title"] == "space on data"


def test_landmarks_and_a_way_past_the_head(visit):
    page = visit()
    for landmark in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1, landmark
    assert page.get_by_role("region").count() >= 6
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#trust"
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(e => Number(e.localName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
