"""The service ~/profile over real DDS."""

from pathlib import Path

import numpy as np
import pytest
from support.harness import FakePolicy

from pi0_ros.policy.types import ActionChunk, Observation

pytest.importorskip("rclpy")


class TorchPolicy(FakePolicy):
    """Gives torch's profiler something to see."""

    def infer(self, observation: Observation) -> ActionChunk:
        import torch

        torch.ones(64, 64) @ torch.ones(64, 64)
        return super().infer(observation)


def ask(robot):
    """Call the service; returns the future of its answer."""
    from std_srvs.srv import Trigger

    client = robot.robot.create_client(Trigger, "/pi0/profile")
    robot.wait(client.service_is_ready, "the service")
    answer = client.call_async(Trigger.Request())
    robot.wait(robot.node.loop._profile_wanted, "the request at the node")
    return answer


def test_a_profile_on_the_robots_own_pictures(start, tmp_path: Path) -> None:
    policy = TorchPolicy()
    robot = start(policy, profile_dir=str(tmp_path))
    robot.chunk()
    answer = ask(robot)
    robot.send_all()
    robot.tick()
    robot.wait(answer.done, "the answer")
    assert answer.result().success, answer.result().message
    assert "busy share" in answer.result().message
    assert "aten::mm" in answer.result().message
    assert list(tmp_path.rglob("trace.json"))
    np.testing.assert_array_equal(policy.seen[-1].images["front"], np.full((4, 6, 3), 100))
    assert len(robot.trajectories) == 1, "profiled chunks are not published"
    robot.chunk()


def test_diagnostics_tell_of_a_profile_that_takes_long(start, tmp_path: Path) -> None:
    robot = start(TorchPolicy(), profile_dir=str(tmp_path))
    robot.chunk()
    robot.policy.go_on.clear()
    answer = ask(robot)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.summary().endswith("a profile is being made"), "the report")
    assert robot.diagnostics[-1].status[0].level == b"\x01"
    robot.policy.go_on.set()
    robot.wait(answer.done, "the answer")


def test_no_observation_no_profile(start) -> None:
    robot = start()
    answer = ask(robot)
    robot.send_all(skip="wrist")
    robot.tick()
    robot.wait(answer.done, "the answer")
    assert not answer.result().success
    assert "no image on camera wrist" in answer.result().message


def test_what_goes_wrong_is_told_to_the_caller_and_the_node_goes_on(start, tmp_path: Path) -> None:
    robot = start(FakePolicy(device="toaster"), profile_dir=str(tmp_path))
    answer = ask(robot)
    robot.send_all()
    robot.tick()
    robot.wait(answer.done, "the answer")
    assert not answer.result().success
    assert "device must be one of" in answer.result().message
    robot.chunk()
