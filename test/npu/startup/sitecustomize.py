"""Python imports this by itself where its folder is on PYTHONPATH: see `npu.emulated`."""

import os

if "PI0_EMULATED_NPU" in os.environ:
    from npu import emulated

    emulated.start(os.environ["PI0_EMULATED_NPU"])
