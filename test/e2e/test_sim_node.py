"""pi0_sim over DDS, in a process of its own."""

import signal
import sys
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import String
from support import ROOT
from support.domains import free_domain
from support.process import Process
from support.sim_process import Sim, nanoseconds, trajectory
from support.waiting import SOON

from pi0_ros.ros.environment import environment
from pi0_ros.sim.expert import CONTROL_SECONDS, Expert
from pi0_ros.sim.stage import HOME, JOINTS
from pi0_ros.sim.world import World

Start = Callable[..., Process]
SEED, TOY_SEED = 3, 11
MS = 1_000_000


@pytest.fixture(scope="module")
def surroundings() -> Iterator[None]:
    """Everything stays on the loopback, and raw pictures fit the shared memory."""
    variables = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
    }
    with environment(variables):
        yield


@pytest.fixture(scope="module")
def sim(surroundings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    """In real time, asked for more pictures than most machines draw."""
    log = tmp_path_factory.mktemp("sim") / "log"
    running = Sim(free_domain(), log, ["--seed", str(SEED), "--camera-hz", "100"])
    yield running
    status = running.end()
    running.close()
    assert status == 0


def test_topics_and_types(sim: Sim) -> None:
    sim.until(
        lambda: all(sim.heard[f"{camera}/image_raw"] for camera in ("front", "wrist")), "pictures"
    )
    types = dict(sim.node.get_topic_names_and_types())
    assert types["/joint_trajectory"] == ["trajectory_msgs/msg/JointTrajectory"]
    assert types["/instruction"] == ["std_msgs/msg/String"]
    assert "/sim/touched" in types
    assert not sim.heard["/clock"], "only with --clock"

    world = World(SEED)
    try:
        expected = world.images()
        instructions = list(world.instructions())
    finally:
        world.close()
    for camera in ("front", "wrist"):
        _, message = sim.heard[f"{camera}/image_raw"][0]
        shape = (message.height, message.width, 3)
        assert (shape, message.encoding, message.step) == ((480, 640, 3), "rgb8", 1920)
        picture = np.frombuffer(message.data, np.uint8).reshape(shape)
        assert np.abs(picture.astype(int) - expected[camera]).mean() < 3, camera

    ((_, description),) = sim.heard["robot_description"]
    assert all(f'<joint name="{joint}"' in description.data for joint in JOINTS)
    assert sim.score["instructions"] == instructions
    assert (sim.score["tries"], sim.score["right"]) == (0, None)


def test_time_stays_real_while_pictures_are_late(sim: Sim) -> None:
    sim.forget_streams()
    sim.spin(2.0)
    states = sim.heard["joint_states"]
    assert tuple(states[0][1].name) == JOINTS
    assert len(states[0][1].velocity) == len(JOINTS)
    stamps = np.array([nanoseconds(m.header.stamp) for _, m in states], dtype=np.int64)
    steps = np.diff(stamps) / MS
    assert np.median(steps) == pytest.approx(10, abs=0.1)
    # On a machine that is busy with something else a state may get lost, not more.
    assert len(stamps) > 150 and steps.max() < 60
    ages = np.array([at for at, _ in states]) - stamps
    assert np.median(ages) < 500 * MS, "the stamps are the system's time"
    pictures = [
        {nanoseconds(m.header.stamp) for _, m in sim.heard[f"{camera}/image_raw"]}
        for camera in ("front", "wrist")
    ]
    assert 10 < len(pictures[0] | pictures[1]) <= len(stamps) + 1
    assert pictures[0] & pictures[1], "of the same moments"


def test_a_trajectory_moves_the_joints_to_where_it_says(sim: Sim) -> None:
    goal = np.array(HOME) + np.array([0.5, 0.2, -0.2, -0.3, 0.3, -0.2])
    sim.trajectories.publish(trajectory([0.6], [goal[::-1]], JOINTS[::-1]))
    sim.until(lambda: np.abs(sim.joints - goal).max() < 0.03, "the joints are there", 10)


@pytest.mark.parametrize(
    ("names", "times", "says"),
    [
        (("pan", *JOINTS[1:]), [0.2, 0.4], "unknown joints: pan; expected shoulder_pan"),
        (JOINTS, [0.4, 0.4], "times must strictly increase"),
    ],
)
def test_a_bad_trajectory_is_rejected_and_moves_nothing(
    sim: Sim, names: tuple[str, ...], times: list[float], says: str
) -> None:
    sim.spin(0.5)  # at rest
    before = sim.joints
    bad = trajectory(times, [np.zeros(6), np.ones(6)], names)
    # The log is throttled: a line may fall to the test before this one.
    for _ in range(30):
        sim.trajectories.publish(bad)
        sim.spin(0.1)
        if says in sim.log:
            break
    assert f"joint_trajectory rejected: {says}" in sim.log
    sim.spin(0.5)
    assert np.abs(sim.joints - before).max() < 0.01


def test_instructions_that_name_nothing_begin_no_try(sim: Sim) -> None:
    sim.instructions.publish(String(data="touch the purple cow"))
    sim.until(lambda: "no object here is meant by 'touch the purple cow'" in sim.log, "a warning")
    assert sim.score["tries"] == 0


@pytest.fixture(scope="module")
def toy(surroundings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    """In simulated time, faster than real, with JPEG pictures."""
    arguments = ["--clock", "--speed", "3", "--seed", str(TOY_SEED), "--compressed"]
    running = Sim(free_domain(), tmp_path_factory.mktemp("toy") / "log", arguments)
    yield running
    status = running.end()
    running.close()
    assert status == 0


def test_simulated_time_is_the_time_everywhere(toy: Sim) -> None:
    toy.spin(0.5)
    toy.forget_streams()
    toy.spin(1.5)
    clock = [(at, nanoseconds(message.clock)) for at, message in toy.heard["/clock"]]
    ran = (clock[-1][1] - clock[0][1]) / (clock[-1][0] - clock[0][0])
    assert 2.0 < ran < 3.5, "three times as fast as real time"
    assert clock[-1][1] < 600e9, "it has begun near 0"
    states = [nanoseconds(m.header.stamp) for _, m in toy.heard["joint_states"]]
    assert all(stamp % (10 * MS) == 0 for stamp in states)
    times = [time for _, time in clock]
    second = 1000 * MS  # each stream has a queue of its own, and a busy machine fills them
    assert min(times) - second < min(states) and max(states) < max(times) + second
    for camera in ("front", "wrist"):
        pictures = toy.heard[f"{camera}/image_raw/compressed"]
        assert len(pictures) > 5
        _, message = pictures[-1]
        assert min(times) - second < nanoseconds(message.header.stamp) < max(times) + second
        assert message.format == "rgb8; jpeg compressed bgr8"
        decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (480, 640, 3) and decoded.std() > 10


def expert_way(seed: int, instruction: str) -> tuple[list[float], np.ndarray]:
    """Times and commands of the expert, from the beginning of a scene to the contact."""
    world = World(seed)
    expert = Expert(world)
    commands = []
    while world.touched is None:
        commands.append(expert.chunk(instruction, 1)[0])
        world.step(commands[-1], CONTROL_SECONDS)
        assert len(commands) < 400, "the expert does not get there"
    commands += [commands[-1]] * 5
    return [(i + 1) * CONTROL_SECONDS for i in range(len(commands))], np.array(commands)


def touch(toy: Sim, seed: int, told: int, done: int) -> None:
    """Ask for one object of the scene and touch another, or the same."""
    instructions = toy.score["instructions"]
    before = toy.score["tries"]
    toy.heard["sim/touched"].clear()
    toy.instructions.publish(String(data=instructions[told]))
    toy.until(lambda: toy.score["tries"] == before + 1, "the try has begun")
    toy.instructions.publish(String(data=instructions[told]))  # again: no new try
    toy.trajectories.publish(trajectory(*expert_way(seed, instructions[done])))
    toy.until(lambda: toy.heard["sim/touched"] and toy.score["touched"], "a contact")


def test_touching_the_named_object_is_reported_and_counted(toy: Sim) -> None:
    touch(toy, TOY_SEED, told=0, done=0)
    name = World(TOY_SEED).target(toy.score["instructions"][0])
    ((_, message),) = toy.heard["sim/touched"]
    assert message.data == toy.score["touched"] == name
    assert toy.score["right"] is True
    assert (toy.score["tries"], toy.score["successes"]) == (1, 1)
    assert 0.3 < toy.score["seconds"] < 20


def test_touching_another_object_is_no_success(toy: Sim) -> None:
    said = toy.next_scene()
    world = World(TOY_SEED + 1)
    assert said == ", ".join(world.instructions())
    toy.until(lambda: toy.score["scene"] == TOY_SEED + 1, "the new scene's tally")
    toy.until(lambda: np.abs(toy.joints - world.positions).max() < 0.02, "the arm is back home")
    tries, successes = toy.score["tries"], toy.score["successes"]
    touch(toy, TOY_SEED + 1, told=0, done=1)
    assert toy.score["touched"] == world.target(world.instructions()[1])
    assert toy.score["right"] is False
    assert (toy.score["tries"], toy.score["successes"]) == (tries + 1, successes)


SIM = (sys.executable, "-m", "pi0_ros.sim.node")


def test_sigterm_ends_it_with_status_0(surroundings: None, start_process: Start) -> None:
    process = start_process(SIM, domain=free_domain())
    process.wait_for("scene 0")
    assert process.end(signal.SIGTERM, SOON) == 0, process.tail
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ([], {"MUJOCO_GL": "nonsense"}, "no OpenGL for camera pictures with MUJOCO_GL='nonsense'"),
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
    for word in ("joint_trajectory", "~/score", "~/next_scene", "--splice", "--from-desired"):
        assert word in process.output
