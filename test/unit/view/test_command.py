"""pi0 view: what is said where there is nothing to show."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from support.recordings import START, write_bag
from support.view_cases import JOINTS, TOPIC, chunk, urdf, write_results, write_urdf

pytest.importorskip("pinocchio")
pytest.importorskip("viser")

from pi0_ros import cli
from pi0_ros.bags.chunks import REJECTED
from pi0_ros.bags.results import read_results
from pi0_ros.collision.kinematics import Arm
from pi0_ros.view.page import as_html
from pi0_ros.view.recording import build_timeline

TIMES = (0.3, 0.6, 0.9)


@pytest.fixture
def robot(tmp_path) -> Path:
    return write_urdf(tmp_path, urdf())


@pytest.fixture
def results(tmp_path) -> Path:
    return write_results(tmp_path / "results", TIMES)


def fail(capsys, *arguments: object) -> str:
    """What the command says when it fails."""
    assert cli.main(["view", *map(str, arguments)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.split("pi0 view: ", 1)[1]


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


def test_results_whose_chunks_were_all_rejected_are_shown(tmp_path):
    time = START + 10**9
    message = chunk(time, 3, verdict=REJECTED, why="limits: elbow is too fast").message()
    types = {TOPIC: "pi0_ros/msg/ActionChunk"}
    found = read_results(write_bag(tmp_path / "bag", [(time, TOPIC, message)], types=types))
    seen = build_timeline(found, Arm(urdf(), JOINTS), None)
    moment = seen.timeline.at(time + 1)
    assert [line.name for line in moment.scene.lines(time + 1)] == ["rejected"]
    assert "rejected: limits: elbow is too fast" in moment.scene.text(time + 1)
    assert moment.chunk is None


def test_text_from_topics_is_escaped():
    html = as_html('<img src=x onerror="f()"> & **bold**\nchunk 1')
    assert "<img" not in html and 'onerror="' not in html
    assert "&lt;img src=x" in html and "&amp; **bold**\nchunk 1" in html


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
    assert "no images on /rear; there are some on /front/image_raw, /wrist/image_raw" in said


def test_a_recording_that_holds_something_else(results, robot, tmp_path, capsys):
    other = write_results(tmp_path / "other", TIMES)
    said = fail(capsys, results, "--recording", other, "--urdf", robot)
    assert "holds neither images nor joint states" in said


def test_without_viser_it_says_how_to_get_it(results, robot, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install viser" in fail(capsys, results, "--urdf", robot)


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
        cli.main(["view", *arguments])
    assert caught.value.code == 2
    assert "pi0 view: error: " in capsys.readouterr().err
