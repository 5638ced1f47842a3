"""The managed node: states, latches, what a hung inference does; over real DDS on loopback."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from support.harness import FakePolicy
from support.operator import call, change, dry_chunk, enable, state
from support.waiting import wait_until

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import GetState
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

ROOT = Path(__file__).parents[2]
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE


# Life cycle -------------------------------------------------------------------------------------


def test_states_and_what_is_published_in_them(start):
    robot = start(FakePolicy())
    robot.chunk()
    assert state(robot) == "active"
    assert change(robot, DEACTIVATE)
    assert state(robot) == "inactive" and not robot.node.motion_enable.enabled
    published = len(robot.trajectories), len(robot.chunks)
    for _ in range(3):
        robot.advance(0.1)
        robot.settle()
    assert (len(robot.trajectories), len(robot.chunks)) == published
    # The graph of the other participant follows a little later.
    wait_until(lambda: not robot.cameras["front"].get_subscription_count(), "no subscription")
    assert not enable(robot).success, "an inactive node cannot be enabled"

    assert change(robot, ACTIVATE)
    wait_until(lambda: robot.cameras["front"].get_subscription_count(), "the subscription")
    wait_until(lambda: robot.joints.get_subscription_count(), "the subscription")
    robot._greet()
    robot.chunk()
    assert change(robot, DEACTIVATE) and change(robot, CLEANUP)
    assert state(robot) == "unconfigured"
    assert robot.node.loop is None
    assert change(robot, CONFIGURE) and state(robot) == "inactive"


def test_a_transition_that_does_not_exist_is_refused(start):
    robot = start()
    assert not change(robot, CONFIGURE)
    assert not change(robot, 77)
    assert state(robot) == "active"
    robot.chunk()


def test_a_failed_configure_can_be_repeated(start):
    robot = start(activate=False)
    broken = [ValueError("no weights"), RuntimeError("out of memory")]

    def load(_):
        if broken:
            raise broken.pop()
        return robot.policy

    robot.node._load = load
    problems = ["action_dt: 0.02 s, but the checkpoint was recorded at 10 Hz"]
    robot.node._check = lambda *_: [problems.pop()] if problems else []
    for _ in range(3):
        assert not change(robot, CONFIGURE)
        assert state(robot) == "unconfigured"
    said = []
    wait_until(lambda: robot.diagnostics, "diagnostics")
    for message in robot.diagnostics:
        said.append(message.status[0].message)
    text = "\n".join(said)
    assert "recorded at 10 Hz" in text and "out of memory" in text and "no weights" in text
    assert change(robot, CONFIGURE) and state(robot) == "inactive"


def test_a_fault_while_activating_goes_through_on_error(start, monkeypatch):
    robot = start(activate=False)
    assert change(robot, CONFIGURE)

    def broken(*_):
        raise RuntimeError("no room for subscriptions")

    with monkeypatch.context() as patch:
        patch.setattr("pi0_ros.node.control_loop.InputSubscriptions", broken)
        assert not change(robot, ACTIVATE)
    assert state(robot) == "unconfigured"
    assert change(robot, CONFIGURE) and change(robot, ACTIVATE)
    assert state(robot) == "active"


def test_the_chunk_of_a_past_activation_is_dropped(start):
    robot = start()
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    robot.wait(robot.policy.started.is_set, "the inference")
    assert change(robot, DEACTIVATE) and change(robot, ACTIVATE)
    robot.policy.go_on.set()
    robot.wait(lambda: not robot.node.loop.worker.busy, "the end of the inference")
    robot.settle()
    assert not robot.trajectories and not robot.chunks
    robot._greet()
    robot.chunk()


def test_shutdown(start):
    robot = start()
    robot.chunk()
    assert change(robot, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state(robot) == "finalized"
    assert robot.node.loop is None


def test_autostart_tries_until_it_works(start, monkeypatch):
    monkeypatch.setattr("pi0_ros.ros.managed_node.RETRY_PERIOD", 0.2)
    missing = ["checkpoint: no such directory"] * 2
    check = lambda *_: [missing.pop()] if missing else []  # noqa: E731
    robot = start(activate=False, autostart=True, check=check)
    wait_until(lambda: robot.node.state == "active", "the third attempt")
    assert not missing


def test_starvation_slows_down_to_a_stop_once(start):
    robot = start(starve_timeout=0.2)
    robot.chunk()
    for _ in range(7):  # the image is too old after two; the trajectory lasts for ten
        robot.send_all(skip="front")
        robot.tick()
    robot.wait(lambda: robot.node.counts.stops == 1, "the stop")
    moved = robot.node.counts.trajectories
    assert 1 <= moved <= 3
    robot.wait(lambda: len(robot.trajectories) == moved + 1, "the stopping trajectory")
    robot.settle()
    assert len(robot.trajectories) == moved + 1 and robot.node.counts.stops == 1
    stop = robot.trajectories[-1]
    assert not np.any(stop.points[-1].velocities)
    assert np.abs(np.subtract(stop.points[-1].positions, [0.1, 0.2, 0.3])).max() < 1.0
    assert robot.node.motion_enable.enabled, "the node goes on when the camera comes back"
    robot.chunk()


def test_rejected_chunks_latch_until_reset(start):
    def jump(positions):
        return positions + 3.0

    robot = start(FakePolicy(corrupt=jump), reject_latch=3)
    for number in range(3):
        robot.send_all()
        robot.tick()
        robot.wait(lambda n=number: robot.refused() == {"limits": n + 1}, "the rejection")
    robot.wait(lambda: "3 rejected" in robot.node.motion_enable.latched, "the latch")
    robot.wait(lambda: len(robot.chunks) == 3, "the rejected chunks")
    assert not robot.trajectories and not robot.node.counts.chunks
    for message in robot.chunks:
        assert message.verdict == message.REJECTED
        assert message.rejected_reason.startswith("limits: joint")
    robot.policy.corrupt = lambda positions: positions
    dry_chunk(robot)
    assert robot.chunks[-1].verdict == robot.chunks[-1].DRY_RUN
    assert not robot.trajectories
    resets = robot.policy.resets
    assert call(robot, Trigger, "reset").success
    assert enable(robot).success
    robot.chunk()
    assert robot.policy.resets == resets + 1, "a new episode"


def test_a_hung_inference_is_given_up(start):
    robot = start(inference_timeout=2.0)
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {"timeout": 1}, "the watchdog")
    robot.policy.go_on.set()
    robot.wait(lambda: not robot.node.loop.worker.busy, "the end of the inference")
    robot.settle()
    assert not robot.trajectories and not robot.chunks
    assert robot.refused() == {"timeout": 1}
    robot.chunk()


# Parameters -------------------------------------------------------------------------------------


def test_live_parameters(start):
    robot = start()
    set_parameters = robot.node.set_parameters
    (result,) = set_parameters([Parameter("rate_hz", value=5.0)])
    assert result.successful and robot.node.parameters.rate_hz == 5.0
    ticks = robot.node.counts.ticks
    for _ in range(10):
        robot.advance(0.1)
        robot.settle()
    assert 4 <= robot.node.counts.ticks - ticks <= 6, "1 s at 5 Hz"
    (result,) = set_parameters([Parameter("rate_hz", value=10.0)])
    (result,) = set_parameters([Parameter("instruction", value="touch the blue cube")])
    assert result.successful
    robot.rest()
    robot.chunk()
    assert robot.chunks[-1].instruction == "touch the blue cube"
    for name, value, why in (
        ("instruction", "", "empty"),
        ("rate_hz", 1000.0, "rate_hz"),
        ("rate_hz", "fast", ""),
        ("seed", 3, ""),
        ("max_jump", -1.0, "max_jump"),
    ):
        (result,) = set_parameters([Parameter(name, value=value)])
        assert not result.successful and why in result.reason, name
    assert robot.node.parameters.rate_hz == 10.0
    (result,) = set_parameters([Parameter("max_jump", value=0.001)])
    assert result.successful
    robot.send_all()
    robot.tick()
    robot.wait(lambda: "limits" in robot.refused(), "the new limit")


# Security ---------------------------------------------------------------------------------------


def test_the_sros2_policy_names_what_the_node_uses(start):
    robot = start(deadman_timeout=0.0)
    policy = ElementTree.parse(ROOT / "config/sros2_policy.xml").getroot()

    def allowed(kind: str, attribute: str) -> set[str]:
        found = (e for e in policy.iter(f"{kind}s") if e.get(attribute) == "ALLOW")
        names = (name.text for element in found for name in element)
        return {robot.node.resolve_topic_name(name) for name in names}

    node = (robot.node.get_name(), robot.node.get_namespace())

    def known() -> bool:
        return node in robot.robot.get_node_names_and_namespaces()

    robot.wait(known, "the node in the graph")
    heard = dict(robot.robot.get_subscriber_names_and_types_by_node(*node))
    said = dict(robot.robot.get_publisher_names_and_types_by_node(*node))
    served = dict(robot.robot.get_service_names_and_types_by_node(*node))
    assert allowed("topic", "subscribe") - {"/deadman"} == set(heard) - {"/parameter_events"}
    (action,) = allowed("action", "execute")
    assert allowed("topic", "publish") == {name for name in said if not name.startswith(action)}
    served = {name for name in served if not name.startswith(f"{action}/_action/")}
    # get_type_description came after Humble.
    assert allowed("service", "reply") - {"/pi0/get_type_description"} == served - {
        "/pi0/get_type_description"
    }


def test_state_ids(start):
    """The labels that /diagnostics and the log use are lifecycle_msgs' own."""
    robot = start(activate=False)
    assert robot.node.state == "unconfigured"
    answer = call(robot, GetState, "get_state").current_state
    assert answer.id == State.PRIMARY_STATE_UNCONFIGURED
