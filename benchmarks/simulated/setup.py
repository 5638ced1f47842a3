"""The node's parameters and joint limits for the simulated arm, read without ROS."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ros.motion.limits import JointLimits
from pi0_ros.node.arguments import read_arguments, write_arguments
from pi0_ros.node.parameters import NodeParameters, read_parameters
from pi0_ros.node.preflight import load_limits
from pi0_ros.share import find_shared_file

PARAMETERS, LIMITS = "touch.yaml", "so101_limits.yaml"


@dataclass(frozen=True)
class NodeSetup:
    """What a node is configured with."""

    parameters: NodeParameters
    limits: JointLimits


def read_setup(**given: object) -> NodeSetup:
    """config/touch.yaml and config/so101_limits.yaml, checked as the node checks them.

    Args:
        given: parameters that replace those of the file, by name; `checkpoint` at least.

    Raises:
        ParameterError, LimitsError, FileNotFoundError: they cannot be used.
    """
    files = [find_shared_file(f"config/{name}") for name in (PARAMETERS, LIMITS)]
    if None in files:
        raise FileNotFoundError(f"config/{PARAMETERS} or config/{LIMITS} is not there")
    arguments = read_arguments(write_arguments(files[:1]))
    values = {**arguments.overrides, "joint_limits": str(files[1]), **given}
    parameters = read_parameters(values)
    return NodeSetup(parameters, load_limits(parameters))
