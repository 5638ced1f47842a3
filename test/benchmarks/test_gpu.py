"""The benchmark of a GPU, on a CPU with a tiny model: its rows, its budget, what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_row
from benchmarks.race import case as race_case
from pi0_ros.model.config import TINY


@pytest.mark.parametrize("variant", ["pi0", "pi05"])
def test_rows_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.setattr(race_case, "TINY", TINY)
    for row in ("float32", "kernels", "inductor", "float8"):
        job = {
            "row": row,
            "device": "cpu",
            "tiny": True,
            "cameras": 2,
            "prompt": 20,
            "frames": 2,
            "variant": variant,
            "expected": str(tmp_path / "expected.pt"),
            "out": str(tmp_path / "row.json"),
        }
        monkeypatch.setattr(sys, "argv", ["gpu_row", json.dumps(job)])
        gpu_row.main()
        found = json.loads((tmp_path / "row.json").read_text())
        assert 0 < found["least_ms"] <= found["p50_ms"] <= found["p99_ms"]
        assert found["ready_s"] > 0
        # In bfloat16 the actions are other ones, but nearly.
        assert found["cosine"] > (0.999999 if row == "float32" else 0.99)
        assert (found["largest_difference"] == 0) == (row == "float32")


def test_rows_of_the_machine(tmp_path: Path) -> None:
    job = {"device": "cpu", "tiny": True, "cameras": 2, "prompt": 48, "frames": 2, "variant": "pi0"}
    case = gpu_row.Case(job)
    found = gpu_row.limits(case)
    assert found["tflop_per_s"] > 0 and found["tb_per_s"] > 0
    bound = found["bound_ms"]
    assert bound["frame"] == pytest.approx(bound["vision"] + bound["prefix"] + bound["denoise"])
    assert gpu_row.images(case)["largest_difference_in_255"] <= 1.001


def test_rows_come_one_by_one_and_a_failure_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    written: list[set[str]] = []

    def run(command: list[str], env: dict, limit: float) -> tuple[int | None, str]:
        job = json.loads(command[-1])
        written.append(set(json.loads(out.read_text())["rows"]) if out.is_file() else set())
        figures = {"bound_ms": {"frame": 5.0}} if job["row"] == "limits" else {"p50_ms": 20.0}
        if job["row"] != "inductor":
            Path(job["out"]).write_text(json.dumps(figures))
        return {"captured": (-11, "illegal access"), "inductor": (None, "")}.get(
            job["row"], (0, "")
        )

    monkeypatch.setattr(gpu, "run", run)
    rows = ["limits", "eager", "captured", "inductor", "LeRobot eager"]
    status = gpu.main(["--json", str(out), "--peers", str(tmp_path), "--rows", *rows])
    assert status == 1, "a row failed"
    assert written == [set(), {"limits"}, {"limits", "eager"}, {"limits", "eager", "captured"}]
    found = json.loads(out.read_text())["rows"]
    assert found["captured"]["failed"] == "exit status -11: illegal access"
    assert found["captured"]["p50_ms"] == 20.0, "what was measured before counts"
    assert found["inductor"]["skipped"] == "not ready after 150 s"
    assert "LeRobot is not in" in found["LeRobot eager"]["skipped"]
    text = capsys.readouterr().out
    assert "| eager | 20 |  | 4 |" in text, "four times the bound"


def test_a_budget_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "run", lambda *a: pytest.fail("there is no time"))
    assert gpu.main(["--budget", "10", "--json", str(tmp_path / "x.json")]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert set(rows) == set(gpu.ROWS)
    assert {row["skipped"] for row in rows.values()} == {"the time for all rows is over"}


def test_a_process_that_is_late_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    assert gpu.run(command, {}, 0.1) == (None, "")
    command = [sys.executable, "-c", "print('last words'); raise SystemExit(3)"]
    assert gpu.run(command, {}, 100) == (3, "last words")


def test_all_rows_fit_into_nine_minutes() -> None:
    assert gpu.parse([]).budget + 15 < 9 * 60
