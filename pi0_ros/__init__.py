"""pi0_ros: the pi0 vision-language-action model as a ROS 2 node.

The generated messages (`pi0_ros.msg`) are installed apart from the source tree; extending the
path lets both resolve when tests run from the tree.
"""

import os

__path__ = __import__("pkgutil").extend_path(__path__, __name__)

# Where torch_npu is installed but CANN is not sourced, `import torch` would fail by loading it.
# `pi0_ros.policy.device` loads it when an NPU is asked for, and says what is wrong.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
