"""Runs a module beside torch_npu and stand-ins for CANN, in a process of its own:

    python -m npu.under_stand_ins STAND_INS MODULE [ARGUMENT ...]

The stand-ins have to be loaded before anything imports torch. MODULE has main(*arguments).
"""

import importlib
import sys
from pathlib import Path

from benchmarks.graph_report import stand_ins


def main(folder: str, module: str, *arguments: str) -> None:
    stand_ins.load(Path(folder))
    importlib.import_module(module).main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
