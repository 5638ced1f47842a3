"""pi0 view: the page that a browser shows."""

import colorsys
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.browser import Browser, needs_browser
from support.process import Process
from support.recordings import START, write_bag
from support.view_cases import TOPIC, chunk, urdf, write_results, write_urdf
from support.waiting import SOON, wait_until

pytest.importorskip("pinocchio")
pytest.importorskip("viser")

from pi0_ros.viz.scene import FAR, NEAR, REJECTED

ROOT = Path(__file__).parents[2]
TIMES = (0.3, 0.6, 0.9)


@pytest.fixture
def robot(tmp_path) -> Path:
    return write_urdf(tmp_path, urdf())


@pytest.fixture
def replayed(tmp_path) -> Path:
    return write_results(tmp_path / "results", TIMES)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class View:
    """The command as a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        command = [sys.executable, "-m", "pi0_ros.cli", "view", *map(str, arguments)]
        command += ["--port", str(self.port)]
        self._process = Process(command, Path(self._folder.name, "log"), cwd=ROOT)
        self._process.wait_for("Ctrl-C ends it")
        assert f"http://127.0.0.1:{self.port} " in self.said, self.said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._folder.cleanup()

    @property
    def said(self) -> str:
        return self._process.output

    def end(self, number: int) -> int:
        """Its exit status after a signal."""
        return self._process.end(number, SOON)


def pixels(image: np.ndarray, colour: tuple[float, ...]) -> int:
    """How many are of the hue of a colour (red, green, blue, 0 to 1), and neither pale nor dark.

    The page fades in, and lights what it shows, so that brightness says little.
    """
    wanted = colorsys.rgb_to_hsv(*colour[:3])[0] * 180  # as OpenCV has it
    hue, saturation, value = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV).T
    off = np.abs((hue.astype(float) - wanted + 90) % 180 - 90)
    return int(((off < 6) & (saturation > 90) & (value > 100)).sum())


def wait_for_path(browser: Browser, *ends: tuple[float, ...]) -> np.ndarray:
    """A screenshot of the page with these colours in it."""

    def screenshot() -> np.ndarray | None:
        taken = browser.screenshot()[:, :-420]  # the panel beside the scene has a legend
        return taken if min(pixels(taken, colour) for colour in ends) > 20 else None

    (found,) = wait_until(
        lambda: [shown for shown in [screenshot()] if shown is not None],
        lambda: f"pixels of {ends}; {browser.problems}",
    )
    return found


@needs_browser
def test_the_page_shows_the_path(replayed, recording, robot):
    """In the colours of its ends, with the images, the words and without an error."""
    arguments = (replayed, "--recording", recording, "--urdf", robot, "--at", 0.9)
    with View(*arguments) as view, Browser(f"http://127.0.0.1:{view.port}") as browser:
        assert pixels(wait_for_path(browser, NEAR, FAR), REJECTED) == 0
        text = browser.text()
        for words in (
            *("turn to the left", "chunk 2, 0.05 s old", "/front/image_raw", "enabled"),
            *("replaced by a newer chunk", "▶ play", "⏸ stop the ghost"),
        ):
            assert words in text
        widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert widths.count(320) == 2, "two cameras"
        assert browser.problems == []
        assert requests_elsewhere(view, browser) == []
        assert view.end(signal.SIGINT) == 0


@needs_browser
def test_it_plays_and_shows_text_from_topics_as_text(tmp_path, robot):
    markup = '<img src="x" onerror="alert(1)"> ![p](http://127.0.0.1:1/p.png) <b>bold</b>'
    entries = []
    for number, seconds in enumerate(TIMES):
        time = START + round(seconds * 1e9)
        message = replace(chunk(time, number), instruction=markup).message()
        entries.append((time, TOPIC, message))
    bag = write_bag(tmp_path / "results", entries, types={TOPIC: "pi0_ros/msg/ActionChunk"})
    with (
        View(bag, "--urdf", robot) as view,
        Browser(f"http://127.0.0.1:{view.port}") as browser,
    ):
        seen = set()

        def all_seen() -> bool:
            seen.update(n for n in range(3) if f"chunk {n}, " in browser.text())
            return len(seen) == 3

        wait_until(all_seen, lambda: f"all three chunks; seen {seen}")
        assert markup in browser.text()
        made = browser.evaluate("[...document.querySelectorAll('img, b')].map(e => e.outerHTML)")
        assert not [html for html in made if "onerror" in html or "p.png" in html or "bold" in html]
        assert requests_elsewhere(view, browser) == []
        assert browser.problems == []
        assert view.end(signal.SIGTERM) == 0


def requests_elsewhere(view: View, browser: Browser) -> list[str]:
    """What the page asked others for than the command."""
    own = (f"http://127.0.0.1:{view.port}", "data:", "blob:", "chrome:")
    return [url for url in browser.requests if not url.startswith(own)]


def listeners(port: int) -> set[str]:
    """Local addresses on which something listens on a port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            address, state = row.split()[1], row.split()[3]
            if state == "0A" and int(address.rpartition(":")[2], 16) == port:
                found.add(address.rpartition(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="not Linux")
def test_it_listens_on_the_loopback_only(replayed, robot):
    with View(replayed, "--urdf", robot) as view:
        assert "has no images and no joint states" in view.said
        assert listeners(view.port) == {"0100007F"}
        assert view.end(signal.SIGINT) == 0


def test_no_page_can_ask_for_a_public_address():
    from pi0_ros.view.page import LocalServer

    server = LocalServer(host="127.0.0.1", port=free_port(), verbose=False)
    try:
        assert server.request_share_url() is None
        assert server._share_tunnel is None
    finally:
        server.stop()
