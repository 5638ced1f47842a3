"""`pi0 doctor --write FILE`: look at a robot, and write parameters for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from pi0_ros import console
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.doctor.draft import as_yaml, draft
from pi0_ros.doctor.robot import Robot, robot_in_bag, robot_on_graph
from pi0_ros.errors import UserError
from pi0_ros.motion.limit_files import Limit, read_file
from pi0_ros.share import user_path


def write(
    file: Path,
    checkpoint: Path,
    bag: Path | None,
    urdf: Path | None,
    seconds: float | None,
    overwrite: bool,
) -> str:
    """Write the parameter file, and beside it the URDF that was heard on a topic.

    Args:
        bag: look at this recording; None: at the live graph.
        urdf: of the robot; None: the one that is published on robot_description, if any.
        seconds: how long to look; None: all of a bag.

    Returns:
        What was done and what comes next, in sentences.

    Raises:
        UserError: a file exists; no checkpoint; a bag that cannot be read.
    """
    read = read_checkpoint(user_path(checkpoint))
    declared = read_declared(read.path, read.joints)
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"--write {file}: expected the name of a YAML file, such as robot.yaml")
    if urdf is not None and file.resolve() == user_path(urdf).resolve():
        raise UserError(f"--write {file}: it is the URDF; choose another name")
    copy = file.with_suffix(".urdf")
    for path in (file, copy) if urdf is None else (file,):
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: choose another name, or give --overwrite")
    robot = robot_on_graph(seconds) if bag is None else robot_in_bag(bag, seconds)
    file.parent.mkdir(parents=True, exist_ok=True)
    path = None
    if urdf is not None:
        robot.urdf_source, path = str(urdf), user_path(urdf).resolve()
    elif robot.urdf:
        console.write_text(copy, robot.urdf)
        path = copy.resolve()
    problems: list[str] = []
    limits = _limits(path, robot, problems)
    if problems:
        if urdf is not None:
            raise UserError(f"--urdf: {'; '.join(problems)}")
        path = None
    found = draft(robot, read, declared, limits, str(path) if path is not None else "")
    console.write_text(file, as_yaml(found, robot, date.today().isoformat()))
    told = [f"wrote {file}: {found.guesses} of its lines are guesses, marked GUESS"]
    if path is not None and urdf is None:
        told.append(f"wrote {path}: the URDF of {robot.urdf_source}")
    told += [f"no URDF is used: {problem}" for problem in problems]
    told.append(f"look at them, then run: pi0 doctor --params {file}")
    return "\n".join(told)


def _limits(path: Path | None, robot: Robot, problems: list[str]) -> Mapping[str, Limit]:
    """Joint -> limits of the URDF; nothing for joints that have unusable ones."""
    if path is None:
        return {}
    found = {}
    for joint, entry in read_file(path, problems).items():
        own: list[str] = []
        limit = entry(own)
        if not own and not math.isnan(limit.lower):
            found[joint] = limit
    return found
