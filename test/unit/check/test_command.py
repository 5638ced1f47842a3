"""`pi0 check`: a sound CPU passes, and a wrong kernel or model does not."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pi0_ros import cli
from pi0_ros.check import cpu, speed, whole
from pi0_ros.check.kernels import PIECES, kernel_rows
from pi0_ros.check.runner import Result, Row
from pi0_ros.check.speed import Way, speed_rows
from pi0_ros.check.subject import Subject, find_subject
from pi0_ros.check.whole import whole_rows
from pi0_ros.model.ops.reference import Reference

CPU = torch.device("cpu")


def subject(raw: Path, dtype: str = "float32", model: str = "pi0", **options: Any) -> Subject:
    args = {"device": "cpu", "dtype": dtype, "cameras": 2, "checkpoint": None}
    return replace(find_subject(Namespace(**args, model=model, size="tiny"), raw), **options)


def measured(rows: Any) -> dict[str, Result]:
    return {row.name: row.measure(60.0) for row in rows}


@pytest.mark.timeout(900)
def test_a_cpu_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    # Time for a busy machine, and yet too little for the compiler.
    eager, inductor = cpu.WAYS
    monkeypatch.setattr(cpu, "WAYS", (eager, replace(inductor, seconds=5000)))
    status = cli.main(["check", "--device", "cpu", "--size", "tiny", "--budget", "2000"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    document = json.loads(Path("pi0_check/check.json").read_text())
    assert document["kind"] == "cpu" and document["dtype"] == "float32"
    assert document["facts"]["torch"] == torch.__version__
    rows = {row["name"]: row for row in document["rows"]}
    assert set(PIECES) <= set(rows)
    assert {rows[name]["status"] for name in PIECES} == {"ok"}
    assert rows["actions against float32"]["figures"]["cosine"] > 0.999999
    figures = rows["eager"]["figures"]
    assert figures["p99"] >= figures["p50"] > 0 and figures["memory"] > 1e8
    assert figures["profile"]["kernels"] > 0
    # A compiler does not fit into this budget.
    assert rows["inductor two-graph"]["status"] == "left out"
    assert "left out for want of time: inductor" in printed
    assert Path("pi0_check/check.tar.gz").stat().st_size > 1000
    assert cli.main(["check", "--size", "tiny", "--device", "cpu"]) == 1, "results are not replaced"


def test_the_status_tells_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    failure = Row("kernels", "a kernel", lambda left: Result("wrong", passed=False))
    monkeypatch.setattr(cpu, "rows", lambda subject: [failure])
    arguments = ["check", "--device", "cpu", "--size", "tiny", "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--json", str(tmp_path / "figures.json")]) == 1
    assert "FAILED: a kernel" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["rows"][0]["status"] == "FAILED"


def test_a_device_without_rows_is_refused(tmp_path: Path, capsys) -> None:
    assert cli.main(["check", "--device", "meta", "--out", str(tmp_path / "out")]) == 1
    assert "there is a check for cpu, cuda, npu" in capsys.readouterr().err


class Wrong(Reference):
    def rms_norm(self, x, gain):
        return super().rms_norm(x, gain) * 1.1

    def attention(self, q, kv, mask, scale, past=None):
        return super().attention(q, kv, mask, 1.1 * scale, past)

    def geglu(self, x, linear, bias=None):
        out = super().geglu(x, linear, bias)
        out[0, 0, 0] = torch.nan
        return out


@pytest.mark.parametrize("model", ["pi0", "pi05"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_that_are_wrong_fail_and_others_do_not(
    tmp_path: Path, dtype: str, model: str
) -> None:
    of = subject(tmp_path, dtype, model)
    right = measured(kernel_rows(of, Reference()))
    assert all(result.passed for result in right.values()), right
    wrong = measured(kernel_rows(of, Wrong()))
    sound = {name for name, result in wrong.items() if result.passed}
    assert sound == {"vision MLP"}


def test_a_value_that_is_not_finite_or_saturated_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = subject(tmp_path)
    assert all(result.passed for result in measured(whole_rows(of)).values())
    limit = torch.finfo(torch.float32).max
    for value, word in ((float("nan"), "1 values are not finite"), (limit, "1 saturated")):
        given = torch.tensor([1.0, value, 1.0])
        with whole._Scan() as seen:
            torch.ones(3).mul(2.0)
            torch.ones(3).mul(given)
        result = seen.result()
        assert result.passed is False
        assert word in result.text and "first in aten.mul" in result.text
    with whole._Scan() as seen:
        torch.full((3,), 70000.0).add(1.0)
        torch.empty(1000)
    assert seen.result().passed and "beyond float16's" in seen.result().text


def test_a_model_that_computes_something_else_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = torch.randn(50, 32)
    monkeypatch.setattr(whole, "expected_actions", lambda subject: other)
    assert measured(whole_rows(subject(tmp_path)))["actions against float32"].passed is False


def test_without_memory_for_float32_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "host_memory", lambda: 10)
    result = measured(whole_rows(subject(tmp_path)))["actions against float32"]
    assert result.passed is None and "not compared" in result.text


def test_a_way_that_fails_or_hangs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = subject(tmp_path)
    rows = {
        row.name: row
        for row in speed_rows(
            of, [Way("impossible", {"graph": "torchair"}), Way("too slow", {"graph": "eager"})]
        )
    }
    with pytest.raises(RuntimeError, match=r"ended with status 1: .*needs an NPU.*impossible\.log"):
        rows["impossible"].measure(60.0)
    with pytest.raises(RuntimeError, match="not done in the 0 s left"):
        rows["too slow"].measure(0.1)


def test_a_way_with_other_actions_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"p50": 0.1, "p99": 0.1, "ready": 1.0, "memory": 1}
    made = iter([torch.randn(50, 32), torch.randn(50, 32)])

    def child(of: Subject, way: Way, left: float) -> dict[str, Any]:
        speed.np.save(of.raw / f"{way.name}.npy", next(made).numpy())
        return figures

    monkeypatch.setattr(speed, "_in_a_process", child)
    first, second = measured(speed_rows(subject(tmp_path), [Way("a", {}), Way("b", {})])).values()
    assert first.passed is None and second.passed is False
