"""What the graph report says of graphs that are not as they should be.

    python -m npu.under_stand_ins STAND_INS npu.measure_faults OUT.json

in a process of its own: backends npugraph_ex and torchair cannot both be used in one. Writes
{"double" or "unsupported": lines of the report}.
"""

import json
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.graph_report import cost
from benchmarks.graph_report.lower import lower_module


class Doubles(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.double() * 2).float()


class Unsupported(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, 1, dims=0)


def lowered(module: torch.nn.Module) -> list[str]:
    """What the graph report has against a module of one argument."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        graph = lower_module("test", 1, module, (torch.empty(4, device="npu"),))
    if graph.ge is None:
        return graph.unsupported
    nodes = cost.nodes(graph.ge, graph.fx, graph.repeats)
    return graph.unsupported + cost.summarize(nodes).doubles


def main(out: str) -> None:
    figures = {"double": lowered(Doubles()), "unsupported": lowered(Unsupported())}
    Path(out).write_text(json.dumps(figures, indent=2))
