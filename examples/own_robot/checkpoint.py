"""Writes a stand-in for your fine-tuned checkpoint: python examples/own_robot/checkpoint.py DIR

It has the form of one that LeRobot wrote for this robot, with random weights: its actions stay
within a few degrees of the pose that its statistics are about, and mean nothing.
"""

import sys
from pathlib import Path

from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY

# Mean and standard deviation of each number, in the checkpoint's units: degrees, and 0 to 1.
JOINTS = {
    "joint1": (0.0, 1.0),
    "joint2": (-45.0, 1.0),
    "joint3": (0.0, 1.0),
    "joint4": (-135.0, 1.0),
    "joint5": (0.0, 1.0),
    "joint6": (90.0, 1.0),
    "joint7": (45.0, 1.0),
    "finger": (0.5, 0.02),
}

if __name__ == "__main__":
    write_random_checkpoint(Path(sys.argv[1]), TINY, cameras=("base", "wrist"), joints=JOINTS)
