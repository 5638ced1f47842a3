"""`pi0 convert` as a command; checkpoint/test_convert.py looks at what it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint import native
from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.checkpoint.random import JOINTS
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.cli import main
from pi0_ros.console import FAILED
from pi0_ros.node.declared import NATIVE, fill_declared
from pi0_ros.node.parameters import read_parameters
from pi0_ros.node.preflight import preflight
from pi0_ros.policy.policy import Policy


def convert(checkpoint: Path, out: Path, *options: object) -> int:
    return main(["convert", str(checkpoint), str(out), *map(str, options)])


def write_params(path: Path, **more: object) -> Path:
    """What a node on an arm in degrees at 50 Hz gets."""
    joints = {name: {"scale": 0.5} for name in JOINTS}
    values = {
        "cameras": ["front", "wrist"],
        "joints": list(JOINTS),
        "instruction": "push",
        "joint": joints,
        **more,
    }
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return path


def test_figures(demo_checkpoint: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    assert convert(demo_checkpoint, out, "--json", figures) == 0
    written = json.loads(figures.read_text())
    assert written["size"] == (out / WEIGHTS).stat().st_size < 0.6 * written["size_before"]
    assert (written["made_from"], written["tokenizer"]) == ("lerobot-0.4", True)
    assert Policy.load(out).num_joints == 6


def test_options_name_the_directories_too(demo_checkpoint: Path, tmp_path: Path) -> None:
    options = ["--checkpoint", str(demo_checkpoint), "--out", str(tmp_path / "out")]
    assert main(["convert", *options]) == 0
    assert read_checkpoint(tmp_path / "out").format == "pi0_ros"
    for wrong in ([], options[:2], [str(demo_checkpoint)], [str(demo_checkpoint), "x", *options]):
        with pytest.raises(SystemExit):
            main(["convert", *wrong])


def test_parameters_go_into_the_directory(
    demo_checkpoint: Path, tmp_path: Path, as_openpi: Callable[..., Path]
) -> None:
    source = as_openpi(Path(shutil.copytree(demo_checkpoint, tmp_path / "source")))
    delta = list(JOINTS)[:5]
    params = write_params(
        tmp_path / "params.yaml", cameras=["base_0_rgb"], action_mode="delta", delta_joints=delta
    )
    out = tmp_path / "out"
    assert convert(source, out, "--params", params) == 0
    read, declared = read_checkpoint(out), read_declared(out, 6)
    assert (read.action_mode, read.delta_mask) == ("delta", (True,) * 5 + (False,))
    assert declared.joints == tuple(JOINTS)
    assert declared.fps == pytest.approx(50)
    assert (declared.unit_scale, declared.unit_offset) == ((0.5,) * 6, (0.0,) * 6)
    assert Policy.load(out, cameras=["base_0_rgb"]).num_joints == 6


@pytest.mark.parametrize("where,state", [("prompt", 6), ("none", 0)])
def test_where_the_state_of_an_openpi_pi05_is(
    demo_pi05: Path, tmp_path: Path, as_openpi: Callable[..., Path], where: str, state: int
) -> None:
    source = as_openpi(Path(shutil.copytree(demo_pi05, tmp_path / "source")))
    file = source / "assets" / "so101" / "norm_stats.json"
    document = json.loads(file.read_text())
    for values in document["norm_stats"].values():
        values["q99"] = [value + 2 for value in values["q01"]]
    file.write_text(json.dumps(document))
    settings = {"cameras": ["base_0_rgb"], "action_mode": "absolute", "discrete_state_input": where}
    params = write_params(tmp_path / "params.yaml", **settings)
    assert convert(source, tmp_path / "out", "--params", params) == 0
    assert read_checkpoint(tmp_path / "out").prompt_state == state
    assert Policy.load(tmp_path / "out", cameras=["base_0_rgb"]).num_joints == 6


def test_parameters_that_do_not_fit_are_refused(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = write_params(tmp_path / "params.yaml", cameras=["top"])
    assert convert(demo_checkpoint, tmp_path / "out", "--params", params) == FAILED
    assert "the parameters do not fit the checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_adapter_and_its_base(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(demo_checkpoint, tmp_path / "source"))
    bias = load_file(source / WEIGHTS)["model.state_proj.bias"] + 1
    (source / WEIGHTS).unlink()
    name = "base_model.model.model.state_proj"
    tensors = {f"{name}.bias": bias, f"{name}.lora_A.weight": bias.new_ones(2, 32)}
    tensors[f"{name}.lora_B.weight"] = bias.new_zeros(64, 2)
    save_file(tensors, source / "adapter_model.safetensors")
    (source / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    assert convert(source, tmp_path / "out") == FAILED
    assert "--base-checkpoint" in capsys.readouterr().err
    assert convert(source, tmp_path / "out", "--base-checkpoint", demo_checkpoint) == 0
    written = load_file(tmp_path / "out" / WEIGHTS)["state_proj.bias"]
    assert written.tolist() == bias.bfloat16().tolist()
    below = demo_checkpoint / "below"
    assert convert(source, below, "--base-checkpoint", demo_checkpoint) == FAILED
    assert not below.exists()


def test_openpi_without_config_and_tokenizer(
    demo_checkpoint: Path,
    tmp_path: Path,
    as_openpi: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = as_openpi(Path(shutil.copytree(demo_checkpoint, tmp_path / "source")))
    (source / CONFIG).unlink()
    words = tmp_path / "words"
    words.mkdir()
    for file in source.glob("tokenizer*"):
        file.rename(words / file.name)
    assert convert(source, tmp_path / "out", "--horizon", 20) == 0
    assert "no tokenizer was found" in capsys.readouterr().err
    again = [tmp_path / "out2", "--horizon", 20, "--tokenizer"]
    assert convert(source, *again, words / "tokenizer.model") == 0
    assert read_checkpoint(tmp_path / "out2").config.horizon == 20
    assert (tmp_path / "out2" / "tokenizer.model").is_file()
    assert convert(source, *again, tmp_path, "--overwrite") == FAILED


def test_nothing_is_replaced_unless_asked(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(demo_checkpoint, out) == 0
    (out / "notes.txt").write_text("mine")
    written = (out / WEIGHTS).stat().st_mtime_ns
    assert convert(demo_checkpoint, out) == FAILED
    assert "--overwrite" in capsys.readouterr().err
    assert (out / WEIGHTS).stat().st_mtime_ns == written
    assert convert(demo_checkpoint, out, "--overwrite", "--dtype", "float32") == 0
    assert (out / WEIGHTS).stat().st_mtime_ns != written
    assert (out / "notes.txt").read_text() == "mine"


def test_the_checkpoint_itself_is_never_written(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(demo_checkpoint, source)
    for out in (source, source / "inside", tmp_path):
        assert convert(source, out, "--overwrite") == FAILED
        assert "choose another --out" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {p.name for p in demo_checkpoint.iterdir()}


def test_a_broken_checkpoint_costs_nothing(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(demo_checkpoint, out) == 0
    assert convert(tmp_path / "nowhere", out, "--overwrite") == FAILED
    assert "config.json" in capsys.readouterr().err
    assert (out / WEIGHTS).is_file()


def test_a_node_starts_from_the_directory_alone(demo_checkpoint: Path, tmp_path: Path) -> None:
    out, params = tmp_path / "out", write_params(tmp_path / "params.yaml", fps=25)
    assert convert(demo_checkpoint, out, "--params", params) == 0
    given, notes = fill_declared({"checkpoint": str(out)})
    parameters = read_parameters(given)
    assert parameters.joint_names == tuple(JOINTS)
    assert parameters.camera_names == ("front", "wrist")
    assert {joint.scale for joint in parameters.joints} == {0.5}
    assert parameters.action_dt == pytest.approx(0.04)
    assert not preflight(parameters, None)
    assert f"action_dt: 0.04 (not given; from {out / CONFIG})" in notes
    assert f"joint.{next(iter(JOINTS))}.scale: 0.5 (not given; from {out / CONFIG})" in notes

    # What is given stays, and a contradiction is refused.
    names = [f"{name}_joint" for name in JOINTS]
    mine = {"checkpoint": str(out), "joints": names, f"joint.{names[0]}.scale": 2.0, "fps": 25.0}
    given, notes = fill_declared(mine)
    assert given["joints"] == names and given["fps"] == 25.0
    assert given[f"joint.{names[1]}.scale"] == 0.5
    assert not any(note.startswith(("joints", "action_dt")) for note in notes)
    (problem,) = preflight(read_parameters(given), None)
    assert problem.startswith(f"joint.{names[0]}: scale 2 and offset 0, but the checkpoint was")


def test_directories_that_declare_no_robot_add_nothing(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    assert NATIVE == native.NATIVE
    out = tmp_path / "out"
    assert convert(demo_checkpoint, out) == 0  # without parameters: names of the data set, at most
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / CONFIG).write_text("{")
    for path in (out, demo_checkpoint, tmp_path / "broken", tmp_path / "nothing", ""):
        given = {"checkpoint": str(path), "seed": 3}
        assert fill_declared(given) == (given, [])
