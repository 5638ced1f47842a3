"""The simulated arm as URDF: `python -m benchmarks.arm_urdf` writes `pi0_ros/sim/so101.urdf` anew.

`so101.xml` is the original: links, joints, inertias and boxes are the compiled MuJoCo model's.
"""

from __future__ import annotations

import math
import sys
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from pi0_ros.sim.stage import ARM_URDF, ARM_XML, TIP_SITE, load_mujoco

MAX_VELOCITY = 4.7  # radians per second: an STS3215 servo without load, 60 degrees in 0.222 s
_CREDIT = (
    " SO-101 by TheRobotStudio (https://github.com/TheRobotStudio/SO-ARM100, Apache-2.0), without "
    "meshes. Written by benchmarks/arm_urdf.py from so101.xml; see there and NOTICE for what "
    "differs from the original. Units: metres, radians, kilograms. "
)


def arm_urdf() -> str:
    """The URDF document of the arm in `so101.xml`."""
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_path(str(ARM_XML))
    robot = Element("robot", name="so101")
    robot.append(ElementTree.Comment(_CREDIT))
    colours: dict[tuple[float, ...], str] = {}
    for body in range(1, model.nbody):
        link = SubElement(robot, "link", name=model.body(body).name)
        _add_inertial(link, model, body)
        for geom in np.flatnonzero(model.geom_bodyid == body):
            rgba = tuple(model.geom_rgba[geom].tolist())
            name = colours.setdefault(rgba, f"colour_{len(colours)}")
            _add_box(link, model, geom, name, rgba)
    for joint in range(model.njnt):
        _add_joint(robot, model, joint)
    SubElement(robot, "link", name="gripper_frame_link")
    frame = SubElement(robot, "joint", name="gripper_frame_joint", type="fixed")
    site = model.site(TIP_SITE)
    _add_origin(frame, site.pos, site.quat)
    SubElement(frame, "parent", link=model.body(int(site.bodyid[0])).name)
    SubElement(frame, "child", link="gripper_frame_link")
    ElementTree.indent(robot)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(robot, encoding="unicode") + "\n"


def _add_inertial(link: Element, model: Any, body: int) -> None:
    inertial = SubElement(link, "inertial")
    _add_origin(inertial, model.body_ipos[body], model.body_iquat[body])
    SubElement(inertial, "mass", value=_number(model.body_mass[body]))
    x, y, z = map(_number, model.body_inertia[body])
    SubElement(inertial, "inertia", ixx=x, iyy=y, izz=z, ixy="0", ixz="0", iyz="0")


def _add_box(link: Element, model: Any, geom: int, colour: str, rgba: tuple[float, ...]) -> None:
    visual = SubElement(link, "visual")
    _add_origin(visual, model.geom_pos[geom], model.geom_quat[geom])
    SubElement(SubElement(visual, "geometry"), "box", size=_numbers(2 * model.geom_size[geom]))
    material = SubElement(visual, "material", name=colour)
    SubElement(material, "color", rgba=_numbers(rgba))


def _add_joint(robot: Element, model: Any, index: int) -> None:
    joint = model.joint(index)
    body = int(joint.bodyid[0])
    parent = int(model.body_parentid[body])
    actuator = next(a for a in range(model.nu) if model.actuator_trnid[a, 0] == index)
    out = SubElement(robot, "joint", name=joint.name, type="revolute")
    _add_origin(out, model.body_pos[body], model.body_quat[body])
    SubElement(out, "parent", link=model.body(parent).name)
    SubElement(out, "child", link=model.body(body).name)
    SubElement(out, "axis", xyz=_numbers(joint.axis))
    low, high = map(_number, joint.range)
    effort = _number(model.actuator_forcerange[actuator, 1])
    SubElement(out, "limit", lower=low, upper=high, effort=effort, velocity=_number(MAX_VELOCITY))


def _add_origin(parent: Element, position: np.ndarray, quaternion: np.ndarray) -> None:
    SubElement(parent, "origin", xyz=_numbers(position), rpy=_numbers(_rpy(quaternion)))


def _rpy(quaternion: np.ndarray) -> tuple[float, float, float]:
    """Roll, pitch, yaw about fixed axes, radians, of a quaternion (w, x, y, z)."""
    matrix = np.zeros(9)
    load_mujoco().mju_quat2Mat(matrix, np.asarray(quaternion, dtype=float))
    r = matrix.reshape(3, 3)
    pitch = math.asin(float(np.clip(-r[2, 0], -1.0, 1.0)))
    if abs(r[2, 0]) > 1 - 1e-9:  # looking straight up or down: only yaw - roll is defined
        return math.atan2(-r[1, 2], r[1, 1]), pitch, 0.0
    return math.atan2(r[2, 1], r[2, 2]), pitch, math.atan2(r[1, 0], r[0, 0])


def _numbers(values: Any) -> str:
    return " ".join(map(_number, values))


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-9 else float(value):.7g}"


def main() -> int:
    """Write `so101.urdf`."""
    ARM_URDF.write_text(arm_urdf())
    return 0


if __name__ == "__main__":
    sys.exit(main())
