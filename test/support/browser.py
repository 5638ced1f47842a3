"""A headless Chromium that opens a page, tells what went wrong in it, and takes pictures of it.

By the DevTools protocol, over the websockets package that viser brings. As a program:

    python test/support/browser.py URL PICTURE.png [SECONDS]
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Software rendering, and nothing that calls home.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
    "--window-size=1280,960",
)
STARTUP = 60.0
NOTES = ".mantine-Notification-closeButton"  # such as the one about software rendering


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page.

    Attributes:
        problems: uncaught exceptions, console errors and failed requests of the page.
        requests: addresses that the page asked for.
    """

    def __init__(self, url: str) -> None:
        from websockets.sync.client import connect

        self.problems: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._number = 0
        self._process = subprocess.Popen(
            [find_browser(), *OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._socket = connect(self._page_address(), max_size=None)
        for domain in ("Runtime", "Log", "Page", "Network"):
            self._call(f"{domain}.enable")
        self._loaded = False
        self._call("Page.navigate", url=url)
        while not self._loaded:
            self._receive()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
        self._profile.cleanup()

    def screenshot(self) -> np.ndarray:
        """[height, width, 3] uint8 RGB."""
        data = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def text(self) -> str:
        """What is to be read on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def _page_address(self) -> str:
        """Of the page's DevTools: Chromium writes its port into the profile."""
        port_file = Path(self._profile.name, "DevToolsActivePort")
        end = time.monotonic() + STARTUP
        while time.monotonic() < end:
            assert self._process.poll() is None, f"Chromium ended: {self._process.returncode}"
            if port_file.exists() and port_file.read_text().count("\n"):
                port = port_file.read_text().split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as pages:
                    for page in json.load(pages):
                        if page["type"] == "page":
                            return page["webSocketDebuggerUrl"]
            time.sleep(0.1)
        raise TimeoutError(f"Chromium did not start within {STARTUP:.0f} s")

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": arguments}
        self._socket.send(json.dumps(request))
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv(timeout=60))
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            self.problems.append(json.dumps(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.problems.append(event["entry"]["text"])
        elif method == "Network.loadingFailed":
            self.problems.append(event["errorText"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])


def main(url: str, picture: str, seconds: str = "15") -> None:
    """Wait until the page has settled, and save what it shows."""
    with Browser(url) as browser:
        time.sleep(float(seconds))
        browser.evaluate(f"document.querySelectorAll('{NOTES}').forEach(b => b.click())")
        time.sleep(3)
        rgb = browser.screenshot()
    # Five bits of each colour: nobody sees the difference, and the file is half as large.
    cv2.imwrite(picture, (rgb[..., ::-1] & 0xF8), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    problems = browser.problems or "no page errors"
    print(f"{picture}: {Path(picture).stat().st_size // 1000} kB; {problems}")


if __name__ == "__main__":
    main(*sys.argv[1:])
