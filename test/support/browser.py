"""A headless Chromium that opens a page, reports what went wrong in it, and takes screenshots.

By Selenium and Debian's packages chromium and chromium-driver. As a program:

    PYTHONPATH=test python -m support.browser URL SCREENSHOT.png [SECONDS]
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pytest

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
"""Software rendering, and nothing that calls home."""

SMALL, LARGE = (1280, 400), (1280, 960)
"""Width and height of the window. The processor draws every pixel: tests take the small one."""

NOTES = ".mantine-Notification-closeButton"  # such as the one about software rendering


def find(*names: str) -> str | None:
    """The path of the first of these programs that is installed."""
    return next((path for path in map(shutil.which, names) if path), None)


CHROMIUM = find("chromium", "chromium-browser", "google-chrome")
DRIVER = find("chromedriver")


def can_browse() -> bool:
    """Whether Selenium, Chromium and its driver are installed."""
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return False
    return bool(CHROMIUM and DRIVER)


needs_browser = pytest.mark.skipif(
    not can_browse(),
    reason="no browser: pip install selenium and apt install chromium chromium-driver",
)


class Browser:
    """One page.

    Attributes:
        problems: errors on the page's console, uncaught exceptions and failed requests.
        requests: addresses that the page asked for.
    """

    def __init__(self, url: str, size: tuple[int, int] = SMALL) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for option in (*OPTIONS, "--window-size={},{}".format(*size)):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "SEVERE", "performance": "ALL"})
        self._driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self._problems: list[str] = []
        self._requests: list[str] = []
        self._driver.get(url)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._driver.quit()

    @property
    def problems(self) -> list[str]:
        self._read_logs()
        return self._problems

    @property
    def requests(self) -> list[str]:
        self._read_logs()
        return self._requests

    def screenshot(self) -> np.ndarray:
        """[height, width, 3] uint8 RGB."""
        data = np.frombuffer(self._driver.get_screenshot_as_png(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]

    def text(self) -> str:
        """What is to be read on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self._driver.execute_script(f"return {expression}")

    def _read_logs(self) -> None:
        self._problems += [entry["message"] for entry in self._driver.get_log("browser")]
        for entry in self._driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
            elif message["method"] == "Network.loadingFailed":
                self._problems.append(message["params"]["errorText"])


def main(url: str, file: str, seconds: str = "15") -> None:
    """Wait until the page has settled, and save what it shows."""
    with Browser(url, LARGE) as browser:
        time.sleep(float(seconds))
        browser.evaluate(f"document.querySelectorAll('{NOTES}').forEach(b => b.click())")
        time.sleep(3)
        rgb = browser.screenshot()
        problems = browser.problems or "no page errors"
    # Five bits of each colour: nobody sees the difference, and the file is half as large.
    cv2.imwrite(file, (rgb[..., ::-1] & 0xF8), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{file}: {Path(file).stat().st_size // 1000} kB; {problems}")


if __name__ == "__main__":
    main(*sys.argv[1:])
