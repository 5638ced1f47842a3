"""pi0_view: the page that a browser shows, and what is said where there is nothing to show."""

import colorsys
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.browser import Browser, find_browser
from support.process import Process
from support.view_cases import JOINTS, urdf, write_results
from support.waiting import SOON, wait_until

pytest.importorskip("pinocchio")
pytest.importorskip("viser")

from pi0_ros.view.main import main
from pi0_ros.viz.scene import FAR, NEAR, REJECTED

ROOT = Path(__file__).parents[2]
WAIT = 100.0
TIMES = (0.3, 0.6, 0.9)
needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="there is no Chromium (apt install chromium)"
)


def write_urdf(folder: Path, text: str) -> Path:
    path = folder / "bars.urdf"
    path.write_text(text)
    return path


@pytest.fixture
def robot(tmp_path) -> Path:
    return write_urdf(tmp_path, urdf())


@pytest.fixture
def results(tmp_path) -> Path:
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
        command = [sys.executable, "-m", "pi0_ros.view.main", *map(str, arguments)]
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


def pixels(picture: np.ndarray, colour: tuple[float, ...]) -> int:
    """How many are of the hue of a colour (red, green, blue, 0 to 1), and neither pale nor dark.

    The page fades in, and lights what it shows, so that brightness says little.
    """
    wanted = colorsys.rgb_to_hsv(*colour[:3])[0] * 180  # as OpenCV has it
    hue, saturation, value = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2HSV).T
    off = np.abs((hue.astype(float) - wanted + 90) % 180 - 90)
    return int(((off < 6) & (saturation > 90) & (value > 100)).sum())


def wait_for_path(browser: Browser, *ends: tuple[float, ...]) -> np.ndarray:
    """A picture of the page with these colours in it."""

    def picture() -> np.ndarray | None:
        taken = browser.screenshot()
        return taken if min(pixels(taken, colour) for colour in ends) > 20 else None

    (found,) = wait_until(
        lambda: [shown for shown in [picture()] if shown is not None],
        lambda: f"pixels of {ends}; {browser.problems}",
        WAIT,
    )
    return found


@needs_browser
@pytest.mark.timeout(240)
def test_the_page_shows_the_path(results, recording, robot):
    """In the colours of its ends, with the pictures, the words and without an error."""
    arguments = (results, "--recording", recording, "--urdf", robot, "--at", 0.9)
    with View(*arguments) as view, Browser(f"http://127.0.0.1:{view.port}") as browser:
        picture = wait_for_path(browser, NEAR, FAR)
        assert pixels(picture, REJECTED) == 0
        text = browser.text()
        for words in ("turn to the left", "chunk 2, 0.05 s old", "/front/image_raw"):
            assert words in text
        widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert widths.count(320) == 2, "two cameras"
        assert browser.problems == []
        elsewhere = [
            url
            for url in browser.requests
            if not url.startswith((f"http://127.0.0.1:{view.port}", "data:", "blob:"))
        ]
        assert elsewhere == [], "nothing is fetched from elsewhere"
        assert view.end(signal.SIGINT) == 0


@needs_browser
@pytest.mark.timeout(240)
def test_it_plays(results, recording, robot):
    with (
        View(results, "--recording", recording, "--urdf", robot) as view,
        Browser(f"http://127.0.0.1:{view.port}") as browser,
    ):
        seen = set()

        def all_seen() -> bool:
            seen.update(n for n in range(3) if f"chunk {n}, " in browser.text())
            return len(seen) == 3

        wait_until(all_seen, lambda: f"all three chunks; seen {seen}", WAIT)
        assert browser.problems == []
        assert view.end(signal.SIGTERM) == 0


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
def test_it_listens_on_the_loopback_only(results, robot):
    with View(results, "--urdf", robot) as view:
        assert "has no pictures and no joint states" in view.said
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


