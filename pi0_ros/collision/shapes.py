"""The shapes of a URDF's links as pinocchio's geometry, and the files of its meshes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pi0_ros.collision.kinematics import Arm
from pi0_ros.motion.urdf import UrdfError

LARGEST_MESH = 64 * 2**20
"""Bytes of a mesh file at most."""


def package_folders(urdf: Path | None) -> list[str]:
    """Folders in which package://NAME/... is looked for: ROS workspaces, and beside the URDF."""
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    above = [] if urdf is None else list(urdf.resolve().parents)[:4]
    return [*(str(Path(prefix, "share")) for prefix in prefixes), *map(str, above)]


def collision_shapes(arm: Arm, path: Path) -> Any:
    """Pinocchio's GeometryModel of the <collision> shapes; of <visual> ones if there are no others.

    Args:
        path: the URDF file; meshes with relative names lie beside it.

    Raises:
        UrdfError: lists the meshes that are not there; or no link has a shape.
    """
    import pinocchio

    if not hasattr(pinocchio, "computeCollisions"):
        raise UrdfError(
            ["this pinocchio was built without coal (hpp-fcl), its collisions: pip install pin"]
        )
    robot = ElementTree.fromstring(arm.urdf.text)
    parts = [p for p in ("collision", "visual") if robot.find(f"link/{p}/geometry") is not None]
    if not parts:
        raise UrdfError(["no link has a <collision> or <visual> shape: nothing can be checked"])
    problems = _find_meshes(robot, parts[0], path)
    if problems:
        raise UrdfError(problems)
    kind = getattr(pinocchio.GeometryType, parts[0].upper())
    text = ElementTree.tostring(robot, encoding="unicode")
    try:
        return pinocchio.buildGeomFromUrdfString(arm.model, text, kind)
    except (ValueError, RuntimeError) as error:
        raise UrdfError([f"its meshes cannot be read: {error}"]) from error


def _find_meshes(robot: ElementTree.Element, part: str, path: Path) -> list[str]:
    """Make the names of mesh files absolute; what is missing, in sentences."""
    problems, folders = [], package_folders(path)
    for link in robot.iterfind("link"):
        for mesh in link.iterfind(f"{part}/geometry/mesh"):
            name = mesh.get("filename", "")
            file = _mesh_file(name, folders, path.resolve().parent)
            if file is None:
                where = f"; looked in {', '.join(folders)}" if "package://" in name else ""
                problems.append(f"link {link.get('name')}: no mesh file {name}{where}")
            elif file.stat().st_size > LARGEST_MESH:
                problems.append(
                    f"link {link.get('name')}: the mesh file {name} is larger than {LARGEST_MESH}"
                    " bytes; give the link a simpler <collision> shape"
                )
            else:
                mesh.set("filename", str(file))
    return problems


def _mesh_file(name: str, folders: Sequence[str], beside: Path) -> Path | None:
    scheme, separator, rest = name.partition("://")
    if not separator:
        candidates = [beside / name]
    elif scheme == "package":
        candidates = [Path(folder, rest) for folder in folders]
    else:
        candidates = [Path(rest)] if scheme == "file" else []
    return next((file for file in candidates if file.is_file()), None)
