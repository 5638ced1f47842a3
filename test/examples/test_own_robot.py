"""docs/own_robot.md followed to the letter, on the stand-in arm of examples/own_robot."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT
from support.process import Process
from support.waiting import wait_until

pytest.importorskip("rclpy")

from std_srvs.srv import SetBool

from pi0_ros.ros.services import ServiceCall
from pi0_ros.ros.spinning import ros_node

PAGE = (ROOT / "docs" / "own_robot.md").read_text()
PROGRAMS = {"python": [], "pi0": ["-m", "pi0_ros.cli"], "pi0_node": ["-m", "pi0_ros.node"]}
"""Program of the page -> arguments of this Python that run it from the source tree."""


def commands() -> list[list[str]]:
    """Every command of the page, in order."""
    blocks = re.findall(r"(?:^    .*\n)+", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.strip().removesuffix("&")) for line in lines if line.strip()]


def command(program: str, word: str) -> list[str]:
    """The command of the page that runs a program with a word in it."""
    (found,) = (c for c in commands() if c[0] == program and word in " ".join(c))
    return [sys.executable, *PROGRAMS[program], *found[1:]]


@pytest.mark.ros
def test_the_page_leads_to_motion(tmp_path: Path, start_process: Callable[..., Process]) -> None:
    # Paths of the page are relative: a copy of the example keeps the source tree clean.
    shutil.copytree(ROOT / "examples", tmp_path / "examples")

    def start(program: str, word: str) -> Process:
        return start_process(command(program, word), cwd=tmp_path)

    assert start("python", "checkpoint.py").wait() == 0
    robot = start("python", "stand_in.py")
    robot.wait_for("the arm moved 0.000 rad")
    draft = start("pi0", "doctor --write")
    assert draft.wait() == 0, draft.tail
    parameters = yaml.safe_load((tmp_path / "build/own_robot/draft.yaml").read_text())["/**"]
    drafted, final = parameters["ros__parameters"], final_parameters()
    for name in ("cameras", "joints"):
        assert drafted[name] == final[name]
    assert 1 / drafted["fps"] == final["action_dt"]
    for joint in final["joints"][:-1]:
        assert drafted[f"joint.{joint}.scale"] == final["joint"][joint]["scale"]
    doctor = start("pi0", "doctor --params")
    assert doctor.wait() == 0, doctor.tail
    node = start("pi0_node", "autostart")
    node.wait_for("ready: ticks")
    way = partial(_way, robot)
    assert way() == 0.0, "a dry run moves nothing"
    (call,) = (c for c in commands() if c[:3] == ["ros2", "service", "call"])
    assert call[3:] == ["/pi0/enable", "std_srvs/srv/SetBool", "{data: true}"]
    with ros_node("operator") as operator:
        enable = ServiceCall(operator.create_client(SetBool, call[3]), SetBool.Request(data=True))
        wait_until(enable.poll, "the answer of ~/enable")
        wait_until(lambda: way() > 0.2, lambda: f"the arm moves: {node.tail}")
    assert "rejects" not in robot.output


def final_parameters() -> dict[str, Any]:
    """Of the page's own file."""
    document = yaml.safe_load((ROOT / "examples/own_robot/my_arm.yaml").read_text())
    return document["/**"]["ros__parameters"]


def _way(robot: Process) -> float:
    """Radians that the stand-in says it has moved."""
    return float(re.findall(r"moved (\d+\.\d+)", robot.output)[-1])