def fail(capsys, *arguments: object) -> str:
    """What the command says when it fails."""
    assert main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.split("pi0_view: ", 1)[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<robot", "no XML"),
        (urdf(("waist", "neck")), "no joint is called shoulder, elbow, gripper; those that move"),
        (urdf(visual='<geometry><mesh filename="package://a/b.stl"/></geometry>'), "its meshes"),
    ],
)
def test_a_wrong_urdf(results, tmp_path, capsys, text, says):
    path = write_urdf(tmp_path, text)
    said = fail(capsys, results, "--urdf", path)
    assert says in said and str(path) in said


def test_no_such_tool(results, robot, capsys):
    said = fail(capsys, results, "--urdf", robot, "--tool", "hand")
    assert "no link is called 'hand'" in said


def test_an_empty_bag(tmp_path, robot, capsys):
    said = fail(capsys, write_results(tmp_path / "empty", ()), "--urdf", robot)
    assert "the recording holds no messages" in said


def test_a_bag_without_chunks(recording, robot, capsys):
    said = fail(capsys, recording, "--urdf", robot)
    assert "holds no pi0_ros/msg/ActionChunk" in said and "/joint_states" in said


def test_a_bag_cut_in_the_middle(results, make_bag, tmp_path, robot, capsys):
    cut = shutil.copytree(make_bag(seconds=1.5), tmp_path / "cut")
    (file,) = cut.glob("*.mcap")
    os.truncate(file, file.stat().st_size // 2)
    said = fail(capsys, results, "--recording", cut, "--urdf", robot)
    assert str(cut) in said and ("damaged" in said or "cannot be opened" in said)
    (file,) = results.glob("*.mcap")
    os.truncate(file, file.stat().st_size // 2)
    said = fail(capsys, results, "--urdf", robot)
    assert str(results) in said and ("damaged" in said or "cannot be opened" in said)


def test_a_damaged_message(results, make_bag, robot, capsys):
    damaged = make_bag(seconds=1.0, cut={"/joint_states": 40})
    said = fail(capsys, results, "--recording", damaged, "--urdf", robot)
    assert "a message on /joint_states" in said


def test_the_recording_of_another_robot(tmp_path, recording, capsys):
    other = ("waist", "neck")
    results = write_results(tmp_path / "other", TIMES, other)
    path = write_urdf(tmp_path, urdf(other))
    said = fail(capsys, results, "--recording", recording, "--urdf", path)
    assert "is of another robot" in said
    assert ", ".join(sorted(JOINTS)) in said and "waist, neck" in said


@pytest.mark.parametrize(("shift", "says"), [(1000.0, "999 s before"), (-1000.0, "1001 s after")])
def test_the_recording_of_another_time(tmp_path, recording, robot, capsys, shift, says):
    results = write_results(tmp_path / "late", TIMES, shift=shift)
    said = fail(capsys, results, "--recording", recording, "--urdf", robot)
    assert "it is not the recording that was replayed" in said
    assert f"was recorded {round(abs(0.3 + shift))} s" in said and says.split()[-1] in said


def test_a_camera_that_is_not_there(results, recording, robot, capsys):
    arguments = (results, "--recording", recording, "--urdf", robot)
    said = fail(capsys, *arguments, "--camera", "/rear")
    assert "no pictures on /rear; there are some on /front/image_raw, /wrist/image_raw" in said


def test_a_recording_that_holds_something_else(results, robot, tmp_path, capsys):
    other = write_results(tmp_path / "other", TIMES)
    said = fail(capsys, results, "--recording", other, "--urdf", robot)
    assert "holds neither pictures nor joint states" in said


def test_without_viser_it_says_how_to_get_it(results, robot):
    program = "import sys; sys.modules['viser'] = None; from pi0_ros.view.main import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(main())", str(results), "--urdf", str(robot)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "viser is not installed" in done.stderr and "pi0_ros[view]" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bag"],
        ["bag", "--live"],
        ["--live", "--recording", "bag"],
        ["--live", "--node", "pi0"],
        ["bag", "--urdf", "a", "--port", "0"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "pi0_view: error: " in capsys.readouterr().err
