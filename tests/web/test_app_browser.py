"""The page of `app.py` in a real Chromium, at the widths of a desk and of a phone."""

import io
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven with selenium")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

import app  # noqa: E402
from mmprofile import ProfileSchema  # noqa: E402
from tests.malformed_requests import photo  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESK, PHONE = (1280, 900), (390, 844)


class Visitor:
    """Someone at the page, who finds things by what they say."""

    def __init__(self, driver, url: str, pictures: Path):
        self.driver, self.url, self.pictures = driver, url, pictures

    def open(self, width: int, height: int):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(self.url)
        self.wait("#submit")

    def wait(self, css: str, text: str = ""):
        """The element, once it is there and says the text."""

        def find(driver):
            found = [e for e in driver.find_elements(By.CSS_SELECTOR, css) if text in e.text]
            return found[0] if found else None

        waiting = WebDriverWait(self.driver, 60, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(find, f"no {css!r} with {text!r}")

    def click(self, css: str, text: str = ""):
        self.wait(css, text).click()

    def write(self, reviews: str):
        self.wait("#reviews textarea").send_keys(reviews)

    def upload(self, *paths: Path):
        field = self.wait("#photos input[type=file]")
        field.send_keys("\n".join(map(str, paths)))
        self.wait("#photos .gallery-item, #photos .thumbnail-item")

    def picture(self, name: str):
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))

    def place(self, css: str) -> list[int]:
        """Left edge and width in the window."""
        return self.run(f"(r => [r.left, r.width])(document.querySelector('{css}').getBoundingClientRect())")

    def run(self, script: str):
        return self.driver.execute_script(f"return {script}")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_folder(folder, ProfileSchema())
    page = app.build_app(str(folder))
    _, url, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture
