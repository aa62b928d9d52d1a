"""The report's page in a real browser: Chromium, where it is installed."""

import os
import shutil
from contextlib import contextmanager

import pytest

from fitcore.testing.report import write_report
from fitcore.tests.reports import case, claim, control, pending, report

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

CLAIMS = [
    claim("gradients-add-up", duration_s=0.2, trials=10, tests=[case(nodeid="claims/autograd/test_a.py::test_a")]),
    claim(
        "clipping-bounds",
        statement="Clipping bounds the norm.",
        verdict="refuted",
        finding="It bounds it from above.",
        highlight=True,
        kind="identity",
        duration_s=3.0,
        tests=[case(nodeid="claims/training/test_b.py::test_b")],
    ),
    claim("vacuous", outcome="error", controls=[control(False, reason="it still passes")], origin="derived"),
    claim("taste", verdict="untestable", untestable="a matter of taste", tests=[], controls=[]),
    pending("later", statement="Momentum helps."),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_report(report(*CLAIMS), tmp_path_factory.mktemp("report")).as_uri()


@contextmanager
def opened(browser, url, **settings):
    """A page, whose every request and every word on the console is an error at the end."""
    context = browser.new_context(offline=True, **settings)
    view, requests, words = context.new_page(), [], []
    view.on("request", lambda request: requests.append(request.url))
    view.on("console", lambda message: words.append(message.text))
    view.on("pageerror", lambda error: words.append(str(error)))
    view.goto(url)
    yield view
    context.close()
    assert [request for request in requests if not request.startswith("data:")] == [url.partition("#")[0]]
    assert words == []


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as view:
        yield view


def shown(page):
    """Ids of the claims that can be seen, in their order on the page."""
    return page.evaluate(
        """[...document.querySelectorAll(".claim")].filter((claim) => claim.checkVisibility())
        .map((claim) => (claim.id || claim.querySelector(".body").id).split("/")[1])"""
    )


def test_search_finds_words_of_a_statement_and_its_finding(page):
    page.keyboard.press("/")
    page.keyboard.type("bounds above")
    assert shown(page) == ["clipping-bounds"]
    assert page.locator("output").text_content() == "1 of 5 statements"
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('output').textContent === ''")
    assert len(shown(page)) == 4  # what is pending lies folded


@pytest.mark.parametrize(
    ("field", "value", "ids"),
    [
        ("verdict", "refuted", ["clipping-bounds"]),
        ("outcome", "error", ["vacuous"]),
        ("origin", "derived", ["vacuous"]),
        ("kind", "identity", ["clipping-bounds"]),
        ("topic", "autograd", ["gradients-add-up"]),
        ("control", "not detected", ["vacuous"]),
        ("verdict", "pending", ["later"]),
    ],
)
def test_a_filter_leaves_what_it_names(page, field, value, ids):
    page.locator(f"select[name={field}]").select_option(value)
    assert shown(page) == ids


def test_sorting_puts_the_slowest_first_and_clearing_restores_the_order(page):
    before = shown(page)
    page.locator("select[name=sort]").select_option("duration")
    assert shown(page)[:2] == ["clipping-bounds", "gradients-add-up"]
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelector('select[name=sort]').value === ''")
    assert shown(page) == before


def test_a_count_of_the_abstract_filters(page):
    page.get_by_role("link", name="1 is refuted").click()
    assert shown(page) == ["clipping-bounds"]


@pytest.mark.parametrize("name", ["clipping-bounds", "later"])
def test_a_permalink_opens_its_claim(browser, address, name):
    with opened(browser, f"{address}#notes/{name}") as view:
        assert view.evaluate(f"document.getElementById('notes/{name}').checkVisibility()")


def test_a_claim_opens_by_keyboard(page):
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#notes\\/gradients-add-up").is_visible()


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(browser, address, system):
    with opened(browser, address, color_scheme=system) as view:
        background = "getComputedStyle(document.body).backgroundColor"
        before = view.evaluate(background)
        view.locator("#theme").click()
        after = view.evaluate(background)
    assert [before, after] == ["rgb(253, 252, 249)", "rgb(21, 23, 26)"][:: 1 if system == "light" else -1]


def test_on_paper_there_are_no_controls_and_no_darkness(browser, address):
    with opened(browser, address, color_scheme="dark") as view:
        view.emulate_media(media="print")
        assert not view.locator("#filters").is_visible()
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert view.evaluate("getComputedStyle(document.body).color") == "rgb(29, 31, 33)"


def test_a_narrow_screen_need_not_be_scrolled_sideways(browser, address):
    with opened(browser, address, viewport={"width": 360, "height": 640}) as view:
        assert view.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("system", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(browser, address, system):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    with opened(browser, address, color_scheme=system) as view:
        view.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        found = axe.run(view, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()
