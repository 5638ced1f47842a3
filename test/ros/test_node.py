"""The node over real DDS on loopback, with a policy that needs no model and a clock of its own."""

import cv2
import numpy as np
import pytest
from support.arm_urdf import arm_urdf
from support.harness import DT, HORIZON, JOINTS, FakePolicy
from support.waiting import wait_until

pytest.importorskip("rclpy")


def seconds(duration) -> float:
    return duration.sec + duration.nanosec / 1e9


def test_a_chunk_becomes_a_trajectory(start):
    robot = start(instruction="stack the cups", seed=7)
    robot.send(robot.cameras["front"], robot.image(np.zeros((4, 6, 3), np.uint8)), age=0.05)
    robot.send(robot.cameras["wrist"], robot.image(np.zeros((2, 2, 3), np.uint8)), age=0.02)
    robot.send(robot.joints, robot.state(pan=0.1, lift=0.2, gripper=0.3), age=0.01)
    oldest = robot.now - 50_000_000
    robot.tick()
    robot.wait(lambda: robot.trajectories and robot.chunks, "both outputs")

    message = robot.trajectories[0]
    assert message.joint_names == list(JOINTS)
    # The stamp is the last multiple of 20 ms before the observation.
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert stamp == oldest // 20_000_000 * 20_000_000
    assert len(message.points) == HORIZON
    nanoseconds = [
        p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points
    ]
    assert nanoseconds == [(i + 1) * 20_000_000 for i in range(HORIZON)]
    positions = np.array([p.positions for p in message.points])
    expected = np.array([0.1, 0.2, 0.3]) + 0.01 * np.outer(np.arange(1, HORIZON + 1), [1, 2, 3])
    velocities = np.array([p.velocities for p in message.points])
    # 0.15 s old, so the arm that rests departs at the knot of 0.2 s, the first that is 0.04 s from
    # now; 0.1 s later it is where the chunk is.
    np.testing.assert_allclose(positions[:10], np.tile([0.1, 0.2, 0.3], (10, 1)), atol=1e-12)
    assert not velocities[:10].any() and not velocities[-1].any()
    np.testing.assert_allclose(positions[15:-1], expected[15:-1], atol=1e-6)
    np.testing.assert_allclose(velocities[15:-1], np.tile([0.5, 1.0, 1.5], (34, 1)), atol=1e-4)

    chunk = robot.chunks[0]
    assert chunk.header.stamp.sec * 10**9 + chunk.header.stamp.nanosec == oldest
    assert (chunk.sequence, chunk.seed, chunk.instruction) == (0, 7, "stack the cups")
    assert (chunk.dt, chunk.horizon, chunk.joint_names) == (DT, HORIZON, list(JOINTS))
    np.testing.assert_allclose(np.reshape(chunk.positions, (HORIZON, 3)), expected, atol=1e-6)
    assert chunk.camera_names == ["front", "wrist"]
    np.testing.assert_allclose(chunk.camera_ages, [0.15, 0.12], atol=1e-6)
    np.testing.assert_allclose(chunk.joint_states_age, 0.11, atol=1e-6)
    assert chunk.stage_names == ["preprocess", "model"]
    np.testing.assert_allclose(chunk.stage_times, [0.001, 0.002])
    assert robot.refused() == {}


def test_joints_are_matched_by_name(start):
    robot = start()
    robot.send_all(skip="joints")
    robot.send(robot.joints, robot.state(wheel=9.0, gripper=0.3, lift=0.2, pan=0.1, arm2=8.0))
    robot.send(robot.joints, robot.state(wheel=9.0))  # another publisher, none of our joints
    robot.tick()
    robot.wait(lambda: robot.trajectories, "a trajectory")
    np.testing.assert_allclose(robot.policy.seen[0].state, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(robot.trajectories[0].points[0].positions, [0.1, 0.2, 0.3], 1e-5)
    np.testing.assert_allclose(
        robot.trajectories[0].points[39].positions, [0.495, 0.99, 1.485], 1e-5
    )


def test_cameras_keep_their_names_and_colours(start):
    robot = start()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    robot.send_all()
    robot.send(robot.cameras["wrist"], robot.image(pixels[..., ::-1], "bgr8"))
    robot.send(robot.cameras["front"], robot.image(pixels[..., 0], "mono8"))
    robot.tick()
    robot.wait(lambda: robot.chunks, "a chunk")
    images = robot.policy.seen[0].images
    np.testing.assert_array_equal(images["wrist"], pixels)
    np.testing.assert_array_equal(images["front"], pixels[..., :1].repeat(3, axis=2))


def test_compressed_transport(start):
    from sensor_msgs.msg import CompressedImage

    robot = start(image_transport="compressed")
    assert robot.cameras["front"].topic_name == "/front/image_raw/compressed"
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    for name, publisher in robot.cameras.items():
        shown = pixels if name == "front" else 255 - pixels
        data = cv2.imencode(".png", shown[..., ::-1])[1].tobytes()
        robot.send(publisher, CompressedImage(format="png", data=data))
    robot.send(robot.joints, robot.state(pan=0.1, lift=0.2, gripper=0.3))
    robot.tick()
    robot.wait(lambda: robot.chunks, "a chunk")
    np.testing.assert_array_equal(robot.policy.seen[0].images["front"], pixels)
    np.testing.assert_array_equal(robot.policy.seen[0].images["wrist"], 255 - pixels)


def test_instruction_by_topic(start):
    from std_msgs.msg import String

    robot = start(instruction="")
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {"missing": 1}, "no instruction")
    for text in ("touch the red cube", "touch the blue cube"):
        robot.instruction.publish(String(data=text))
        robot.wait(lambda t=text: robot.node.loop.buffer.instruction == t, "the instruction")
        robot.chunk()
        assert robot.policy.seen[-1].instruction == text
        robot.wait(lambda t=text: robot.chunks[-1].instruction == t, "the chunk's instruction")


