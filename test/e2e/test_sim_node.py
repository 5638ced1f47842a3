"""pi0_sim over DDS, in a process of its own."""

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import String
from support.domains import free_domain
from support.process import Process
from support.sim_process import Sim, images, nanoseconds, trajectory
from support.waiting import SOON

from pi0_ros.sim.stage import CAMERAS, HOME, JOINTS
from pi0_ros.sim.world import World

Start = Callable[..., Process]
SEED = 3
MS = 1_000_000


@pytest.fixture(scope="module")
def sim(surroundings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    """In real time, asked for more images than most machines render."""
    log = tmp_path_factory.mktemp("sim") / "log"
    running = Sim(free_domain(), log, ["--seed", str(SEED), "--camera-hz", "100"])
    yield running
    status = running.end()
    running.close()
    assert status == 0


def test_topics_and_types(sim: Sim) -> None:
    sim.until(lambda: all(images(sim)) and sim.heard["robot_description"], "images and the URDF")
    expected_types = {
        "/joint_trajectory": ["trajectory_msgs/msg/JointTrajectory"],
        "/instruction": ["std_msgs/msg/String"],
        "/sim/touched": ["std_msgs/msg/String"],
    }
    sim.until(
        lambda: expected_types.items() <= dict(sim.node.get_topic_names_and_types()).items(),
        "its topics",
    )
    assert not sim.heard["/clock"], "only with --clock"

    world = World(SEED)
    try:
        expected = world.images()
        instructions = list(world.instructions())
    finally:
        world.close()
    for camera, (message, *_) in zip(CAMERAS, images(sim), strict=True):
        shape = (message.height, message.width, 3)
        assert (shape, message.encoding, message.step) == ((480, 640, 3), "rgb8", 1920)
        image = np.frombuffer(message.data, np.uint8).reshape(shape)
        assert np.abs(image.astype(int) - expected[camera]).mean() < 3, camera

    ((_, description),) = sim.heard["robot_description"]
    assert all(f'<joint name="{joint}"' in description.data for joint in JOINTS)
    assert sim.score["instructions"] == instructions
    assert (sim.score["tries"], sim.score["right"]) == (0, None)


def test_time_stays_real_while_images_are_late(sim: Sim) -> None:
    sim.forget_streams()

    def stamps_of(messages: list[Any]) -> list[int]:
        return [nanoseconds(message.header.stamp) for message in messages]

    def states() -> list[Any]:
        return [message for _, message in sim.heard["joint_states"]]

    def moments() -> set[int]:
        """At which both cameras and the joint states were taken."""
        front, wrist = map(stamps_of, images(sim))
        return set(front) & set(wrist) & set(stamps_of(states()))

    def regular() -> bool:
        """The last states are 10 ms apart: on a busy machine most may get lost for some time."""
        stamps = np.array(stamps_of(states()[-150:]), dtype=np.int64)
        return len(stamps) == 150 and abs(np.median(np.diff(stamps)) - 10 * MS) < 0.1 * MS

    sim.until(lambda: regular() and moments(), "images and states of one moment, states at 100 Hz")
    assert tuple(states()[0].name) == JOINTS
    assert len(states()[0].velocity) == len(JOINTS)
    ages = [at - nanoseconds(m.header.stamp) for at, m in sim.heard["joint_states"]]
    assert 0 < min(ages) < 5000 * MS, "the stamps are the system's time"


def test_a_trajectory_moves_the_joints_to_where_it_says(sim: Sim) -> None:
    goal = np.array(HOME) + np.array([0.5, 0.2, -0.2, -0.3, 0.3, -0.2])
    sim.trajectories.publish(trajectory([0.6], [goal[::-1]], JOINTS[::-1]))
    sim.until(lambda: np.abs(sim.joints - goal).max() < 0.03, "the joints are there")


@pytest.mark.parametrize(
    ("names", "times", "says"),
    [
        (("pan", *JOINTS[1:]), [0.2, 0.4], "unknown joint: pan; expected shoulder_pan"),
        (JOINTS, [0.4, 0.4], "times not strictly increasing"),
    ],
)
def test_a_bad_trajectory_is_rejected_and_moves_nothing(
    sim: Sim, names: tuple[str, ...], times: list[float], says: str
) -> None:
    def spread(number: int) -> float:
        """Radians within which the last joint states lie, so many of them."""
        states = [message.position for _, message in sim.heard["joint_states"][-number:]]
        return float(np.ptp(states, axis=0).max()) if len(states) == number else np.inf

    sim.forget_streams()
    sim.until(lambda: spread(30) < 0.002, "the arm is at rest")
    bad = trajectory(times, [np.zeros(6), np.ones(6)], names)
    sim.forget_streams()

    def logged() -> bool:
        # The log is throttled: a line may fall to the test before this one.
        sim.trajectories.publish(bad)
        return f"joint_trajectory rejected: {says}" in sim.log

    sim.until(logged, "the rejection")
    heard = sim.heard["joint_states"]
    sim.until(lambda: heard, "joint states")
    over = nanoseconds(heard[-1][1].header.stamp) + 600 * MS  # what was taken would be over
    sim.until(lambda: nanoseconds(heard[-1][1].header.stamp) >= over, "later joint states")
    assert spread(len(sim.heard["joint_states"])) < 0.01


def test_instructions_that_name_nothing_begin_no_try(sim: Sim) -> None:
    sim.instructions.publish(String(data="touch the purple cow"))
    sim.until(lambda: "no object here is meant by 'touch the purple cow'" in sim.log, "a warning")
    assert sim.score["tries"] == 0


SIM = (sys.executable, "-m", "pi0_ros.sim.node")


def test_sigterm_ends_it_with_status_0(surroundings: None, start_process: Start) -> None:
    process = start_process(SIM, domain=free_domain())
    process.wait_for("scene 0")
    assert process.end(signal.SIGTERM, SOON) == 0, process.tail
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ([], {"MUJOCO_GL": "nonsense"}, "no OpenGL for camera images with MUJOCO_GL='nonsense'"),
        (["--window"], {"DISPLAY": "", "WAYLAND_DISPLAY": ""}, "no window without a display"),
        (["--camera-hz", "1000"], {}, "at most 100 Hz, got 1000"),
        (["--ros-args", "-r", "nonsense"], {}, "ROS does not take the arguments"),
    ],
)
def test_what_cannot_run_says_so_once_and_ends_with_status_1(
    surroundings: None,
    start_process: Start,
    arguments: list[str],
    variables: dict[str, str],
    says: str,
) -> None:
    process = start_process([*SIM, *arguments], domain=free_domain(), **variables)
    assert process.wait() == 1, process.tail
    assert process.output.count("pi0_sim: ") == 1 and says in process.output
    assert "Traceback" not in process.output


def test_speed_needs_simulated_time(start_process: Start) -> None:
    process = start_process([*SIM, "--speed", "2"])
    assert process.wait() == 2
    assert "--speed needs --clock" in process.output


def test_help_names_the_topics(start_process: Start) -> None:
    process = start_process([*SIM, "--help"], COLUMNS="100")
    assert process.wait() == 0
    assert process.output.startswith("usage: pi0_sim")
    for word in ("joint_trajectory", "~/score", "~/next_scene", "--controller", "--from-desired"):
        assert word in process.output
