import json
import subprocess
import sys
from pathlib import Path

import pytest

from pi0_ros.profile import command as profile_command
from pi0_ros.profile.command import main, parse_args
from pi0_ros.profile.parser import KERNELS, STEPS


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
    file = tmp_path / "figures.json"
    assert main(["report", str(write_profile(tmp_path / "p", 4580)), "--json", str(file)]) == 0
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
    json_file, png = tmp_path / "f.json", tmp_path / "t.png"
    arguments = ["report", str(after), "--compare", str(before)]
    assert main([*arguments, "--json", str(json_file), "--png", str(png)]) == 0
    figures = json.loads(json_file.read_text())
    assert figures["free_ms"] == 4.58
    assert figures["before"]["free_ms"] == 40.0
    assert figures["change"]["per_step"]["free_ms"] == pytest.approx(-35.42)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "-35.420 ms" in capsys.readouterr().out


def test_run(demo_checkpoint, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["--inferences", "1", "--warm-up", "0", "--cameras", "front"]
    command = ["run", "--checkpoint", str(demo_checkpoint), *arguments, "--json", str(file)]
    assert main(command) == 0
    figures = json.loads(file.read_text())
    assert figures["computing_ms"] > 0
    assert 0 < figures["busy_share"] <= 1
    assert figures["core_share"] == {"CPU": 1.0}
    assert len(figures["steps"]) == 1
    assert "busy share" in capsys.readouterr().out


def test_errors_are_one_line_and_status_1(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pi0_profile: ") and KERNELS in error
    assert main(["run", "--checkpoint", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["report"],
        ["run"],
        ["run", "--checkpoint", "c", "--inferences", "0"],
        ["report", "d", "--json", "/no/such/folder/f.json"],
    ],
)
def test_wrong_arguments_are_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        parse_args(arguments)
    assert error.value.code == 2
    assert "pi0_profile" in capsys.readouterr().err


def test_without_matplotlib_it_says_so_before_it_works(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    read = []
    monkeypatch.setattr(profile_command, "read_profile", read.append)
    assert main(["report", str(tmp_path), "--png", str(tmp_path / "x.png")]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert read == []


def test_a_report_needs_neither_torch_nor_matplotlib(tmp_path):
    profile = write_profile(tmp_path / "p", 4580)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "from pi0_ros.profile.command import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "report", str(profile)]
    root = Path(profile_command.__file__).parents[2]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert run.returncode == 0, run.stderr
    assert "94.0 %" in run.stdout
