"""The node's parameters and joint limits as the simulation uses them, read without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.motion.limits import JointLimits, read_limits
from pi0_ros.node.parameters import NodeParameters, build, resolve
from pi0_ros.share import find_shared_file

PARAMETERS = "touch.yaml"
LIMITS = "so101_limits.yaml"


@dataclass(frozen=True)
class NodeSetup:
    """What a node is configured with."""

    parameters: NodeParameters
    limits: JointLimits


def config_file(name: str) -> Path:
    """A file of the package's folder config: of the source tree, otherwise of an installation.

    Raises:
        FileNotFoundError: there is none.
    """
    tree = Path(__file__).resolve().parents[2] / "config" / name
    file = tree if tree.is_file() else find_shared_file(f"config/{name}")
    if file is None:
        raise FileNotFoundError(f"config/{name} is not in the pi0_ros share directory")
    return file


def read_setup(**given: object) -> NodeSetup:
    """config/touch.yaml and config/so101_limits.yaml, checked as the node checks them.

    Args:
        given: parameters that take the place of the file's, by name; `checkpoint` at least.

    Raises:
        ParameterError, LimitsError, FileNotFoundError: they cannot be used.
    """
    limits = config_file(LIMITS)
    document = yaml.safe_load(config_file(PARAMETERS).read_text())
    values = dict(_flat(document["/**"]["ros__parameters"]))
    parameters = build(resolve({**values, "joint_limits": str(limits), **given}))
    return NodeSetup(
        parameters,
        read_limits(limits, parameters.joint_names, parameters.default_acceleration),
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested names as ROS joins them, by dots."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
