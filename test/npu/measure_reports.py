"""Graph reports, one after the other in one process: torch_npu takes longer to import than most
take to make.

    python -m npu.under_stand_ins STAND_INS npu.measure_reports FOLDER

FOLDER/cases.json has {name: options}; each report becomes FOLDER/NAME.json and FOLDER/NAME.txt, or
FOLDER/NAME.error.
"""

import contextlib
import json
import os
import traceback
from pathlib import Path

import torch

from benchmarks.graph_report import __main__ as command
from pi0_ros.cli import call


def main(folder: str) -> None:
    os.chdir(folder)  # where options name a file
    cases = json.loads(Path(folder, "cases.json").read_text())
    for name, options in cases.items():
        file = Path(folder, name)
        torch._dynamo.reset()
        try:
            with open(f"{file}.txt", "w") as out, contextlib.redirect_stdout(out):
                call("graph_report", command, [*options, "--json", f"{file}.json"])
        except Exception:
            Path(f"{file}.error").write_text(traceback.format_exc())
