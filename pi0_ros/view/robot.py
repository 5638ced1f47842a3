"""The shapes of a robot's links, as triangles: boxes, cylinders, spheres and meshes of a URDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.collision.kinematics import Arm
from pi0_ros.motion.urdf import UrdfError


@dataclass(frozen=True)
class Shape:
    """Triangles of one colour that move with a link.

    Attributes:
        link: in whose frame `vertices` are.
        vertices: [n, 3] float32, metres.
        faces: [m, 3] int, rows of `vertices`.
        colour: red, green, blue, 0 to 255.
    """

    link: str
    vertices: np.ndarray
    faces: np.ndarray
    colour: tuple[int, int, int]


def robot_shapes(arm: Arm, folders: Sequence[str] = ()) -> list[Shape]:
    """The visual shapes of every link, one per link and colour.

    Args:
        folders: see `pi0_ros.collision.shapes.package_folders`.

    Raises:
        UrdfError: a mesh cannot be found or read, or nothing is to be seen of the robot.
    """
    import pinocchio
    import trimesh

    kind = pinocchio.GeometryType.VISUAL
    try:
        geometry = pinocchio.buildGeomFromUrdfString(
            arm.model, arm.urdf.text, kind, package_dirs=list(folders)
        )
    except (ValueError, RuntimeError) as error:
        raise UrdfError(
            [f"its meshes cannot be read: {error}; looked for packages in {', '.join(folders)}"]
        ) from error
    parts: dict[tuple[str, tuple[int, int, int]], list[Any]] = {}
    for item in geometry.geometryObjects:
        frame = arm.model.frames[item.parentFrame]
        mesh = _triangles(item)
        # Pinocchio places shapes in the frame of the joint above them.
        mesh.apply_transform((frame.placement.inverse() * item.placement).homogeneous)
        colour = tuple(round(255 * float(c)) for c in item.meshColor[:3])
        parts.setdefault((frame.name, colour), []).append(mesh)
    if not parts:
        raise UrdfError(["no link of it has a <visual>: there is nothing to see of the robot"])
    shapes = []
    for (link, colour), meshes in parts.items():
        whole = trimesh.util.concatenate(meshes)
        shapes.append(Shape(link, np.asarray(whole.vertices, np.float32), whole.faces, colour))
    return shapes


def _triangles(item: Any) -> Any:
    """A trimesh.Trimesh of one of pinocchio's geometry objects.

    Raises:
        UrdfError: a mesh that trimesh cannot read, or a shape that URDFs do not have.
    """
    import trimesh

    shape, name = item.geometry, type(item.geometry).__name__
    if name == "Box":
        return trimesh.creation.box(2 * np.asarray(shape.halfSide))
    if name == "Cylinder":
        return trimesh.creation.cylinder(shape.radius, 2 * shape.halfLength, sections=32)
    if name == "Sphere":
        return trimesh.creation.icosphere(subdivisions=2, radius=shape.radius)
    if name == "Capsule":
        return trimesh.creation.capsule(2 * shape.halfLength, shape.radius)
    try:
        mesh = trimesh.load(item.meshPath, force="mesh")
    except Exception as error:  # trimesh's readers raise errors of many kinds
        raise UrdfError([f"the mesh {item.meshPath} cannot be read: {error}"]) from error
    mesh.apply_scale(np.asarray(item.meshScale))
    return mesh
