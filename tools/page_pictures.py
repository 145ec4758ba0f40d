"""Draw the server's page for docs/server.md: what chromium shows of a running `wavellama serve`.

python tools/page_pictures.py FILE [URL] [FOLDER]

Needs selenium, and Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Final

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

WAIT_SECS: Final = 300
NUM_COLORS: Final = 64

OPENED: Final = 5
"""Of which of the words that have alternatives they are shown."""

SCROLL: Final = "document.getElementById(arguments[0]).scrollIntoView()"

LOOKS: Final = {"page.png": ("light", 820, 1000), "page_phone.png": ("dark", 380, 760)}
"""Pictures: the scheme of colours, and the size of the window."""


def main(file: str, url: str = "http://127.0.0.1:8000", folder: str = "docs/images") -> None:
    """Draw all pictures of a file."""
    browser = _open_browser()
    try:
        for name, (scheme, width, height) in LOOKS.items():
            _set_look(browser, scheme, width, height)
            browser.get(f"{url}/")
            _transcribe(browser, Path(file).resolve())
            browser.execute_script(SCROLL, "drop" if width > 500 else "status")
            _save(browser, Path(folder, name))
    finally:
        browser.quit()


def _open_browser() -> Chrome:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio"):
        options.add_argument(argument)
    return Chrome(options, Service(shutil.which("chromedriver")))


def _set_look(browser: Chrome, scheme: str, width: int, height: int) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def _transcribe(browser: Chrome, file: Path) -> None:
    """Let the page transcribe a file, and show the alternatives of a word."""
    wait = WebDriverWait(browser, WAIT_SECS)
    wait.until(lambda _: browser.find_element("id", "languages").is_displayed())
    browser.find_element("id", "file").send_keys(str(file))
    wait.until(lambda _: browser.find_element("id", "start").is_enabled())
    browser.find_element("id", "start").click()
    wait.until(lambda _: browser.find_element("id", "status").text == "Done.")
    for word in browser.find_elements("css selector", ".word.open")[OPENED : OPENED + 1]:
        word.click()
    browser.execute_script("document.getElementById('player').pause()")


def _save(browser: Chrome, path: Path) -> None:
    """Write what is shown, in few colours."""
    shown = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    shown.quantize(NUM_COLORS).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
