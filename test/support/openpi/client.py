"""Asks a server as openpi's users do: HOST PORT KEY KIND; prints what came as JSON.

Runs with openpi's packages alone: nothing of pi0_ros is importable here.
"""

import json
import sys

import numpy as np
from openpi_client import image_tools
from openpi_client.websocket_client_policy import WebsocketClientPolicy

host, port, key, kind = sys.argv[1:]
rng = np.random.default_rng(0)
image = image_tools.resize_with_pad(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), 224, 224)
observations = {
    "droid": {
        "observation/exterior_image_1_left": image,
        "observation/wrist_image_left": image,
        "observation/joint_position": np.arange(2.0),
        "observation/gripper_position": np.array([2.0]),
    },
    "libero": {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.arange(3, dtype=np.float32),
    },
    "aloha": {
        "state": np.arange(3.0),
        "images": {
            name: np.moveaxis(image, 2, 0) for name in ("cam_high", "cam_left_wrist")
        },
    },
}  # fmt: skip
policy = WebsocketClientPolicy(host, int(port), api_key=key or None)
answers = [policy.infer({**observations[kind], "prompt": "go"}) for _ in range(3)]
error = ""
try:
    policy.infer({"prompt": "go"})
except RuntimeError as raised:
    error = str(raised)
print(
    json.dumps(
        {
            "numpy": np.__version__,
            "metadata": sorted(policy.get_server_metadata()),
            "keys": sorted(answers[0]),
            "first": answers[0]["actions"][0].tolist(),
            "dtype": str(answers[0]["actions"].dtype),
            "shape": list(answers[0]["actions"].shape),
            "error": error,
        }
    )
)
