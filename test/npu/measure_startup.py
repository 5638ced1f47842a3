"""Which device is taken beside the real torch_npu, where something does not fit.

    python -m npu.under_stand_ins STAND_INS npu.measure_startup OUT.json FOLDER

in a process of its own. Writes {case: {"auto": device, "why": the warning, "npu": device or the
refusal, "imported": whether torch_npu was}}; the last case has everything in order.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from unittest import mock

import torch

from pi0_ros.policy.device import DeviceError, resolve_device


@contextmanager
def build_for_cuda(folder: Path) -> Iterator[None]:
    """Known by the library that it brings."""
    library = folder / "torch" / "lib" / "libtorch_cuda.so"
    library.parent.mkdir(parents=True)
    library.touch()
    with mock.patch.object(torch, "__file__", str(folder / "torch" / "__init__.py")):
        yield


@contextmanager
def another_release(folder: Path) -> Iterator[None]:
    """The record of an installation that stands before the real one."""
    record = folder / "torch_npu-2.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_npu\nVersion: 2.1.0\n")
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        yield


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, variables):
        yield


def resolved(name: str) -> str:
    try:
        return str(resolve_device(name))
    except DeviceError as error:
        return str(error)


def main(out: str, folder: str) -> None:
    there = Path(folder)
    assert util.find_spec("torch_npu") is not None and metadata.version("torch_npu")
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"):
        os.environ.pop(name, None)
    cases = {
        "build for CUDA": build_for_cuda(there),
        "another release": another_release(there),
        "CANN is gone": environment(ASCEND_HOME_PATH=str(there / "gone")),
        "CANN without operators": environment(ASCEND_HOME_PATH=folder),
        "in order": environment(),
    }
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("pi0_ros").addHandler(handler)
    figures = {}
    for name, case in cases.items():
        warnings.clear()
        with case:
            figures[name] = {
                "auto": resolved("auto"),
                "npu": resolved("npu:0"),
                "why": "\n".join(warnings),
                "imported": "torch_npu" in sys.modules,
            }
    Path(out).write_text(json.dumps(figures, indent=2))
