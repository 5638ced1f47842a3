"""`pi0 profile` as a command: what it prints, writes and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.waiting import PATIENCE

from pi0_ros.cli import main
from pi0_ros.console import FAILED, WRONG_ARGUMENTS
from pi0_ros.profile.parser import KERNELS, STEPS


def profile(*arguments: object) -> int:
    return main(["profile", *map(str, arguments)])


def write_profile(folder: Path, free: float) -> Path:
    folder.mkdir()
    (folder / KERNELS).write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us),Block Dim\n"
        "a,MatMulV2,AI_CORE,1000,53700,20\nb,Mul,AI_VECTOR_CORE,54700,17900,20\n"
    )
    (folder / STEPS).write_text(
        f"Step,Computing,Communication(Not Overlapped),Free\n,71600,0,{free}\n"
    )
    return folder


def test_report(tmp_path, capsys):
    file = tmp_path / "new" / "figures.json"
    assert profile("report", write_profile(tmp_path / "p", 4580), "--json", file) == 0
    figures = json.loads(file.read_text())
    assert figures["computing_ms"] == 71.6
    assert figures["free_ms"] == 4.58
    assert round(figures["busy_share"], 4) == 0.9399
    assert figures["core_share"] == pytest.approx({"AI_CORE": 0.75, "AI_VECTOR_CORE": 0.25})
    assert figures["top_kernels"][0]["type"] == "MatMulV2"
    printed = capsys.readouterr().out
    for part in ("71.600 ms", "4.580 ms", "94.0 %", "AI_CORE", "75.0 %"):
        assert part in printed


def test_compare_and_draw(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    before = write_profile(tmp_path / "before", 40_000)
    after = write_profile(tmp_path / "after", 4580)
    png = tmp_path / "t.png"
    assert profile("report", after, "--compare", before, "--png", png) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "idle 40.000 ms 4.580 ms -35.420 ms" in printed


def test_run(demo_checkpoint, tmp_path, capsys):
    file, out = tmp_path / "figures.json", tmp_path / "out"
    options = ["--device", "cpu", "--inferences", 1, "--warm-up", 0, "--cameras", "front"]
    command = ["run", "--checkpoint", demo_checkpoint, *options, "--out", out]
    assert profile(*command, "--json", file) == 0
    figures = json.loads(file.read_text())
    assert figures["computing_ms"] > 0
    assert 0 < figures["busy_share"] <= 1
    assert figures["core_share"] == {"CPU": 1.0}
    assert len(figures["steps"]) == 1
    assert "busy share" in capsys.readouterr().out
    assert (out / "trace.json").stat().st_size > 1000
    assert profile(*command) == FAILED
    assert "trace.json exists" in capsys.readouterr().err


def test_errors_are_one_sentence(tmp_path, capsys):
    assert profile("report", tmp_path) == FAILED
    error = capsys.readouterr().err
    assert error.startswith("pi0 profile: ") and KERNELS in error
    assert profile("run", "--checkpoint", tmp_path) == FAILED
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["report"],
        ["run"],
        ["run", "--checkpoint", "c", "--inferences", "0"],
        ["run", "--checkpoint", "c", "--compare", "d"],
        ["report", "d", "--json", f"{__file__}/f.json"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        profile(*arguments)
    assert error.value.code == WRONG_ARGUMENTS
    assert "pi0 profile" in capsys.readouterr().err


def test_without_matplotlib_it_says_so_before_it_works(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    read = []
    monkeypatch.setattr("pi0_ros.profile.parser.read_profile", read.append)
    assert profile("report", tmp_path, "--png", tmp_path / "x.png") == FAILED
    assert "pip install matplotlib" in capsys.readouterr().err
    assert read == []


def test_a_report_needs_neither_torch_nor_numpy(tmp_path):
    folder = write_profile(tmp_path / "p", 4580)
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'numpy', 'matplotlib'))\n"
        "from pi0_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "profile", "report", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert "94.0 %" in run.stdout
