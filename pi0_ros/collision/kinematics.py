"""Forward kinematics of the robot that a URDF describes, by pinocchio.

Pinocchio is maintained (robotpkg, apt's ros-<distro>-pinocchio under the rosdep key `pinocchio`,
PyPI's `pin` for x86_64 and aarch64), takes 8 us per pose, and reads the shapes of a URDF too. It is
optional, and not imported before it is used. `Urdf` checks the document first, since its errors say
more, and hands over only what is needed: pinocchio's parser takes minutes for elements with many
attributes, and its memory grows with the third power of the number of joints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np

from pi0_ros.console import is_installed
from pi0_ros.motion.urdf import LARGEST, Urdf, UrdfError, joint_problems, parse_urdf, tool_link

T = TypeVar("T")

MISSING = (
    "forward kinematics needs pinocchio, which is not installed: pip install pin, or apt install"
    " ros-$ROS_DISTRO-pinocchio"
)

MOST_MOVING = 100
"""Joints that move, at most: 0.1 s and 70 MB for so many, eight times that for twice as many."""


class Arm:
    """Poses of the links, in the frame of the URDF's root link.

    Attributes:
        urdf: what the description says.
        joints: columns of the positions, in the policy's order.
        root: the link in whose frame poses are.
        tool: the link whose path is shown.
        moving: every joint that moves by itself, `joints` among them.
        tool_frame: number of the tool's frame in `model`.
        model: pinocchio's model; of a robot with more than MOST_MOVING moving joints, the others
            than `joints` stand at zero in it.
    """

    def __init__(self, text: str, joints: Sequence[str], tool: str = "") -> None:
        """Read a description.

        Args:
            text: the URDF.
            tool: see `pi0_ros.motion.urdf.tool_link`.

        Raises:
            UrdfError: lists everything that is wrong, pinocchio's absence included.
        """
        if not is_installed("pinocchio"):  # importing it takes 0.4 s
            raise UrdfError([MISSING])
        import pinocchio

        self.urdf: Urdf = parse_urdf(text)
        problems = joint_problems(self.urdf, joints)
        if problems:
            raise UrdfError(problems)
        self.joints = tuple(joints)
        self.root = self.urdf.root
        self.tool = tool_link(self.urdf, joints, tool)
        self.moving = tuple(
            joint.name for joint in self.urdf.joints.values() if joint.moves and not joint.mimic
        )
        self.model = build_model(self.urdf, joints)
        self._pin = pinocchio
        self._data = self.model.createData()
        self._neutral = pinocchio.neutral(self.model)
        self.tool_frame = self.model.getFrameId(self.tool, pinocchio.FrameType.BODY)

    @property
    def units(self) -> dict[str, str]:
        """Joint -> "rad" or "m"."""
        return {name: self.urdf.joints[name].unit for name in self.joints}

    def tool_poses(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tool is for each row of joint positions; other joints stand at zero.

        Args:
            positions: [n, joints], radians (metres for prismatic joints), finite.

        Returns:
            [n, 3] float64 metres and [n, 4] float64 quaternions x, y, z, w.
        """
        places = np.empty((len(positions), 3))
        orientations = np.empty((len(positions), 4))
        for i, configuration in enumerate(self.configurations(positions)):
            pose = self._tool_pose(configuration)
            places[i] = pose.translation
            orientations[i] = self._pin.Quaternion(pose.rotation).coeffs()
        return places, orientations

    def tool_place(self, configuration: np.ndarray) -> np.ndarray:
        """[3] metres: where the tool is."""
        return self._tool_pose(configuration).translation

    def configurations(self, positions: np.ndarray) -> np.ndarray:
        """[n, model.nq]: what pinocchio takes for rows of joint positions, other joints at zero.

        Args:
            positions: [n, joints], radians (metres for prismatic joints), finite.
        """
        columns = np.asarray(positions, np.float64).T
        return self._configurations(dict(zip(self.joints, columns, strict=True)), columns.shape[1])

    def link_poses(self, values: Mapping[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Link -> position [3] in metres and quaternion [4] x, y, z, w.

        Args:
            values: joint -> radians or metres; joints that are not in it stand at zero, those that
                the robot does not have are ignored.
        """
        (configuration,) = self._configurations(values, 1)
        self._pin.forwardKinematics(self.model, self._data, configuration)
        self._pin.updateFramePlacements(self.model, self._data)
        poses = {}
        for link in self.urdf.links:
            frame = self.model.getFrameId(link, self._pin.FrameType.BODY)
            pose = self._data.oMf[frame]
            poses[link] = (pose.translation.copy(), self._pin.Quaternion(pose.rotation).coeffs())
        return poses

    def _tool_pose(self, configuration: np.ndarray) -> Any:
        self._pin.forwardKinematics(self.model, self._data, configuration)
        return self._pin.updateFramePlacement(self.model, self._data, self.tool_frame)

    def _configurations(self, values: Mapping[str, Any], count: int) -> np.ndarray:
        """[count, model.nq] of joint -> a number, or [count] of them."""
        configurations = np.repeat(self._neutral[None], count, axis=0)
        for joint in self.urdf.joints.values():
            if not joint.moves or not self.model.existJointName(joint.name):
                continue
            value = values.get(joint.name, 0.0)
            if joint.mimic:
                value = joint.multiplier * values.get(joint.mimic, 0.0) + joint.offset
            of_model = self.model.joints[self.model.getJointId(joint.name)]
            place = of_model.idx_q
            if of_model.nq == 2:  # continuous: its configuration is a point on the unit circle
                configurations[:, place] = np.cos(value)
                configurations[:, place + 1] = np.sin(value)
            else:
                configurations[:, place] = value
        return configurations


def build_model(urdf: Urdf, joints: Sequence[str], most: int = MOST_MOVING) -> Any:
    """Pinocchio's model; beyond `most` moving joints only `joints` move, and those they drive.

    Raises:
        UrdfError: more than `most` move all the same, or pinocchio does not take it.
    """
    import pinocchio

    moving = {name for name, joint in urdf.joints.items() if joint.moves}
    if len(moving) > most:
        driven = {n for n in moving if n in joints or urdf.joints[n].mimic in joints}
        if len(driven) > MOST_MOVING:
            raise UrdfError([f"{len(driven)} joints move; at most {MOST_MOVING} are computed"])
        text = fixed(urdf.text, moving - driven)
    else:
        text = urdf.text
    try:
        return pinocchio.buildModelFromXML(text)
    except (ValueError, RuntimeError) as error:  # what is wrong, urdfdom has written to stderr
        raise UrdfError([f"pinocchio does not take it: {error} (see stderr)"]) from error


def fixed(text: str, joints: Set[str]) -> str:
    """The URDF with these joints fixed where they are zero."""
    robot = ElementTree.fromstring(text)
    for joint in robot.iterfind("joint"):
        if joint.get("name") in joints:
            joint.set("type", "fixed")
    return ElementTree.tostring(robot, encoding="unicode")


def read_arm(path: Path, joints: Sequence[str], tool: str = "") -> Arm:
    """The arm of a URDF file.

    Raises:
        UrdfError: lists everything that is wrong; each sentence names the file.
    """
    return _of_file(path, lambda text: Arm(text, joints, tool))


def read_urdf_file(path: Path) -> str:
    """The text of a URDF file, which is one tree of links; see `read_arm` for joints.

    Raises:
        UrdfError: as `read_arm`; also without pinocchio, which draws need.
    """
    if not is_installed("pinocchio"):
        raise UrdfError([MISSING])
    return _of_file(path, lambda text: parse_urdf(text).text)


def _of_file(path: Path, read: Callable[[str], T]) -> T:
    try:
        if path.stat().st_size > LARGEST:
            raise UrdfError([f"larger than {LARGEST} bytes; no robot description"])
        return read(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems = [error.strerror or str(error)]
    except UnicodeDecodeError:
        problems = ["no XML: the file is no UTF-8 text"]
    except UrdfError as error:
        problems = list(error.problems)
    raise UrdfError([f"robot description {path}: {problem}" for problem in problems])
