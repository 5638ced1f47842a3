"""The Ascend backend on torch_npu's schemas and CPU kernels written from the documents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOLERANCE = 1e-5
CASES = [
    "plain",
    "padded prompt",
    "batch of two",
    "vision heads of 12",
    "two key heads",
    "pi0.5",
    "pi0.5, padded prompt",
    "pi0.5, batch of two",
]
TRAPS = [
    "mask inverted",
    "norm without 1 +",
    "causal by default",
    "geglu halves swapped",
    "RoPE interleaved",
]


@pytest.fixture(scope="module")
def figures(
    stand_ins: Path, with_torch_npu: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("figures") / "figures.json"
    with_torch_npu("-m", "npu.under_stand_ins", stand_ins, "npu.measure", out)
    return json.loads(out.read_text())


def test_all_cases_are_measured(figures: dict[str, Any]) -> None:
    assert set(figures["parity"]) == set(CASES)
    assert set(figures["traps"]) == set(TRAPS)


@pytest.mark.parametrize("kernel", ["fia", "pfa", "fia broadcast", "pfa broadcast"])
@pytest.mark.parametrize("case", CASES)
def test_ascend_computes_what_the_reference_does(
    figures: dict[str, Any], case: str, kernel: str
) -> None:
    assert figures["parity"][case][kernel] <= TOLERANCE


@pytest.mark.parametrize("trap", TRAPS)
def test_the_comparison_catches_a_kernel_called_wrongly(figures: dict[str, Any], trap: str) -> None:
    assert figures["traps"][trap] > 1000 * TOLERANCE


def test_int8_is_called_as_its_schemas_say(figures: dict[str, Any]) -> None:
    assert len(figures["int8"]) == 3 and min(figures["int8"].values()) >= 0.999


def test_npugraph_ex_traces_the_same_computation(figures: dict[str, Any]) -> None:
    assert figures["npugraph_ex"] == 0.0


def test_the_stand_in_device_computes_nothing(figures: dict[str, Any]) -> None:
    assert "500000" in figures["no_stand_in_computes"]
