"""openpi's server with a stub model: PORT. Runs with openpi's packages alone."""

import sys

import numpy as np
from openpi_client.base_policy import BasePolicy
from openpi_server import WebsocketPolicyServer


class Stub(BasePolicy):
    def infer(self, obs):
        state = np.asarray(obs["observation/state"], np.float32)
        image = obs["observation/image"]
        assert image.dtype == np.uint8 and image.shape[2] == 3, (image.dtype, image.shape)
        assert isinstance(obs["prompt"], str)
        if obs["prompt"] == "raise":
            raise RuntimeError("asked to raise")
        return {"actions": state + np.arange(10, dtype=np.float32)[:, None], "state": state}


print("serving", flush=True)
WebsocketPolicyServer(Stub(), "127.0.0.1", int(sys.argv[1]), {"reset_pose": [0.0]}).serve_forever()