def test_instruction_kept_by_its_publisher(start):
    """Transient-local publishers (`ros2 topic pub` is one) are heard although they spoke before."""
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    def publish(node):
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_publisher(String, "instruction", kept).publish(String(data="fold the towel"))

    robot = start(instruction="", before=publish)
    robot.wait(lambda: robot.node.loop.buffer.instruction == "fold the towel", "the kept message")
    robot.instruction.publish(String(data="stop"))  # a volatile publisher beside it
    robot.wait(lambda: robot.node.loop.buffer.instruction == "stop", "the new message")


def test_slow_inference_blocks_nothing(start):
    robot = start(max_jump=2.0)
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    first = robot.now - 100_000_000
    robot.wait(robot.policy.started.is_set, "the inference")
    for _ in range(3):
        robot.send_all()  # waits for each arrival: the callbacks run
        robot.tick()
    robot.wait(lambda: robot.node.counts.busy == 3, "busy ticks")
    assert not robot.trajectories
    robot.policy.go_on.set()
    robot.wait(lambda: len(robot.trajectories) == 1, "the chunk")
    stamp = robot.trajectories[0].header.stamp
    assert stamp.sec * 10**9 + stamp.nanosec == first // 20_000_000 * 20_000_000
    robot.chunk()
    counts = robot.node.counts
    robot.wait(lambda: counts.chunks == 2, "the count of a chunk that was published")
    assert (counts.ticks, counts.busy, counts.chunks, robot.refused()) == (5, 3, 2, {})


@pytest.mark.parametrize(
    ("reason", "corrupt"),
    [
        ("nonfinite", lambda positions: np.where(positions > 0.5, np.nan, positions)),
        ("failed", lambda positions: positions[:-1]),
        ("failed", lambda positions: 1 / 0),
    ],
)
def test_bad_chunks_become_no_trajectory(start, reason, corrupt):
    robot = start(FakePolicy(corrupt=corrupt))
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {reason: 1}, "the refusal")
    robot.policy.corrupt = lambda positions: positions
    robot.chunk()
    wanted = 1 + (reason == "nonfinite")
    robot.wait(lambda: len(robot.chunks) == wanted, "the chunk")
    assert len(robot.trajectories) == robot.node.counts.chunks == 1
    assert robot.chunks[-1].verdict == robot.chunks[-1].EXECUTED
    assert not robot.chunks[-1].rejected_reason
    if reason == "nonfinite":
        assert robot.chunks[0].verdict == robot.chunks[0].REJECTED
        assert "step" in robot.chunks[0].rejected_reason


def test_an_episode_that_could_not_begin_begins_at_the_next_inference(start):
    policy, resets = FakePolicy(), []

    def reset():
        resets.append(len(resets))
        if len(resets) == 1:
            raise RuntimeError("not now")

    policy.reset = reset
    robot = start(policy)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {"failed": 1}, "the refusal")
    robot.chunk()
    robot.chunk()
    assert resets == [0, 1]


def test_a_wake_up_that_got_lost_costs_no_chunk(start):
    """DDS may miss that the worker has something to tell, once in some ten thousand times."""
    robot = start()
    robot.node.loop.worker._notify = lambda: None
    for _ in range(3):
        robot.chunk()


def test_another_controller_starts_on_receipt(start):
    robot = start(controller="other")
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()  # 0.1 s after the observation
    robot.wait(robot.policy.started.is_set, "the inference")
    robot.advance(0.05)
    robot.policy.go_on.set()
    robot.wait(lambda: robot.trajectories and robot.chunks, "both outputs")
    message = robot.trajectories[0]
    assert seconds(message.header.stamp) == 0
    assert len(message.points) == HORIZON
    times = [seconds(point.time_from_start) for point in message.points]
    assert 0.01 <= times[0] < 0.03, "the first knot that is half a step away"
    np.testing.assert_allclose(np.diff(times), DT, atol=1e-9)


