"""pi0 diff: figures, matching, thresholds and exit status."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.recordings import (
    SIX,
    START,
    arm_at_work,
    run_offline,
    without_plots,
    write_bag,
    write_params,
)

from pi0_ros import cli
from pi0_ros.bags.bag import BagError
from pi0_ros.bags.chunks import REJECTED, ChunkRecord, RecordedTrajectory
from pi0_ros.bags.results import Results, TimedChunk, read_results
from pi0_ros.diff.compare import (
    DiffError,
    Thresholds,
    compare,
    failures,
    first_failing,
)
from pi0_ros.diff.report import difference_json, format_difference

ROOT = Path(__file__).resolve().parents[3]
URDF = ROOT / "pi0_ros" / "sim" / "so101.urdf"
RADIANS = ("rad", "rad")
STAMPS = tuple(START + k * 100_000_000 for k in range(5))


def results(
    stamps=STAMPS, joints=("a", "b"), steps=50, dt=0.02, ages=(0.05, 0.04), moved=(), units=RADIANS
):
    chunks = [
        TimedChunk(
            stamp + 50_000_000,
            ChunkRecord(
                stamp, k, "task", joints, np.zeros((steps, len(joints)), np.float32), dt, ages,
                0.0, 0, ("front", "wrist"), 0.05,
            ),
        )
        for k, stamp in enumerate(stamps)
    ]  # fmt: skip
    told = dict(zip(joints, units, strict=False))
    return Results(Path("r"), tuple(chunks), tuple(moved), (), told)


def diff(*words) -> int:
    return cli.main(["diff", *map(str, words)])


def trajectory(time=START, times=(0.1, 0.2), value=0.0):
    positions = np.full((len(times), 2), value)
    return RecordedTrajectory(time, time, ("a", "b"), np.array(times), positions)


def test_equal_results_pass_everything():
    difference = compare(results(), results())
    assert difference.joints.shape == (5, 50, 2)
    assert difference.joints.max() == 0
    assert first_failing(difference, Thresholds(0.0)) is None
    assert failures(difference, Thresholds(0.0)) == []


def test_the_first_diverging_frame_its_joint_and_step_are_found():
    a, b = results(), results()
    b.chunks[2].chunk.positions[7, 1] += 0.01
    b.chunks[3].chunk.positions[9, 0] -= 0.2
    difference = compare(a, b)
    first = first_failing(difference, Thresholds(0.0))
    assert (first.number, first.joint, first.step) == (2, "b", 7)
    assert (first.seconds, first.stamp) == (pytest.approx(0.2), STAMPS[2])
    assert first.difference == pytest.approx(0.01)
    failing = first_failing(difference, Thresholds(joint=0.05))
    assert (failing.number, failing.joint, failing.step) == (3, "a", 9)
    assert failures(difference, Thresholds(joint=0.05)) == [
        "a differs by 0.2 rad, allowed are 0.05"
    ]


def test_what_is_not_finite_is_beyond_every_threshold():
    a, b = results(), results()
    for one in (a, b):  # in both: equal, and still wrong
        one.chunks[1].chunk.positions[3, 0] = np.nan
    difference = compare(a, b)
    assert first_failing(difference, Thresholds(1e9)).number == 1
    assert "a differs by nan rad" in failures(difference, Thresholds(joint=1e9))[0]


def test_chunks_are_matched_by_stamp_and_the_others_are_told():
    a, b = results(), results(stamps=(STAMPS[1], STAMPS[2], STAMPS[2], START + 7))
    # Two ticks of one observation: the first of them is compared.
    b.chunks[2].chunk.positions[:] = 1.0
    difference = compare(a, b)
    assert list(difference.stamps) == [STAMPS[1], STAMPS[2]]
    assert difference.joints.max() == 0
    assert difference.only_a == (STAMPS[0], STAMPS[3], STAMPS[4])
    assert difference.only_b == (START + 7, STAMPS[2])
    assert (
        "5 chunks have no partner (3 only in A, 2 only in B)"
        in failures(difference, Thresholds(unmatched=4))[0]
    )
    assert failures(difference, Thresholds(unmatched=5)) == []


def test_other_images_and_instructions_of_one_stamp_are_counted():
    difference = compare(results(), results(ages=(0.05, 0.041)))
    assert (difference.images, difference.instructions) == (5, 0)
    assert compare(results(), results(ages=(0.05, 0.04 + 1e-9))).images == 0


def test_the_tool_is_compared_by_a_known_motion():
    def tool(positions):
        """An arm of 1 m that turns by joint a about z; q and -q in turn, which are one rotation."""
        angle = positions[:, 0]
        zero = np.zeros(len(angle))
        place = np.column_stack([np.cos(angle), np.sin(angle), zero])
        turn = np.column_stack([zero, zero, np.sin(angle / 2), np.cos(angle / 2)])
        return place, turn * np.where(np.arange(len(angle)) % 2, -1.0, 1.0)[:, None]

    a, b = results(), results()
    b.chunks[1].chunk.positions[4, 0] = 0.5
    b.chunks[2].chunk.positions[5, 0] = 1e-6
    b.chunks[3].chunk.positions[6, 1] = 9.0  # which moves no tool
    difference = compare(a, b, tool)
    assert difference.position.max() == pytest.approx(2 * math.sin(0.25))
    assert difference.angle.max() == pytest.approx(0.5)
    assert difference.angle[2, 5] == pytest.approx(1e-6, rel=1e-3)
    assert difference.position[3].max() == 0
    found = failures(difference, Thresholds(joint=10.0))
    assert [text.split(" differs")[0] for text in found] == [
        "the tool's position",
        "the tool's angle",
    ]
    assert first_failing(difference, Thresholds(joint=10.0)).number == 1


def test_trajectories_of_one_time_are_compared():
    one = compare(results(moved=[trajectory()]), results(moved=[trajectory(value=0.01)]))
    assert (one.trajectories, one.trajectory_pairs) == ((1, 1), 1)
    assert one.trajectory == pytest.approx(0.01)
    other = compare(results(moved=[trajectory()]), results(moved=[trajectory(times=(0.1,))]))
    assert other.trajectory == np.inf
    assert "trajectories published at one time differ by inf" in failures(other, Thresholds())[0]
    none = compare(results(moved=[trajectory()]), results(moved=[trajectory(time=START + 1)]))
    assert (none.trajectory, none.trajectory_pairs) == (None, 0)


def test_every_number_has_the_unit_of_its_joint(tmp_path):
    a = results(units=("rad", "m"), moved=[trajectory()])
    b = results(moved=[trajectory(value=0.01)], units=())
    a.chunks[1].chunk.positions[2, 1] = 0.2
    difference = compare(a, b)
    printed = format_difference(difference, Thresholds())
    assert re.search(r"b, max / mean +0.2 / 0.0008 m\n", printed)
    assert re.search(r"a, max / mean +0 / 0 rad\n", printed)
    assert "b, step 2, 0.2 m" in printed and "b differs by 0.2 m, allowed are" in printed
    assert "1 at the same times differ by 0.01 m (b) at most" in printed
    document = difference_json(difference, Thresholds())
    assert [document["joints"][name]["unit"] for name in "ab"] == ["rad", "m"]
    assert document["trajectories"]["joint"] == "b"
    told = compare(results(units=()), results(units=()), units={"a": "m"})
    assert told.units == ("m", "rad or m")
    plot = pytest.importorskip("pi0_ros.diff.plot", reason="matplotlib is not installed")
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot.Figure, "savefig", lambda figure, path: figures.append(figure))
        plot.plot_difference(tmp_path / "d.png", difference, Thresholds())
    axes = figures[0].axes
    assert [axis.get_ylabel() for axis in axes] == ["rad", "rad", "m", "m"]
    assert [len(axis.get_lines()) for axis in axes] == [3, 1, 3, 1]  # and thresholds, and a mark


def test_what_cannot_be_compared_is_said():
    with pytest.raises(DiffError, match="different robots or orders"):
        compare(results(), results(joints=("b", "a")))
    with pytest.raises(DiffError, match="no observation in common"):
        compare(results(), results(stamps=(1, 2)))
    with pytest.raises(DiffError, match=r"30 steps of 0.02 s and 50 steps of 0.02 s"):
        compare(results(), results(steps=30))


def test_rejected_chunks_are_not_compared(tmp_path):
    first, second = (timed.chunk for timed in results(STAMPS[:2]).chunks)
    second = replace(second, verdict=REJECTED, rejected_reason="limits: too far")
    for name, chunks in (("some", (first, second)), ("none", (second,))):
        entries = [(c.stamp, "/pi0/action_chunk", c.message()) for c in chunks]
        types = {"/pi0/action_chunk": "pi0_ros/msg/ActionChunk"}
        write_bag(tmp_path / name, entries, types=types)
    some, none = read_results(tmp_path / "some"), read_results(tmp_path / "none")
    assert [len(some.chunks), len(some.rejected)] == [1, 1]
    assert some.rejected[0].chunk.rejected_reason == "limits: too far"
    assert compare(some, some).counts == (1, 1)
    with pytest.raises(DiffError, match=r"all 1 chunks of .* were rejected"):
        compare(some, none)


@pytest.fixture(scope="module")
def replays(tmp_path_factory) -> Path:
    """Two replays of six joints, a and b (another seed), and one of three joints, c."""
    folder = tmp_path_factory.mktemp("diff")
    for name, joints in (("six", SIX), ("three", ("shoulder", "elbow", "gripper"))):
        write_bag(folder / name, arm_at_work(seconds=1.0, joints=joints))
        write_params(folder / f"{name}.yaml", joints)
    for out, bag, seed in (("a", "six", 0), ("b", "six", 1), ("c", "three", 0)):
        words = [folder / bag, "--deterministic", "--checkpoint", folder, "--out", folder / out]
        words += ["--params", folder / f"{bag}.yaml", "--ros-args", "-p", f"seed:={seed}"]
        with without_plots():
            assert run_offline(words) == 0
    return folder


def test_the_command_from_bags_to_table_json_and_plot(replays, tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("pinocchio", reason="pinocchio is not installed")
    words = [str(replays / "a"), str(replays / "b" / "bag"), "--urdf", str(URDF)]
    words += ["--json", str(tmp_path / "d.json"), "--plot", str(tmp_path / "d.png")]
    assert diff(*words) == 0
    printed = capsys.readouterr().out
    assert "chunks                          9 in A, 9 in B" in printed
    assert "result: passed" in printed
    figures = json.loads((tmp_path / "d.json").read_text())
    assert figures["matched"] == 9
    assert "gripper, max / mean" in printed and "rad or m" not in printed
    assert 0 < figures["joints"]["gripper"]["mean"] < figures["joints"]["gripper"]["max"] < 0.0021
    assert 0 < figures["tool_position_m"]["max"] < 0.002
    assert 0 < figures["tool_angle_rad"]["max"] < 0.02
    assert figures["first_beyond"] is None and figures["first_difference"]["number"] == 0
    drawn = cv2.imread(str(tmp_path / "d.png")).astype(int)
    assert ((drawn.max(2) - drawn.min(2)) > 60).sum() > 1000

    # A millimetre at the tool is too much if one says so; the red line is drawn then.
    def red() -> int:
        blue, green, red = np.moveaxis(cv2.imread(str(tmp_path / "d.png")).astype(int), 2, 0)
        return int(((red > 180) & (green < 60) & (blue < 70)).sum())

    before = red()
    assert diff(*words, "--max-position", "0.0001") == 1
    assert "beyond: the tool's position differs by" in capsys.readouterr().out
    assert red() > before + 300


def test_unusable_input_is_one_message(replays, tmp_path, capsys):
    def fails(*words) -> str:
        assert diff(*words) == 1
        return capsys.readouterr().err

    assert "no such recording" in fails(replays / "a", tmp_path / "nothing")
    assert "holds no pi0_ros/msg/ActionChunk" in fails(replays / "a", replays / "six")
    assert "different robots or orders" in fails(replays / "a", replays / "c")
    (tmp_path / "no.urdf").write_text("<robot")
    assert "no.urdf" in fails(replays / "a", replays / "b", "--urdf", tmp_path / "no.urdf")
    error = fails(replays / "c", replays / "c", "--urdf", URDF)
    assert "so101.urdf" in error and "shoulder" in error
    for options in (["--max-angle", "1"], ["--max-joint", "-1"]):
        with pytest.raises(SystemExit) as caught:
            diff(replays / "a", replays / "b", *options)
        assert caught.value.code == 2


def test_reading_results_needs_the_chunks_of_one_node(replays, tmp_path):
    with pytest.raises(BagError, match="expected the chunks of one node"):
        read_results(replays / "three")
    found = read_results(replays / "c")
    assert found.joint_names == ("shoulder", "elbow", "gripper")
    assert found.trajectories == ()
