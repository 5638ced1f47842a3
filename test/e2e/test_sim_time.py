"""pi0_sim in simulated time over DDS, in a process of its own."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import String
from support.domains import free_domain
from support.sim_process import Sim, images, nanoseconds, trajectory

from pi0_ros.sim.expert import CONTROL_SECONDS, Expert
from pi0_ros.sim.stage import CAMERAS
from pi0_ros.sim.world import World

TOY_SEED = 11
MS = 1_000_000


@pytest.fixture(scope="module")
def toy(surroundings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    """In simulated time, faster than real, with JPEG images."""
    arguments = ["--clock", "--speed", "3", "--seed", str(TOY_SEED), "--compressed"]
    running = Sim(free_domain(), tmp_path_factory.mktemp("toy") / "log", arguments)
    yield running
    status = running.end()
    running.close()
    assert status == 0


def test_simulated_time_is_the_time_everywhere(toy: Sim) -> None:
    toy.forget_streams()

    def clock() -> list[int]:
        return [nanoseconds(message.clock) for _, message in toy.heard["/clock"]]

    def of_the_clock(messages: Iterable[Any]) -> bool:
        """Each stream has a queue of its own: some of its moments are enough."""
        return bool({nanoseconds(m.header.stamp) for m in messages} & set(clock()))

    def runs_fast() -> bool:
        """Over some of the messages; a busy machine may need some time for it."""
        heard = toy.heard["/clock"]
        times = np.array([(at, nanoseconds(m.clock)) for at, m in heard], np.int64).reshape(-1, 2)
        real, simulated = (times[30:] - times[:-30]).T
        return bool((simulated > 1.5 * real).any())

    toy.until(runs_fast, "faster than real time")
    assert clock()[-1] < 3.5e9 * (time.monotonic() - toy.began), "three times as fast"
    assert all(time % (10 * MS) == 0 for time in clock())
    toy.until(lambda: of_the_clock(m for _, m in toy.heard["joint_states"]), "joint states")
    for index, camera in enumerate(CAMERAS):
        toy.until(lambda index=index: of_the_clock(images(toy, "/compressed")[index]), camera)
        message = images(toy, "/compressed")[index][-1]
        assert message.format == "rgb8; jpeg compressed bgr8"
        decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (480, 640, 3) and decoded.std() > 10


def expert_path(seed: int, instruction: str) -> tuple[list[float], np.ndarray]:
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
    toy.trajectories.publish(trajectory(*expert_path(seed, instructions[done])))
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
