"""Forward kinematics of the robot that a URDF describes, by pinocchio.

Pinocchio is maintained (robotpkg, apt's ros-<distro>-pinocchio under the rosdep key `pinocchio`,
PyPI's `pin` for x86_64 and aarch64), takes 8 us per pose, and reads the shapes of a URDF too. It is
optional, and imported only here. `Urdf` checks the document first, since its errors say more.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from pi0_ros.motion.urdf import LARGEST, Urdf, UrdfError, joint_problems, parse_urdf, tool_link

T = TypeVar("T")

MISSING = (
    "forward kinematics needs pinocchio, which is not installed: pip install pin, or apt install"
    " ros-$ROS_DISTRO-pinocchio"
)


def installed() -> bool:
    """Whether pinocchio is there, without importing it, which takes 0.4 s."""
    return importlib.util.find_spec("pinocchio") is not None


class Arm:
    """Poses of the links, in the frame of the URDF's root link.

    Attributes:
        urdf: what the description says.
        joints: columns of the positions, in the policy's order.
        root: the link in whose frame poses are.
        tool: the link whose path is shown.
        moving: every joint that moves by itself, `joints` among them.
        model: pinocchio's model.
    """

    def __init__(self, text: str, joints: Sequence[str], tool: str = "") -> None:
        """Read a description.

        Args:
            text: the URDF.
            tool: see `pi0_ros.motion.urdf.tool_link`.

        Raises:
            UrdfError: lists everything that is wrong, pinocchio's absence included.
        """
        if not installed():
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
        try:
            self.model = pinocchio.buildModelFromXML(text)
        except (ValueError, RuntimeError) as error:  # what is wrong, urdfdom has written to stderr
            raise UrdfError([f"pinocchio does not take it: {error} (see stderr)"]) from error
        self._pin = pinocchio
        self._data = self.model.createData()
        self._neutral = pinocchio.neutral(self.model)
        self._tool = self.model.getFrameId(self.tool, pinocchio.FrameType.BODY)

    def tool_poses(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tool is for each row of joint positions; other joints stand at zero.

        Args:
            positions: [n, joints], radians (metres for prismatic joints), finite.

        Returns:
            [n, 3] float64 metres and [n, 4] float64 quaternions x, y, z, w.
        """
        places = np.empty((len(positions), 3))
        orientations = np.empty((len(positions), 4))
        for i, row in enumerate(np.asarray(positions, np.float64)):
            self._move(dict(zip(self.joints, row, strict=True)))
            pose = self._pin.updateFramePlacement(self.model, self._data, self._tool)
            places[i] = pose.translation
            orientations[i] = self._pin.Quaternion(pose.rotation).coeffs()
        return places, orientations

    def link_poses(self, values: Mapping[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Link -> position [3] in metres and quaternion [4] x, y, z, w.

        Args:
            values: joint -> radians or metres; joints that are not in it stand at zero, those that
                the robot does not have are ignored.
        """
        self._move(values)
        self._pin.updateFramePlacements(self.model, self._data)
        poses = {}
        for link in self.urdf.links:
            frame = self.model.getFrameId(link, self._pin.FrameType.BODY)
            pose = self._data.oMf[frame]
            poses[link] = (pose.translation.copy(), self._pin.Quaternion(pose.rotation).coeffs())
        return poses

    def _move(self, values: Mapping[str, float]) -> None:
        configuration = self._neutral.copy()
        for joint in self.urdf.joints.values():
            if not joint.moves:
                continue
            value = values.get(joint.name, 0.0)
            if joint.mimic:
                value = joint.multiplier * values.get(joint.mimic, 0.0) + joint.offset
            of_model = self.model.joints[self.model.getJointId(joint.name)]
            if of_model.nq == 2:  # continuous: its configuration is a point on the unit circle
                configuration[of_model.idx_q : of_model.idx_q + 2] = np.cos(value), np.sin(value)
            else:
                configuration[of_model.idx_q] = value
        self._pin.forwardKinematics(self.model, self._data, configuration)


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
    if not installed():
        raise UrdfError([MISSING])
    return _of_file(path, lambda text: parse_urdf(text).text)


def _of_file(path: Path, read: Callable[[str], T]) -> T:
    try:
        if path.stat().st_size > 4 * LARGEST:
            raise UrdfError([f"larger than {4 * LARGEST} bytes; no robot description"])
        return read(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems = [error.strerror or str(error)]
    except UnicodeDecodeError:
        problems = ["no XML: the file is no UTF-8 text"]
    except UrdfError as error:
        problems = list(error.problems)
    raise UrdfError([f"robot description {path}: {problem}" for problem in problems])
