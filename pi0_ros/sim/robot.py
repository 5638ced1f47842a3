"""The simulated robot as a ROS node: sensors are published, trajectories are executed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe
from pi0_ros.ros.throttle import ThrottledLog, printable
from pi0_ros.sim.cameras import Cameras, Images, Moment
from pi0_ros.sim.pace import Pace
from pi0_ros.sim.points import Rejected
from pi0_ros.sim.stage import ARM_URDF, CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH, JOINTS
from pi0_ros.sim.tally import Score
from pi0_ros.sim.versions import Parameters
from pi0_ros.sim.wiring import WIRINGS, Controllers, TrajectoryController
from pi0_ros.sim.world import World

STEP = 10_000_000
"""Nanoseconds from one command, and one joint state, to the next."""

_WANTED = 50  # images after which those left out are counted
_SAY_PERIOD = 2.0  # seconds between two log lines of one kind
# Publishers are reliable, which also matches best effort subscriptions such as those of pi0_node.
_NEWEST = QoSProfile(depth=1)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Options:
    """How the robot behaves: the options that `pi0_sim --help` explains."""

    seed: int = 0
    variant: str = "touch"
    camera_hz: float = 25.0
    compressed: bool = False
    clock: bool = False
    speed: float = 1.0
    controller: str = "jazzy"
    wiring: str = "one"
    from_desired: bool = False


class SimNode(Node):
    """The node `sim`. Call `advance` whenever `wait` seconds have passed.

    Args:
        options: see there.
        node_options: for `rclpy.node.Node`.

    Raises:
        RenderError: there is no OpenGL for the images.
        UserError: mujoco is not installed.
        ValueError: an option is out of its range.
    """

    def __init__(self, options: Options, **node_options: Any) -> None:
        if not 0 < options.camera_hz <= 1e9 / STEP:
            raise ValueError(
                f"the camera rate must be above 0 and at most {1e9 / STEP:g} Hz, "
                f"got {options.camera_hz:g}"
            )
        self.pace = Pace(STEP, options.speed, options.clock)
        self.world = World(options.seed, variant=options.variant)
        super().__init__("sim", **node_options)
        self._options = options
        self._seed = options.seed
        self._score = Score()
        self._log = ThrottledLog(self.get_logger(), _SAY_PERIOD)
        self._image_period = round(1e9 / options.camera_hz)
        self._ran = self._image_due = 0  # nanoseconds of simulation: a clock nobody sets
        self._said_left_out = 0.0
        self._wanted = self._missed = 0  # images

        rendered = self.create_guard_condition(self._publish_images)
        self._cameras = Cameras(options.variant, options.compressed, rendered.trigger)
        self._advertise()
        for entry in WIRINGS[options.wiring]:
            subscribe(
                self,
                Float64MultiArray if entry.forward else JointTrajectory,
                entry.topic,
                partial(self._on_command, entry.topic),
                QoSProfile(depth=10),
                partial(self._say, entry.topic, entry.topic),
            )
        malformed = partial(self._say, "instruction", "instruction")
        LatchedSubscription(self, String, "instruction", self._on_instruction, _NEWEST, malformed)
        self.create_service(Trigger, "~/next_scene", self._next_scene)
        self._set_up()
        # Only now: what took long until here is no time that passed for the robot.
        self.pace = Pace(STEP, options.speed, options.clock)

    def wait(self) -> float:
        """Seconds of real time until the next step is due."""
        return self.pace.wait()

    def advance(self) -> None:
        """Take the steps that are due."""
        for stamp in self.pace.steps():
            command = self._controllers.command(
                stamp - STEP, self.world.positions, self.world.velocities
            )
            self.world.step(command, STEP / 1e9)
            self._ran += STEP
            self._publish_state(stamp)
            self._watch(stamp)
            self._request_images(stamp)
        if self.pace.left_out > self._said_left_out:
            self._said_left_out = self.pace.left_out
            detail = f"{self.pace.left_out:.1f} s of real time were left out so far"
            self._say("lag", "the simulation fell behind", detail)

    def close(self) -> None:
        """Free what the robot holds, before the node is destroyed."""
        self._cameras.close()
        self.world.close()

    # ---- what goes out ------------------------------------------------------------------------

    def _advertise(self) -> None:
        options = self._options
        kind, suffix = (CompressedImage, "/compressed") if options.compressed else (Image, "")
        self._cameras_out = {
            camera: self.create_publisher(kind, f"{camera}/image_raw{suffix}", _NEWEST)
            for camera in CAMERAS
        }
        self._joint_states = self.create_publisher(JointState, "joint_states", 10)
        self._clock = self.create_publisher(Clock, "/clock", 10) if options.clock else None
        self._touched = self.create_publisher(String, "~/touched", 10)
        self._tally = self.create_publisher(String, "~/score", _LATCHED)
        self._description = self.create_publisher(String, "robot_description", _LATCHED)
        self._description.publish(String(data=ARM_URDF.read_text(encoding="utf-8")))

    def _publish_state(self, stamp: int) -> None:
        time = Time(nanoseconds=stamp).to_msg()
        if self._clock is not None:  # first, so that nothing else comes from the future
            self._clock.publish(Clock(clock=time))
        message = JointState(header=Header(stamp=time), name=list(JOINTS))
        message.position = self.world.positions.tolist()
        message.velocity = self.world.velocities.tolist()
        self._joint_states.publish(message)

    def _request_images(self, stamp: int) -> None:
        """Have images rendered, if they are due and the last ones are published."""
        late = self._ran - self._image_due
        if late < 0:
            return
        state = self.world.stage.data.qpos.copy()
        if not self._cameras.request(Moment(stamp, self._seed, state)):
            return  # they come a step later, or two
        missed = late // self._image_period
        self._image_due += (missed + 1) * self._image_period
        self._wanted += missed + 1
        self._missed += missed
        if self._wanted >= _WANTED:
            if self._missed > self._wanted // 10:
                detail = f"{self._missed} of the last {self._wanted} images were left out"
                self._say("images", "rendering takes too long", detail)
            self._wanted = self._missed = 0

    def _publish_images(self) -> None:
        images = self._cameras.take()
        if images is not None:
            for camera, publisher in self._cameras_out.items():
                publisher.publish(self._image(camera, images))

    def _image(self, camera: str, images: Images) -> Image | CompressedImage:
        stamp = Time(nanoseconds=images.stamp).to_msg()
        header = Header(stamp=stamp, frame_id=f"{camera}_camera_optical_frame")
        data = images.data[camera]
        if self._options.compressed:  # the format as image_transport's publisher has it
            return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)
        size = {"width": IMAGE_WIDTH, "height": IMAGE_HEIGHT, "step": IMAGE_WIDTH * 3}
        return Image(header=header, encoding="rgb8", data=data, **size)

    def _publish_score(self) -> None:
        text = self._score.as_json(self._seed, self.world.instructions())
        self._tally.publish(String(data=text))

    # ---- what comes in ------------------------------------------------------------------------

    def _on_command(self, topic: str, message: JointTrajectory | Float64MultiArray) -> None:
        try:
            self._controllers.accept(topic, message, self.pace.now)
        except Rejected as error:
            self._say(topic, f"{topic} rejected", str(error))

    def _on_instruction(self, message: String) -> None:
        text = " ".join(message.data.split())
        if text == self._score.instruction:  # publishers repeat it, for those who come late
            return
        try:
            targets = self.world.targets(text)
        except ValueError as error:
            self._say("instruction", "instruction ignored", str(error))
            return
        self.world.clear_touch()
        self._score.begin(text, targets, self.pace.now)
        self.get_logger().info(f"try {self._score.tries}: {text}")
        self._publish_score()

    def _watch(self, stamp: int) -> None:
        """Look for the first contact of a try."""
        if self.world.touched is not None and self._score.waiting:
            right = self._score.touch(self.world.touched, stamp)
            self._touched.publish(String(data=self.world.touched))
            self._publish_score()
            self.get_logger().info(
                f"touched the {self._score.touched}, {'right' if right else 'WRONG'}, after "
                f"{self._score.seconds:.2f} s: {self._score.successes} of {self._score.tries}"
            )

    def _next_scene(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._seed += 1
        self.world.reset(self._seed)
        self._score.forget()
        self._set_up()
        response.success, response.message = True, ", ".join(self.world.instructions())
        return response

    def _set_up(self) -> None:
        """Begin a scene: nothing is executed, and the possible instructions are published."""
        parameters = Parameters(interpolate_from_desired_state=self._options.from_desired)
        self._controllers = Controllers(
            self._options.wiring,
            lambda joints: TrajectoryController(joints, self._options.controller, STEP, parameters),
        )
        self._publish_score()
        self.get_logger().info(f"scene {self._seed}: {', '.join(self.world.instructions())}")

    def _say(self, key: str, what: str, detail: str) -> None:
        self._log.warning(key, printable(f"{what}: {detail}"))