def test_a_chunk_of_the_past_is_refused(start):
    robot = start(controller="other", max_jump=2.0, joint_states_max_age=5.0)
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    robot.wait(robot.policy.started.is_set, "the inference")
    robot.advance(0.9)
    robot.policy.go_on.set()
    robot.wait(lambda: robot.refused() == {"expired": 1}, "the refusal")
    robot.chunk()
    robot.wait(lambda: len(robot.trajectories) == 1, "the trajectory")
    robot.wait(lambda: len(robot.chunks) == 2, "both chunks")
    first, second = robot.chunks
    assert (first.verdict, second.verdict) == (first.REJECTED, second.EXECUTED)
    assert first.rejected_reason.startswith("expired")


def test_clock_jumps_back(start):
    """A bag that loops: neither data nor a chunk of the first round survive into the second."""
    robot = start()
    robot.chunk()
    robot.policy.started.clear()
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    robot.wait(robot.policy.started.is_set, "the inference")
    robot.advance(-100.0)
    robot.policy.go_on.set()
    robot.wait(lambda: robot.refused() == {"stale": 1}, "the chunk from before the jump")
    robot.tick()
    robot.wait(lambda: robot.refused() == {"stale": 1, "missing": 1}, "dropped data")
    robot.rest()
    robot.chunk()
    assert len(robot.trajectories) == 2


def test_namespace_and_remaps(start):
    arguments = ["--ros-args", "-r", "__ns:=/left", "-r", "front/image_raw:=/cam/colour"]
    arguments += ["-r", "~/joint_trajectory:=/left/pi0/joint_trajectory"]
    robot = start(arguments=arguments)
    assert robot.cameras["front"].topic_name == "/cam/colour"
    assert robot.cameras["wrist"].topic_name == "/left/wrist/image_raw"
    assert robot.joints.topic_name == "/left/joint_states"
    robot.chunk()
    wait_until(lambda: robot.diagnostics, "diagnostics on the absolute topic")


def test_parameters_are_described_and_change_when_they_may(start):
    from rclpy.parameter import Parameter

    robot = start(joint__gripper__scale=0.0192)
    node = robot.node
    assert node.get_parameter("joint.gripper.scale").value == 0.0192
    assert node.get_parameter("cameras").value == ["front", "wrist"]
    descriptor = node.describe_parameter("action_dt")
    assert descriptor.description and not descriptor.read_only, "taken before configure"
    (bounds,) = descriptor.floating_point_range
    assert (bounds.from_value, bounds.to_value) == (0.001, 1.0)
    (result,) = node.set_parameters([Parameter("action_dt", value=0.05)])
    assert not result.successful
    assert node.describe_parameter("cameras").read_only
    assert not node.describe_parameter("rate_hz").read_only


def test_no_robot_description_reaches_the_control_loop(start):
    """Whatever is published there is for pi0_viz, a process of its own; limits come from files."""
    node = start().node
    assert not [s for s in node.subscriptions if "robot_description" in s.topic_name]


def test_chunks_that_would_collide_are_rejected(start, tmp_path):
    """The finger slides against the tool beside it, by 3 cm per step."""
    pytest.importorskip("pinocchio")
    urdf, srdf = tmp_path / "arm.urdf", tmp_path / "arm.srdf"
    urdf.write_text(arm_urdf().replace('velocity="1"', 'velocity="9"'))
    off = ("base", "upper", "lower", "wheel_link")
    rows = "".join(f"<disable_default_collisions link='{link}'/>" for link in off)
    srdf.write_text(f"<robot name='arm'>{rows}</robot>")
    robot = start(urdf=str(urdf), srdf=str(srdf), self_collision=True)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused(), "the refusal")
    assert robot.refused() == {"collision": 1}
    robot.wait(lambda: robot.chunks, "the rejected chunk")
    assert not robot.trajectories
    why = robot.chunks[-1].rejected_reason
    assert why.startswith("collision: finger and tool would collide at step ")
    assert why.removeprefix("collision: ") in robot.node.loop.progress.refusal.detail


def test_the_tool_stays_in_its_box(start, tmp_path):
    pytest.importorskip("pinocchio")
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(arm_urdf().replace('velocity="1"', 'velocity="9"'))
    box = [0.3, -1.0, -1.0, 1.0, 1.0, 1.0]
    robot = start(urdf=str(urdf), workspace_box=box, tool_frame="tool")
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused(), "the refusal")
    assert robot.refused() == {"workspace": 1}
    robot.wait(lambda: robot.chunks, "the rejected chunk")
    assert "tool would leave the workspace: x = " in robot.chunks[-1].rejected_reason
