"""The rows for a GPU of NVIDIA, on the CPU: kernels in Triton's interpreter, times made up."""

from argparse import Namespace
from importlib import util
from pathlib import Path

import pytest

from pi0_ros.check import cuda as rows
from pi0_ros.check.subject import find_subject
from pi0_ros.model.ops import cuda
from pi0_ros.policy.compile import GraphOptions


@pytest.mark.skipif(util.find_spec("triton") is None, reason="Triton has wheels for Linux only")
def test_each_kernel_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "KERNELS", ("add_rms_norm",))
    monkeypatch.setattr(cuda, "seconds", lambda call, device: 1e-6)
    args = {"device": "cpu", "dtype": None, "cameras": 2, "checkpoint": None}
    subject = find_subject(Namespace(**args, model="pi0", size="tiny"), tmp_path)
    (row,) = rows.own_kernel_rows(subject)
    found = row.measure(60.0)
    assert found.passed
    assert found.figures["own"] == found.figures["torch"] > 0
    monkeypatch.setattr(cuda, "EPS", 0.1)
    assert not row.measure(60.0).passed, "another norm is not the reference's"


def test_ways_are_options_of_graphs() -> None:
    graphs = [GraphOptions(**way.options).graph for way in rows.WAYS]
    assert graphs[0] == "eager", "what the others are compared with"
    assert {"cudagraph", "inductor_cudagraph"} < set(graphs)
