"""pi0 doctor on recordings: one healthy, and many that are broken in one way each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.doctor_cases import JOINTS, TYPES, Change, copy_checkpoint, write_bag

from pi0_ros.cli import main
from pi0_ros.doctor import host as doctor_host

Line = tuple[str, str, str]


@pytest.fixture(scope="module")
def arguments(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The node's arguments for the small robot, by a parameter file."""
    path = tmp_path_factory.mktemp("doctor")
    checkpoint = copy_checkpoint(demo_checkpoint, path / "checkpoint")
    file = path / "params.yaml"
    file.write_text(
        "pi0:\n  ros__parameters:\n"
        f"    checkpoint: {checkpoint}\n    joints: [{', '.join(JOINTS)}]\n    device: cpu\n"
    )
    return ["--params", str(file)]


def examine(tmp_path: Path, arguments: list[str], change: Change, *more: str) -> tuple[int, Any]:
    """Exit status and the findings as (level, check, text) of a bag changed in some way."""
    bag = write_bag(tmp_path / "bag", change)
    figures = tmp_path / "findings.json"
    status = main(["doctor", "--bag", str(bag), *arguments, "--json", str(figures), *more])
    document = json.loads(figures.read_text())
    return status, [(f["level"], f["check"], f["text"]) for f in document["findings"]]


def same(topic: str, message: Any) -> Any:
    return message


def test_a_healthy_robot_passes(
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor_host, "SHARED_BYTES", 0)  # a container's /dev/shm may be small
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    status, lines = examine(tmp_path, arguments, same)
    assert status == 0
    assert {level for level, _, _ in lines} == {"PASS", "WARN"}
    # No pace, no limits file, and a checkpoint that records no names: nothing else to warn of.
    warned = [check for level, check, _ in lines if level == "WARN"]
    assert warned == ["parameters", "preflight", "order"]
    assert {check for _, check, _ in lines} == {
        "parameters",
        *("preflight", "order", "tokenizer", "topic", "clock", "rate", "age", "skew", "ticks"),
        *("image", "frozen", "joints", "values", "instruction", "versions", "device", "memory"),
        "shared memory",
    }
    shown = capsys.readouterr().out
    assert "camera front: 20.0 Hz" in shown
    assert "20 of 20 ticks" in shown
    assert shown.rstrip().splitlines()[-1] == f"PASS: {len(lines) - 3} PASS, 3 WARN, 0 FAIL"


@pytest.mark.parametrize(
    ("given", "level", "text"),
    [
        ((), "WARN", "neither action_dt nor fps is given: steps are taken to be 0.02 s apart"),
        (("action_dt_:=0.033",), "FAIL", r"action_dt_: .* did you mean action_dt\?"),
        (("frobnicate:=1",), "WARN", "frobnicate: the node has no parameter of that name"),
        (("action_dt:=1",), "WARN", r"action_dt is 1 s \(1 steps per second\)"),
        (("fps:=30",), "PASS", r"action_dt is 0.03333 s \(30 Hz\); the checkpoint does not tell"),
    ],
)
def test_pace_and_names_of_parameters(
    tmp_path: Path, arguments: list[str], given: tuple[str, ...], level: str, text: str
) -> None:
    more = [word for one in given for word in ("-p", one)]
    status, lines = examine(tmp_path, arguments, same, *(["--ros-args", *more] if more else []))
    found = [(got, sentence) for got, check, sentence in lines if check == "parameters"]
    assert any(got == level and re.search(text, sentence) for got, sentence in found), found
    assert level != "FAIL" or status == 1


def on_joints(change: Any) -> Change:
    def apply(topic: str, message: Any) -> Any:
        if topic == "/joint_states":
            message.position = np.array(message.position)
            change(message)
        return message

    return apply


def on_front(change: Any) -> Change:
    return lambda topic, m: change(m) if topic == "/front/image_raw" else m


def set_to(**values: Any) -> Any:
    def apply(message: Any) -> Any:
        for name, value in values.items():
            setattr(message, name, value)
        return message

    return apply


def degrees(message: Any) -> None:
    message.position = np.rad2deg(message.position)


def reverse(message: Any) -> None:
    message.position = message.position[::-1].copy()


def reverse_degrees(message: Any) -> None:
    message.position = np.rad2deg(message.position[::-1])


def swap_two(message: Any) -> None:
    message.position[[2, 4]] = message.position[[4, 2]]


def no_number(message: Any) -> None:
    message.position[2] = np.nan


def no_grip(message: Any) -> None:
    message.name, message.position = message.name[:-1], message.position[:-1]


def and_zeros(topic: str, message: Any) -> Any:
    """A second publisher of the same joints."""
    if topic != "/joint_states":
        return message
    zeros = type(message)(**vars(message))
    zeros.position = np.zeros(len(message.name))
    return [message, zeros]


def other_sign(message: Any) -> None:
    message.position[3] *= -1


def percent(message: Any) -> None:
    message.position[5] *= 100


def of_other_joints(message: Any) -> None:
    message.name = [f"other_{name}" for name in message.name]


def compressed(message: Any) -> Any:
    kind = TYPES["sensor_msgs/msg/CompressedImage"]
    return kind(message.header, "jpeg", np.zeros(3, np.uint8))


def hour_ago(message: Any) -> Any:
    message.header.stamp.sec -= 3600
    return message


