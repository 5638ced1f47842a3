"""A synthetic arm of seven joints, as many arms are built: roll and pitch joints in turn."""

from __future__ import annotations

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
LENGTHS = (0.3, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1)
"""Metres from each link's joint to the next one's; straight up where all joints are zero."""
TOOL = sum(LENGTHS)
"""Metres from the floor to the tool then."""


def seven_joint_urdf(shape: str = "box", kind: str = "revolute", more: str = "") -> str:
    """The URDF.

    Args:
        shape: of the links: "box", "cylinder", "none", or the name of a mesh file of one metre
            along z, which is scaled.
        kind: of the joints.
        more: elements of the robot.
    """
    parts = []
    for number, length in enumerate(LENGTHS):
        size = length - 0.04
        geometry = {
            "box": f'<box size="0.08 0.08 {size:.3f}"/>',
            "cylinder": f'<cylinder radius="0.04" length="{size:.3f}"/>',
        }.get(shape, f'<mesh filename="{shape}" scale="0.08 0.08 {size:.3f}"/>')
        body = (
            f'<collision><origin xyz="0 0 {length / 2}"/><geometry>{geometry}</geometry>'
            "</collision>"
        )
        parts.append(f'<link name="link{number}">{body if shape != "none" else ""}</link>')
    for number, name in enumerate(JOINTS):
        axis = "0 1 0" if number % 2 else "0 0 1"
        parts.append(
            f'<joint name="{name}" type="{kind}"><parent link="link{number}"/>'
            f'<child link="link{number + 1}"/><origin xyz="0 0 {LENGTHS[number]}"/>'
            f'<axis xyz="{axis}"/><limit lower="-3" upper="3" velocity="2" effort="1"/></joint>'
        )
    parts.append(
        f'<link name="tool"/><joint name="tool_joint" type="fixed"><parent link="link7"/>'
        f'<child link="tool"/><origin xyz="0 0 {LENGTHS[-1]}"/></joint>'
    )
    return f'<robot name="seven">{"".join(parts)}{more}</robot>'
