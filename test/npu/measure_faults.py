"""What the graph report says of graphs that are not as they should be.

    python measure_faults.py STAND_INS OUT.json

in a process of its own: backends npugraph_ex and torchair cannot both be used in one. Writes
{"double" or "unsupported": lines of the report}.
"""

import json
import sys
from pathlib import Path

from benchmarks.graph_report import stand_ins

stand_ins.load(Path(sys.argv[1]))

import torch  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from benchmarks.graph_report import cost  # noqa: E402
from benchmarks.graph_report.lower import lower_module  # noqa: E402


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


def main() -> None:
    figures = {"double": lowered(Doubles()), "unsupported": lowered(Unsupported())}
    Path(sys.argv[2]).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