def visitor(address, tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'browser'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Visitor(driver, address, tmp_path)
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert any(url.startswith(address) for url in urls)
        assert [url for url in urls if url.startswith(("http", "ws")) and not url.startswith(address)] == []
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.quit()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_typed_reviews_and_an_uploaded_photo_give_a_profile(visitor, tmp_path, size):
    (tmp_path / "our table.jpg").write_bytes(photo(random.Random(0), size=300))
    visitor.open(*size)
    visitor.picture("empty")
    visitor.write("<b onclick=alert(1)>Great</b> pizza ${1 + 1} {{value}}\n\nCold soup")
    visitor.upload(tmp_path / "our table.jpg")
    visitor.click("#submit")
    table = visitor.wait("#results table.answers")
    # The results are in view, beside the form or scrolled to.
    WebDriverWait(visitor.driver, 10).until(
        lambda _: visitor.run("document.querySelector('#results').getBoundingClientRect().top < innerHeight / 2")
    )
    assert [name in table.text for name in ("Stars", "Favorite Category", "Service Preference")] == [True] * 3
    visitor.wait("#results ol.effects")
    assert visitor.wait("#results figure").text.splitlines()[:4] == ["our table.jpg", "attention", "100%", "counted"]
    visitor.wait("#results ol.runners li", "as probable")
    visitor.click("#results summary", "All values")
    visitor.wait("#results .groups", "Health & Medical")
    visitor.picture("profile")
    assert visitor.run("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_an_example_user_is_compared_with_fewer_sources(visitor, size):
    visitor.open(*size)
    visitor.click("button", "Example: Evenings out")
    visitor.wait("#results ol.effects")
    visitor.picture("counted")
    did = visitor.run("[...document.querySelectorAll('#results ol.effects > li')].map(e => e.innerText)")
    assert len(did) == len(app.EXAMPLES[0]["reviews"]) == 8
    assert all("counted" in text and "Without it" in text for text in did)
    assert visitor.run("document.documentElement.scrollWidth") <= size[0]
    assert len(visitor.driver.find_elements(By.CSS_SELECTOR, "#results figure")) == 3
    assert "pepperoni" in visitor.wait("#reviews textarea").get_property("value")
    visitor.click("fieldset label", "photos")
    visitor.click("fieldset label", "both")
    visitor.wait("#results td[data-title='Reviews alone']")
    visitor.picture("compared")
    titles = visitor.run("[...document.querySelectorAll('#results tr:first-child td')].map(e => e.dataset.title)")
    assert visitor.run("[...document.querySelectorAll('#results td')].every(e => e.scrollWidth <= e.clientWidth)")
    assert titles == ["Everything", "Without photos", "Reviews alone"]
    assert visitor.run("document.documentElement.scrollWidth") <= size[0]
    visitor.click("button", "Clear")
    visitor.wait("#results .hint")
    reviews = "document.querySelector('#reviews textarea').value"
    WebDriverWait(visitor.driver, 60).until(lambda _: visitor.run(reviews) == "")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_bad_file_and_an_empty_form_get_a_sentence(visitor, tmp_path, size):
    visitor.open(*size)
    visitor.click("#submit")
    assert visitor.wait("#results .problem").text == app.NOTHING
    visitor.picture("nothing")
    visitor.open(*size)
    (tmp_path / "bad.jpg").write_text("no photo")
    visitor.wait("#photos input[type=file]").send_keys(str(tmp_path / "bad.jpg"))
    said = visitor.wait("#results .problem", "“bad.jpg”").text
    assert said == "The photo “bad.jpg” was not taken: the image of 8 bytes is none of JPEG, PNG, WEBP, GIF, BMP."
    shown = "(r => r.top >= 0 && r.bottom <= innerHeight)(document.querySelector('.problem').getBoundingClientRect())"
    WebDriverWait(visitor.driver, 10).until(lambda _: visitor.run(shown))
    visitor.wait("#photos button[aria-label='Click to upload or drop files']")
    assert visitor.driver.find_elements(By.CSS_SELECTOR, "#photos .gallery-item, #photos .thumbnail-item") == []
    visitor.picture("bad file")


def test_what_is_cleared_stays_so(visitor):
    visitor.open(*DESK)
    visitor.click("button", "Example: Bad garage")
    visitor.wait("#results table.answers")
    visitor.click("button", "Clear")
    visitor.wait("#results .hint")
    time.sleep(3)
    visitor.wait("#results .hint")


def test_beside_a_wrong_file_the_good_ones_stay(visitor, tmp_path):
    (tmp_path / "bad.jpg").write_text("no photo")
    (tmp_path / "good.jpg").write_bytes(photo(random.Random(0), size=300))
    visitor.open(*DESK)
    visitor.upload(tmp_path / "bad.jpg", tmp_path / "good.jpg")
    visitor.wait("#results .problem", "“bad.jpg”")
    tiles = "[...document.querySelectorAll('#photos .gallery-item img, #photos .thumbnail-item img')]"
    WebDriverWait(visitor.driver, 20).until(lambda _: visitor.run(f"{tiles}.map(e => e.naturalWidth)") == [300])


@pytest.mark.parametrize("size", [(1280, 1100), PHONE], ids=["desk", "phone"])
def test_nothing_moves_sideways_when_the_answer_comes(visitor, size):
    visitor.open(*size)
    visitor.wait("#results .hint")
    names = ("#head", "#reviews", "#photos", "#submit", "#results")
    before = [visitor.place(name) for name in names]
    visitor.write("Great pizza")
    visitor.click("#submit")
    visitor.wait("#results table.answers")
    assert [visitor.place(name) for name in names] == before


def test_the_page_tells_its_model_and_its_examples_are_pictures(visitor):
    visitor.open(*DESK)
    assert "The model is " in visitor.wait("#head").text and visitor.wait("#limits").text.startswith(
        "The profile is a"
    )
    widths = "[...document.querySelectorAll('#examples button img')].map(e => e.naturalWidth > 0)"
    WebDriverWait(visitor.driver, 20).until(lambda _: visitor.run(widths) == [True] * len(app.EXAMPLES))


def test_the_upload_box_shows_that_it_has_the_keyboards_focus(visitor):
    def outline() -> int:
        """How many pixels of the box have the colour of focus."""
        png = visitor.wait("#photos").screenshot_as_png
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        return int((np.abs(pixels - (13, 148, 136)).sum(-1) < 30).sum())

    visitor.open(*DESK)
    box = visitor.wait("#photos button[aria-label='Click to upload or drop files']")
    unfocused = outline()
    visitor.wait("#reviews textarea").click()
    for _ in range(5):
        if visitor.driver.switch_to.active_element != box:
            visitor.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert visitor.driver.switch_to.active_element == box
    assert outline() - unfocused > 2 * 3 * box.size["height"] + 3 * box.size["width"]


def test_the_keyboard_reaches_everything(visitor):
    visitor.open(*DESK)
    visitor.wait("#reviews textarea").send_keys("Great pizza" + Keys.SHIFT + Keys.ENTER)
    visitor.wait("#results table.answers")
    visitor.driver.find_element(By.TAG_NAME, "body").click()
    visitor.driver.execute_script("document.activeElement.blur()")
    names = []
    for _ in range(16):
        visitor.driver.switch_to.active_element.send_keys(Keys.TAB)
        focus = visitor.driver.switch_to.active_element
        names.append(focus.get_attribute("aria-label") or focus.text or focus.accessible_name)
    for name in ("Example: Lunch to go", "Click to upload or drop files", "Write the profile", "both", "All values"):
        assert any(name in other for other in names), (name, names)
    outline = visitor.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