def unstamped(message: Any) -> Any:
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def late(message: Any) -> Any:
    """150 ms old: fresh enough, but too far from the other camera."""
    at = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec - 150_000_000
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(at, 10**9)
    return message


def in_parts(topic: str, message: Any) -> Any:
    """The gripper's joint state is a message of its own; another has efforts only."""
    if topic != "/joint_states":
        return message
    kind, none = type(message), np.zeros(0)
    return [
        kind(message.header, message.name[:5], message.position[:5], none, none),
        kind(message.header, message.name, none, none, np.ones(6)),
        kind(message.header, message.name[5:], message.position[5:], none, none),
    ]


def test_joint_states_in_parts(tmp_path: Path, arguments: list[str]) -> None:
    status, lines = examine(tmp_path, arguments, in_parts)
    assert status == 0, [line for line in lines if line[0] == "FAIL"]
    texts = [text for _, _, text in lines]
    assert "all 6 are there, in 2 parts: pan, lift, elbow, flex, roll; grip" in texts
    assert "100 of 300 joint states have no positions (velocity or effort only)" in texts
    assert any(text.startswith("joint states of grip: 50.0 Hz") for text in texts)
    assert any(text.startswith("20 of 20 ticks") for text in texts)


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (on_joints(degrees), "values", "the joint states are in degrees: as radians they fit"),
        (on_joints(reverse), "values", "the joints are in reversed order"),
        (on_joints(reverse_degrees), "values", "in degrees, and the joints are in reversed order"),
        (on_joints(swap_two), "values", "the joints are in another order than the checkpoint's"),
        (on_joints(other_sign), "values", "flex is of the other sign"),
        (on_joints(percent), "values", "grip is in percent"),
        (on_joints(no_number), "joints", r"100 of 100 .* not finite: \['elbow'\]"),
        (on_joints(no_grip), "joints", r"no joint state has a position of \['grip'\]"),
        (and_zeros, "joints", r"lift is .* roll is .* in turn: do two publishers contradict"),
        (on_joints(of_other_joints), "joints", "no joint state names any of"),
        (on_front(lambda m: None), "topic", r"/front/image_raw .* not in the bag; .*/wrist/image"),
        (on_front(compressed), "topic", "has the type sensor_msgs/msg/CompressedImage, the node"),
        (on_front(set_to(encoding="32FC1")), "image", "40 of 40 .* encoding '32FC1' is not"),
        (on_front(set_to(data=np.zeros(7, np.uint8))), "image", "40 of 40 .* 7 bytes of data"),
        (
            on_front(set_to(data=np.arange(9216).astype(np.uint8))),
            "frozen",
            "40 equal images in a row",
        ),
        (on_front(hour_ago), "age", r"front: 3600.0 s old on arrival"),
        (on_front(unstamped), "age", "40 of 40 headers have no stamp"),
        (on_front(late), "ticks", "0 of 20 ticks .* refused: 20 skewed"),
        (lambda t, m: None if t == "/instruction" else m, "instruction", "neither given"),
    ],
)
def test_what_is_broken_fails_and_is_named(
    tmp_path: Path, arguments: list[str], change: Change, check: str, text: str
) -> None:
    status, lines = examine(tmp_path, arguments, change)
    failed = [(name, sentence) for level, name, sentence in lines if level == "FAIL"]
    assert status == 1
    assert any(name == check and re.search(text, sentence) for name, sentence in failed), failed


def test_an_order_within_range_that_fits_far_worse_is_a_warning(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Pan and grip exchanged: no value is five standard deviations out."""

    def swap(message: Any) -> None:
        message.position[[0, 5]] = message.position[[5, 0]] * 0.9

    status, lines = examine(tmp_path, arguments, on_joints(swap))
    warned = [sentence for level, check, sentence in lines if (level, check) == ("WARN", "values")]
    assert status == 0
    assert "another order of the joints fits" in warned[-1]
    assert warned[-1].endswith("['grip', 'lift', 'elbow', 'flex', 'roll', 'pan']")


def test_remaps_parameters_and_length(tmp_path: Path, arguments: list[str]) -> None:
    more = ["--ros-args", "-r", "front/image_raw:=/elsewhere", "-p", "cameras:=[front]"]
    status, lines = examine(tmp_path, arguments, same, "--seconds", "1", *more)
    assert status == 1
    failed = [sentence for level, _, sentence in lines if level == "FAIL"]
    assert failed[0].startswith("/elsewhere (camera front")
    assert ("PASS", "rate", "joint states: 50.0 Hz, longest gap 0.020 s") in lines


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--ros-args", "-p", "joints:=[a]"], "checkpoint: empty"),
        (["--params", "no/such.yaml"], "such.yaml"),
        (["--ros-args", "-p", "checkpoint:=/c", "-p", "rate_hz:=fast"], "rate_hz: must be"),
    ],
)
def test_what_the_node_would_not_start_with_is_an_error(
    argv: list[str], message: str, capfd: pytest.CaptureFixture
) -> None:
    assert main(["doctor", "--bag", "none", *argv]) == 1
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("argv", [["--seconds", "0"], ["--what"]])
def test_wrong_arguments_are_status_2(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *argv])
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_no_bag_is_an_error(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(["doctor", "--bag", str(tmp_path / "nothing"), *arguments]) == 1
    assert "no such recording" in capsys.readouterr().err
