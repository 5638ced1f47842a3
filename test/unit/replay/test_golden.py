"""--record-golden and --check: a replay as a regression test."""

from __future__ import annotations

import json

import pytest
from support.recordings import (
    FakePolicy,
    arm_at_work,
    run_offline,
    without_plots,
    write_bag,
    write_params,
)

from pi0_ros import cli
from pi0_ros.errors import UserError
from pi0_ros.replay.golden import GOLDEN, hash_path, read_golden


@pytest.fixture
def case(tmp_path):
    """A recorded golden; case(*options, make=policy, bag=, golden=) checks against it."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model").write_text("weights")
    write_bag(tmp_path / "bag", arm_at_work(seconds=1.0))
    params = write_params(tmp_path / "params.yaml")
    words = ["--checkpoint", checkpoint, "--params", params]
    with without_plots():
        assert run_offline([tmp_path / "bag", *words, "--record-golden", tmp_path / "golden"]) == 0

    def check(*options, make=FakePolicy, bag="bag"):
        argv = [tmp_path / bag, *words, "--check", tmp_path / "golden", "--out", tmp_path / "out"]
        return run_offline([*argv, "--overwrite", "--json", tmp_path / "f.json", *options], make)

    return check


def shifted(by: float) -> type[FakePolicy]:
    class Shifted(FakePolicy):
        def __init__(self, parameters):
            super().__init__(parameters)
            self.offset = by

    return Shifted


def test_an_unchanged_replay_passes(case, tmp_path, capsys):
    assert case() == 0
    printed = capsys.readouterr().out
    assert "result: passed" in printed
    assert "9 (0 only in A, 0 only in B)" in printed
    figures = json.loads((tmp_path / "f.json").read_text())["check"]
    assert (figures["passed"], figures["changed"], figures["versions"]) == (True, [], [])
    assert figures["joints"]["elbow"] == {"max": 0.0, "mean": 0.0, "unit": "rad"}
    assert (tmp_path / "out" / "diff.png").exists()


@pytest.mark.usefixtures("no_plots")
def test_another_machines_rounding_passes_and_a_change_does_not(case, capsys):
    assert case(make=shifted(5e-5)) == 0
    capsys.readouterr()
    assert case(make=shifted(5e-3)) == 1
    printed = capsys.readouterr().out
    assert "beyond: shoulder differs by 0.005 rad, allowed are 0.001" in printed
    assert "first chunk beyond a threshold  number 0, 0.00 s after the first" in printed
    assert case("--max-joint", "0.01", make=shifted(5e-3)) == 0


@pytest.mark.usefixtures("no_plots")
def test_a_missing_chunk_fails(case, capsys):
    class Stumbles(FakePolicy):
        def infer(self, observation, noise=None):
            chunk = super().infer(observation, noise)
            if len(self.seen) == 4:
                raise RuntimeError("once")
            return chunk

    assert case(make=Stumbles) == 1
    assert "1 chunks have no partner (1 only in A, 0 only in B)" in capsys.readouterr().out
    assert case("--max-unmatched", "1", make=Stumbles) == 0


@pytest.mark.usefixtures("no_plots")
def test_what_changed_is_named(case, tmp_path, capsys):
    assert case("--ros-args", "-p", "action_dt:=0.02", "-p", "max_skew:=0.2") == 1
    printed = capsys.readouterr().out
    assert "changed: parameter max_skew was 0.1, is 0.2\n" in printed
    assert printed.count("changed:") == 1
    assert "result: passed" in printed, "the chunks are the same all the same"

    (tmp_path / "checkpoint" / "model").write_text("other weights")
    assert case("--latency", "0.01") == 1
    printed = capsys.readouterr().out
    assert "changed: the checkpoint's files are others" in printed
    assert "changed: --latency was 0.0, is 0.01" in printed


@pytest.mark.usefixtures("no_plots")
def test_chunks_of_another_shape_fail_and_the_cause_is_named(case, tmp_path, capsys):
    assert case("--ros-args", "-p", "action_dt:=0.04") == 1
    printed = capsys.readouterr().out
    assert "have chunks of 50 steps of 0.02 s and 50 steps of 0.04 s" in printed
    assert "changed: parameter action_dt was 0.02, is 0.04" in printed
    figures = json.loads((tmp_path / "f.json").read_text())["check"]
    assert figures["passed"] is False and len(figures["failures"]) == 1


@pytest.mark.usefixtures("no_plots")
def test_another_recording_is_named(case, tmp_path, capsys):
    entries = arm_at_work(seconds=1.0)
    message = next(message for _, topic, message in entries if topic == "/joint_states")
    message.position[0] += 1e-9
    write_bag(tmp_path / "nearly", entries)
    assert case(bag="nearly") == 1
    assert "changed: the recording's messages are others" in capsys.readouterr().out
    # The same messages in another storage are the same recording.
    write_bag(tmp_path / "stored", arm_at_work(seconds=1.0), "sqlite3")
    assert case(bag="stored") == 0


@pytest.mark.usefixtures("no_plots")
def test_versions_are_notes(case, tmp_path, capsys):
    file = tmp_path / "golden" / GOLDEN
    document = json.loads(file.read_text())
    document["made_with"]["torch"] = "1.0"
    file.write_text(json.dumps(document))
    assert case() == 0
    assert "note: torch was '1.0', is " in capsys.readouterr().out


@pytest.mark.usefixtures("no_plots")
def test_the_golden_is_not_overwritten_by_its_check(case, tmp_path):
    with pytest.raises(UserError, match="is the golden replay to compare with"):
        case("--out", str(tmp_path / "golden"))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 99}'])
def test_a_directory_that_holds_no_golden(tmp_path, text, capsys):
    folder = tmp_path / "golden"
    folder.mkdir()
    if text is not None:
        (folder / GOLDEN).write_text(text)
    with pytest.raises(UserError, match="--record-golden"):
        read_golden(folder)
    words = ["replay", "bag", "--checkpoint", str(tmp_path), "--check", str(folder)]
    if text is None:
        with pytest.raises(SystemExit):
            cli.main(words)
    else:
        assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert "golden" in error and "--record-golden" in error


def test_hash_of_a_folder(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x").write_text("1")
    first = hash_path(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "y").write_text("2")
    assert hash_path(folder) == first, "hidden files are nobody's weights"
    (folder / "x").rename(folder / "z")
    assert hash_path(folder) != first
    assert hash_path(folder / "z") != first
