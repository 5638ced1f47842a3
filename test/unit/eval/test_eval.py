"""pi0 eval: figures against motions that are known, many recordings, the page, errors."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64decode

import numpy as np
import pytest
from support.recordings import (
    SIX,
    START,
    THREE,
    TYPES,
    FakePolicy,
    arm_at_work,
    joint_state,
    motion,
    parse,
    write_bag,
    write_params,
)

from pi0_ros import cli
from pi0_ros.bags.bag import open_bag
from pi0_ros.bags.messages import make, make_header
from pi0_ros.eval import command, evaluate
from pi0_ros.eval.figures import add, figures, sums_of
from pi0_ros.eval.many import evaluate_all
from pi0_ros.eval.report import evaluation_json, joint_rows, per_unit, verdict
from pi0_ros.eval.truth import read_truth
from pi0_ros.node.interface import read_interface
from pi0_ros.policy.types import ActionChunk

SECOND = 10**9


class Clairvoyant(FakePolicy):
    """Knows what the recorded joints will do, but for `bias` rad."""

    bias = 0.0

    def infer(self, observation, noise=None) -> ActionChunk:
        chunk = super().infer(observation, noise)
        ahead = (observation.stamp - START) / 1e9 + self.dt * (np.arange(self.horizon) + 1)
        positions = motion(ahead, len(observation.state)) + self.bias
        return ActionChunk(positions.astype(np.float32), chunk.dt, chunk.stamp, 0, 0, {})


@pytest.fixture
def known(monkeypatch):
    """known(policy class): what `pi0 eval` loads instead of a checkpoint."""

    def use(kind):
        monkeypatch.setattr(evaluate, "check_case", lambda case: None)
        monkeypatch.setattr(
            evaluate,
            "policy_of",
            lambda ros_args, threads: kind(read_interface(ros_args).parameters),
        )

    return use


def main(argv) -> int:
    return cli.main(["eval", *map(str, argv)])


@pytest.fixture
def words(tmp_path):
    params = write_params(tmp_path / "params.yaml")
    return ["--checkpoint", str(tmp_path), "--params", str(params)]


def test_a_policy_that_knows_the_future_has_no_error(tmp_path, known, words, capsys):
    known(Clairvoyant)
    bag = write_bag(tmp_path / "bag", arm_at_work(seconds=3.0))
    file = tmp_path / "f.json"
    assert main([str(bag), *words, "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    total, one = document["all"], document["recordings"][0]
    assert total["chunks"] == one["chunks"] == 29
    assert one["compared_with"] == "/joint_states"
    assert one["refused"] == {"missing": 1} and one["refused_after_first_second"] == {}
    # Interpolated between joint states 10 ms apart: (0.01)^2 / 8 * largest acceleration, 2 rad/s^2.
    assert total["mean_abs"] < total["rms"] < 2.6e-5
    assert total["joints"]["elbow"]["max"] < 3e-5
    assert total["holding_mean_abs"] > 0.2
    # Of the chunks near the end, the steps after the last joint state are not compared.
    stamps = 0.053 + 0.1 * np.arange(29)
    steps = sum(int((2.99 - stamp + 1e-9) // 0.02) if stamp > 1.99 else 50 for stamp in stamps)
    assert total["steps_compared"] == 3 * steps
    horizon = total["horizon"]
    assert horizon["seconds"][0] == 0.02 and len(horizon["joints"]["gripper"]) == 50
    # Standing still is as wrong as the joint has moved: at 0.02 s up to 1 rad/s * 0.02 s.
    assert 0.005 < horizon["holding_mean_abs"][0] < 0.02 < horizon["holding_mean_abs"][-1]
    smooth = total["smoothness"]["shoulder"]
    # rms of the third derivative of 0.5 sin(2 t): 4 / sqrt 2.
    assert smooth["jerk_rms"] == pytest.approx(4 / np.sqrt(2), rel=0.2)
    assert smooth["boundary_step"]["max"] < 1e-4
    assert "29 chunks" in capsys.readouterr().out


def test_a_bias_is_found_in_every_figure(tmp_path, known, words):
    class Biased(Clairvoyant):
        bias = np.array([0.0, 0.1, -0.2])

    known(Biased)
    bag = write_bag(tmp_path / "bag", arm_at_work(seconds=2.0))
    assert main([str(bag), *words, "--json", str(tmp_path / "f.json")]) == 0
    joints = json.loads((tmp_path / "f.json").read_text())["all"]["joints"]
    for name, value in zip(THREE, (0.0, 0.1, 0.2), strict=True):
        assert joints[name]["mean_abs"] == pytest.approx(value, abs=1e-4)
        assert joints[name]["rms"] == pytest.approx(value, abs=1e-4)
        assert joints[name]["max"] == pytest.approx(value, abs=1e-3)


def commands(target: float) -> list:
    """Trajectories every 0.5 s that move on the line 0.1 * t + target, each for 0.5 s."""
    empty, entries = np.zeros(0), []
    for k in range(6):
        points = [
            make("trajectory_msgs/msg/JointTrajectoryPoint",
                 np.full(3, 0.1 * (k * 0.5 + s) + target), empty, empty, empty,
                 make("builtin_interfaces/msg/Duration", *divmod(round(s * 1e9), SECOND)))
            for s in (0.1, 0.3, 0.5)
        ]  # fmt: skip
        time = START + k * SECOND // 2
        stamp = make_header(0 if k % 2 else time)  # 0: start when it is received
        message = make("trajectory_msgs/msg/JointTrajectory", stamp, list(THREE), points)
        entries.append((time, "/commands", message))
    return entries


def test_commanded_trajectories_can_be_compared_with(tmp_path, known, words):
    class Line(Clairvoyant):
        def infer(self, observation, noise=None) -> ActionChunk:
            chunk = super().infer(observation, noise)
            ahead = (observation.stamp - START) / 1e9 + self.dt * (np.arange(50) + 1)
            positions = np.repeat(0.1 * ahead[:, None] + 0.3, 3, axis=1).astype(np.float32)
            return ActionChunk(positions, chunk.dt, chunk.stamp, 0, 0, {})

    known(Line)
    bag = write_bag(tmp_path / "bag", [*arm_at_work(seconds=2.5), *commands(target=0.3)])
    argv = [str(bag), *words, "--target", "/commands", "--json", str(tmp_path / "f.json")]
    assert main(argv) == 0
    found = json.loads((tmp_path / "f.json").read_text())["recordings"][0]
    assert found["compared_with"] == "/commands"
    # Before its first point, 0.1 s on, a trajectory is at that point: 0.01 rad ahead at most.
    assert 0 < found["joints"]["elbow"]["max"] < 0.0101
    assert found["mean_abs"] < 0.002


def test_a_leaders_joint_states_can_be_compared_with(tmp_path):
    entries = [
        (START + k * 10_000_000, "/joint_states", joint_state(START + k * 10**7, SIX, [k] * 6))
        for k in (0, 10, 20, 80, 90)
    ]
    bag = open_bag(write_bag(tmp_path / "bag", entries))
    truth = read_truth(bag, ["/joint_states"], "", SIX[:2])
    seconds = np.array([-0.01, 0.0, 0.05, 0.15, 0.4, 0.85, 0.91])
    found = truth.at(START + (seconds * 1e9).astype(np.int64))
    # Interpolated; unknown outside of the recording and in a gap of more than 0.5 s.
    expected = [np.nan, 0, 5, 15, np.nan, 85, np.nan]
    np.testing.assert_allclose(found, np.column_stack([expected, expected]), atol=1e-6)


def test_sums_of_recordings_add_up_to_the_sums_of_all():
    random = np.random.default_rng(0)
    predicted, recorded = random.normal(size=(2, 7, 10, 2))
    recorded[0, 3:] = np.nan
    state, stamps = predicted[:, 0], START + np.arange(7) * 100_000_000
    parts = [slice(0, 3), slice(3, 7)]
    whole = figures(
        sums_of(predicted, recorded, state, stamps, 0.02), ("a", "b"), ("rad", "rad"), 0.02
    )
    split = [sums_of(predicted[p], recorded[p], state[p], stamps[p], 0.02) for p in parts]
    joined = figures(add(split), ("a", "b"), ("rad", "rad"), 0.02)
    error = np.abs(predicted - recorded)
    assert whole["mean_abs"] == pytest.approx(np.nanmean(error))
    assert whole["horizon"]["joints"]["b"][4] == pytest.approx(np.nanmean(error[:, 4, 1]))
    assert joined["mean_abs"] == pytest.approx(whole["mean_abs"])
    assert joined["steps_compared"] == whole["steps_compared"] == np.isfinite(error).sum()
    jerk = np.diff(predicted[..., 0], n=3, axis=1) / 0.02**3
    assert whole["smoothness"]["a"]["jerk_rms"] == pytest.approx(np.sqrt((jerk**2).mean()))
    # A new chunk every 5 steps: its first step is due with step 5 of the one before.
    steps = np.abs(predicted[1:, 0, 1] - predicted[:-1, 5, 1])
    assert whole["smoothness"]["b"]["boundary_step"]["max"] == pytest.approx(steps.max())


@pytest.fixture(scope="module")
def two_bags(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("eval")
    lengths = {"one": 1.0, "two": 1.4}
    return [
        str(write_bag(folder / name, arm_at_work(seconds=seconds, joints=SIX)))
        for name, seconds in lengths.items()
    ]


def without_wall(document):
    if isinstance(document, dict):
        return {k: without_wall(v) for k, v in document.items() if k != "wall"}
    return [without_wall(v) for v in document] if isinstance(document, list) else document


def evaluated(argv: list[str], workers: int = 1, ray: str = "") -> dict:
    jobs = command.make_jobs(parse(command, "eval", argv))
    return without_wall(evaluation_json(evaluate_all(jobs, workers, ray)))


@pytest.fixture
def real(two_bags, demo_checkpoint, tmp_path):
    params = write_params(tmp_path / "six.yaml", SIX)
    return [*two_bags, "--checkpoint", str(demo_checkpoint), "--params", str(params)]


def test_processes_give_the_results_of_one_process(real):
    alone, pooled = evaluated(real), evaluated(real, workers=2)
    assert alone["failed"] == 0 and alone["all"]["chunks"] == 9 + 13
    assert pooled == alone


@pytest.mark.timeout(300)  # Ray takes its time to start
def test_ray_gives_the_results_of_one_process(real):
    pytest.importorskip("ray", reason="Ray is not installed")
    assert evaluated(real, ray="local") == evaluated(real)


def test_without_ray_it_says_what_to_install(real, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*real, "--ray", "local"]) == 1
    assert "pip install ray" in capsys.readouterr().err


def test_the_page_needs_nothing_else(real, tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    file = tmp_path / "page.html"
    assert main([str(tmp_path / "nothing"), *real, "--html", str(file)]) == 1, "one is missing"
    text = file.read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text and "<link" not in text
    assert re.findall(r"https?://", text) == []
    sources = re.findall(r'src="([^"]*)"', text)
    assert all(source.startswith("data:image/") for source in sources)
    images = [
        cv2.imdecode(np.frombuffer(b64decode(source.partition(",")[2]), np.uint8), 1)
        for source in sources
    ]
    assert all(image is not None for image in images)
    # One plot of errors, one of paths per recording, and thumbnails of both cameras.
    thumbnails = [p for p in images if p.shape == (120, 160, 3)]
    assert len(images) - len(thumbnails) == 3 and 12 <= len(thumbnails) <= 32
    paths = max(images, key=lambda p: p.size).astype(int)
    assert ((paths.max(2) - paths.min(2)) > 60).sum() > 1000, "predicted, in colour"
    for word in (*SIX, "touch the red cube", "nothing: no such recording", "standing still"):
        assert word in text
    assert "could not be evaluated" in capsys.readouterr().out


def test_each_fault_is_one_clear_problem(two_bags, demo_checkpoint, tmp_path, capsys):
    """An empty bag, one cut in the middle, one of another robot, missing streams."""
    params = write_params(tmp_path / "six.yaml", SIX)
    rest = ["--checkpoint", str(demo_checkpoint), "--params", str(params)]
    entries = arm_at_work(seconds=1.0, joints=SIX)
    empty = tmp_path / "empty"
    empty.mkdir()
    other = write_bag(tmp_path / "other", arm_at_work(seconds=1.0))
    blind = write_bag(tmp_path / "blind", [e for e in entries if "wrist" not in e[1]])
    cut = write_bag(tmp_path / "cut", entries)
    file = next(cut.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    dark = write_bag(tmp_path / "dark", arm_at_work(0.4, SIX, camera_offset=0.39))
    expected = {
        empty: "not a rosbag2 recording (no metadata.yaml in it)",
        other: "the joint states on /joint_states do not name the 6 joints",
        blind: "/wrist/image_raw (camera wrist, sensor_msgs/msg/Image) is missing",
        cut: "cannot be opened as a rosbag2 recording",
        dark: "no chunk came; refused: missing",
    }
    file = tmp_path / "f.json"
    bags = [str(bag) for bag in expected]
    assert main([*bags, two_bags[0], *rest, "--json", str(file)]) == 1
    document = json.loads(file.read_text())
    assert document["failed"] == 5 and document["all"]["chunks"] == 9
    for bag, one in zip(expected, document["recordings"], strict=False):
        assert expected[bag] in one["problem"] and str(bag) in one["problem"]
    printed = capsys.readouterr()
    assert printed.out.count("problem: ") == 5 and "Traceback" not in printed.err


def test_other_names_of_topics_are_mapped(two_bags, real, tmp_path, capsys):
    renamed = {"/front/image_raw": "/camera/color/image_raw", "/joint_states": "/arm/joint_states"}
    entries = [
        (time, renamed.get(topic, topic), message)
        for time, topic, message in arm_at_work(seconds=1.0, joints=SIX)
    ]
    types = {new: TYPES[old] for old, new in renamed.items()}
    bag = write_bag(tmp_path / "renamed", entries, types=types)
    argv = [str(bag), *real[2:]]
    assert main(argv) == 1
    assert "/front/image_raw (camera front, sensor_msgs/msg/Image) is missing" in (
        capsys.readouterr().out
    )
    maps = [word for old, new in renamed.items() for word in ("--remap", f"{new}:={old}")]
    found = evaluated([*argv, *maps])
    plain = evaluated([two_bags[0], *real[2:]])
    assert found["recordings"][0]["compared_with"] == "/arm/joint_states"
    assert found["all"] == plain["all"]


def test_a_target_that_cannot_be_used_is_explained(two_bags, real, capsys):
    assert main([*real[1:], "--target", "/instruction"]) == 1
    assert "--target /instruction holds std_msgs/msg/String; expected" in capsys.readouterr().out
    assert main([*real[1:], "--target", "/leader"]) == 1
    assert "--target /leader is not in the recording" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--jobs", "0"], "expected a whole number of at least 1"),
        (["--ray", "auto", "--jobs", "2"], "one of the two"),
        (["--remap", "a:=b"], "expected FROM:=TO"),
    ],
)
def test_wrong_arguments(options, text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["bag", "--checkpoint", "c", *options])
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_parameters_that_cannot_be_used_are_one_message(two_bags, tmp_path, capsys):
    params = write_params(tmp_path / "p.yaml", SIX, rate_hz="fast")
    argv = [two_bags[0], "--checkpoint", str(tmp_path), "--params", str(params)]
    assert main(argv) == 1
    assert "rate_hz: must be a number" in capsys.readouterr().err
    assert main([two_bags[0], "--checkpoint", str(tmp_path / "none")]) == 1
    assert "none: no such file or directory" in capsys.readouterr().err


def test_metres_are_not_averaged_with_radians() -> None:
    """A gripper that is off by millimetres does not make an arm look good."""
    recorded = np.zeros((3, 4, 2)) + np.arange(1, 5)[:, None] * [0.1, 0.001]
    predicted, state = recorded + np.array([0.02, 0.004]), np.zeros((3, 2))
    sums = sums_of(predicted, recorded, state, np.arange(3) * 10**8, 0.02)
    found = figures(sums, ("elbow", "grip"), ("rad", "m"), 0.02)
    assert found["mean_abs"] is found["rms"] is None
    assert found["units"]["rad"]["mean_abs"] == pytest.approx(0.02)
    assert found["units"]["m"]["mean_abs"] == pytest.approx(0.004)
    assert found["joints"]["grip"]["unit"] == "m"
    assert per_unit(found, "mean_abs") == "0.02 rad, 0.004 m"
    assert [row[0] for row in joint_rows(found)] == ["elbow (rad)", "grip (m)"]
    assert verdict(found) == (
        "better than standing still (rad): 8 % of its error; worse than standing still (m):"
        " 1.60 times its error; it has learned nothing here"
    )
    plot = pytest.importorskip("pi0_ros.eval.page", reason="matplotlib is not installed")
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot.Figure, "savefig", lambda figure, stream, format: drawn.append(figure))
        plot.horizon_png(found)
    axes = drawn[0].axes
    assert [axis.get_ylabel() for axis in axes] == ["mean error (rad)", "mean error (m)"]
    assert [axis.get_lines()[0].get_label() for axis in axes] == ["elbow", "grip"]
    still = sums_of(predicted, np.zeros_like(recorded), state, np.arange(3) * 10**8, 0.02)
    assert verdict(figures(still, ("a", "b"), ("rad", "rad"), 0.02)).startswith(
        "the recorded arm stood still"
    )
