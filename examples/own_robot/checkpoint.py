"""Writes a stand-in for your fine-tuned checkpoint: python examples/own_robot/checkpoint.py DIR

It has the form of one that LeRobot wrote for this robot, with random weights: its actions stay
within a few degrees of the pose that its statistics are about, and mean nothing. Beside it lies the
data set's meta/info.json, which names the joints and the pace; keep it beside yours.
"""

import json
import sys
from pathlib import Path

from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY

# Mean and standard deviation of each number, in the checkpoint's units: degrees, and 0 to 1.
JOINTS = {
    "joint1": (20.0, 1.0),
    "joint2": (-45.0, 1.0),
    "joint3": (15.0, 1.0),
    "joint4": (-135.0, 1.0),
    "joint5": (10.0, 1.0),
    "joint6": (90.0, 1.0),
    "joint7": (45.0, 1.0),
    "finger": (0.5, 0.02),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_random_checkpoint(folder, TINY, cameras=("base", "wrist"), joints=JOINTS)
    state = {"dtype": "float32", "shape": [len(JOINTS)], "names": list(JOINTS)}
    info = {"codebase_version": "v3.0", "fps": 20, "features": {"observation.state": state}}
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=2))
