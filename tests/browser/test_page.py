"""The page in Debian's chromium, with a file as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pysubs2
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from tests.e2e.runs import write_golden_model
from tests.e2e.test_serve import CARD, KEY, Server, alone
from tests.servers import talk
from tests.unit.test_pipeline_inference import RATE
from tests.unit.test_pipeline_live import speech
from wavellama import ASRInferencePipeline

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

NEEDED: Final = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""Programs, and the packages of Debian that have them."""

MISSING: Final = [package for program, package in NEEDED.items() if shutil.which(program) is None]
MISSING.extend([] if find_spec("selenium") else ["selenium"])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"not installed, so that no browser was tried: {', '.join(MISSING)}"
    ),
]

WAIT_SECS: Final = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_golden_model(folder, CARD)
    (folder / "talk.wav").write_bytes(talk())
    (folder / "bad.wav").write_bytes(b"no audio")
    samples = resample(speech()[: 12 * RATE], RATE, 48_000)
    soundfile.write(folder / "mic.wav", samples.numpy(), 48_000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    yield server
    assert server.end()[::2] == (0, "")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> ASRInferencePipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRSEQ2_USER_ASSET_DIR", str(folder))
        patch.setattr("fairseq2.runtime.dependency._resolver", None)
        return ASRInferencePipeline(CARD, device="cpu", dtype=torch.float32)


class Page:
    """The page in a browser."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def get(self, name: str) -> WebElement:
        return self.browser.find_element("id", name)

    def run(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.browser, WAIT_SECS).until(lambda _: condition())

    def words(self) -> list[WebElement]:
        return self.browser.find_elements("css selector", ".word")

    def transcribe(self, file: Path) -> None:
        self.get("file").send_keys(str(file))
        self.wait(self.get("start").is_enabled)
        self.get("start").click()
        self.wait(lambda: self.get("status").text == "Done." or self.get("error").text)

    def complaints(self) -> list[str]:
        """Return what the browser itself has complained about."""
        entries: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chrome]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900"),
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={folder / 'profile'}"),
        f"--use-file-for-fake-audio-capture={folder / 'mic.wav'}%noloop",
    ):
        options.add_argument(argument)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder), "download.prompt_for_download": False}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser: Chrome, server: Server) -> Page:
    browser.get(f"http://me:{KEY}@127.0.0.1:{server.port}/")
    browser.get(f"{server.url}/")
    page = Page(browser)
    page.complaints()
    page.wait(lambda: page.get("languages").is_displayed())
    return page


def test_a_file_becomes_words_that_can_be_heard_corrected_and_saved(
    page: Page, pipeline: ASRInferencePipeline, folder: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    page.transcribe(folder / "talk.wav")
    expected = alone(pipeline, talk(), word_timestamps=True)
    words = [word for segment in expected.segments for word in segment.words]
    assert page.get("error").text == ""
    assert [word.text for word in page.words()] == [word.text for word in words]
    assert " ".join(page.get("text").text.split()) == " ".join(expected.text.split())
    page.words()[-1].click()
    assert page.run("return document.activeElement.textContent") == words[-1].text
    time = page.run("return document.getElementById('player').currentTime")
    assert time >= words[-1].start - 0.01
    page.words()[-1].send_keys(Keys.ARROW_LEFT)
    assert page.run("return document.activeElement === arguments[0]", page.words()[-2])
    page.words()[-2].send_keys(Keys.F2)
    page.run("document.activeElement.textContent = 'corrected'")
    page.run("return document.activeElement").send_keys(Keys.ENTER)
    assert page.words()[-2].text == "corrected"
    page.browser.find_element("css selector", "[data-format=srt]").click()
    page.wait((folder / "talk.srt").exists)
    subtitles = pysubs2.load(str(folder / "talk.srt"))
    assert len(subtitles) == len([one for one in expected.segments if one.text.strip()])
    assert "corrected" in subtitles[-1].text
    assert page.complaints() == []


def test_alternatives_are_offered_and_taken(page: Page, folder: Path) -> None:
    assert not page.get("alternatives").is_selected(), "the model has one beam"
    page.get("alternatives").click()
    page.transcribe(folder / "talk.wav")
    word, other = page.browser.find_elements("css selector", ".word.open")[:2]
    before = word.text
    word.click()
    first = page.browser.find_element("css selector", ".offered button")
    taken = first.text.removeprefix("1 ")
    assert taken != before
    first.click()
    assert word.text == taken
    assert page.run("return document.activeElement === arguments[0]", word)
    word.send_keys("1")
    assert word.text == before
    other.click()
    assert page.browser.find_elements("css selector", ".offered button")
    assert page.complaints() == []


def test_a_language_is_found_and_told(
    page: Page, pipeline: ASRInferencePipeline, folder: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    page.get("language").send_keys("germ")
    page.wait(lambda: page.get("choices").is_displayed())
    assert "German" in page.get("choices").text
    page.get("language").send_keys(Keys.ENTER)
    assert "German" in page.get("chosen").text
    page.transcribe(folder / "talk.wav")
    expected = alone(pipeline, talk(), word_timestamps=True, lang="deu_Latn")
    assert " ".join(page.get("text").text.split()) == " ".join(expected.text.split())
    assert page.run("return document.getElementById('text').lang") == "deu"


def test_what_is_said_appears_while_it_is_said(page: Page) -> None:
    page.get("record").click()
    assert page.wait(lambda: page.get("text").text.strip())
    live = page.get("text").text
    assert page.get("record").text == "Stop recording"
    page.get("record").click()
    page.wait(lambda: page.get("status").text in ("Done.", "No speech was found."))
    assert live
    assert page.get("error").text == ""
    assert page.words()
    assert page.complaints() == []


def test_errors_are_told_in_words(page: Page, folder: Path) -> None:
    page.transcribe(folder / "bad.wav")
    assert "bad.wav" in page.get("error").text
    assert "cannot be decoded" in page.get("error").text
    assert page.get("start").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(page: Page, scheme: str, folder: Path) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    page.browser.set_window_size(500, 800)  # the narrowest that chromium takes
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    page.transcribe(folder / "talk.wav")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    shade = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (shade == "rgb(20, 23, 28)") == (scheme == "dark")
