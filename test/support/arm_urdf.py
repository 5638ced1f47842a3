"""A robot for the tests' three joints: two bars that turn about z, and a hand with a finger."""

from __future__ import annotations

import numpy as np

LENGTHS = (0.4, 0.3)  # metres from pan to lift, and from lift to the tool


def arm_urdf(tool: str = "tool", kind: str = "revolute", extra: str = "") -> str:
    """The tool turns with pan and lift; gripper moves a finger beside it."""
    limit = '<limit lower="-3" upper="3" effort="1" velocity="1"/>'
    turning = '<axis xyz="0 0 1"/>' + (limit if kind == "revolute" else "")
    joints = [
        ("pan", kind, "base", "upper", 0.0, turning),
        ("lift", kind, "upper", "lower", LENGTHS[0], turning),
        ("gripper", "prismatic", "lower", "finger", 0.1, '<axis xyz="1 0 0"/>' + limit),
        ("tool_joint", "fixed", "lower", tool, LENGTHS[1], ""),
        ("wheel", "continuous", "base", "wheel_link", 0.0, '<axis xyz="0 0 1"/>'),
    ]
    links = ("base", "upper", "lower", tool, "finger", "wheel_link")
    box = '<visual><geometry><box size="0.1 0.02 0.02"/></geometry></visual>'
    parts = [f'<link name="{name}">{box}</link>' for name in links]
    parts += [
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{x} 0 0"/>{more}</joint>'
        for name, kind, parent, child, x, more in joints
    ]
    return f'<robot name="arm">{"".join(parts)}{extra}</robot>'


def tool_places(positions: np.ndarray) -> np.ndarray:
    """[n, 3]: where the tool of `arm_urdf` is for rows of pan, lift, ... in radians."""
    pan, both = positions[:, 0], positions[:, 0] + positions[:, 1]
    x = LENGTHS[0] * np.cos(pan) + LENGTHS[1] * np.cos(both)
    y = LENGTHS[0] * np.sin(pan) + LENGTHS[1] * np.sin(both)
    return np.column_stack([x, y, np.zeros(len(positions))])
