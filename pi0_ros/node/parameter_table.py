"""The table of the node's parameters: name, type, default, meaning, bounds, time of changes.

Plain data; `pi0_ros.node.parameters` makes everything else of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pi0_ros.share import user_path

Value = bool | int | float | str | tuple[str, ...] | tuple[float, ...]

START, CONFIGURE, LIVE = "start", "configure", "live"
"""When a parameter may change: never, while the node is unconfigured, or at any time.

Paths never change: nobody in the ROS graph can make a running node open another file."""


@dataclass(frozen=True)
class Spec:
    """One row of the table.

    Attributes:
        name: with `<camera>`, `<joint>` or `<output>` where there is one parameter for each.
        default: `<camera>` in it stands for the camera's name.
        doc: meaning and unit, in sentences.
        low, high: bounds, both allowed; None: any finite number.
        choices: the allowed strings; empty: any.
        numbers: a list of numbers, finite ones; other lists are of strings.
        single: a string stands for a list of one; an empty one, for an empty list.
        changes: START, CONFIGURE or LIVE.
        section: heading that begins with this parameter; "" for none.
    """

    name: str
    default: Value
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    numbers: bool = False
    single: bool = False
    changes: str = CONFIGURE
    section: str = ""

    def of(self, placeholder: str, name: str) -> Spec:
        """The row of one camera, joint or output."""
        default = self.default
        if isinstance(default, str):
            default = default.replace(placeholder, name)
        return replace(self, name=self.name.replace(placeholder, name), default=default)


def is_server(policy_url: str) -> bool:
    """Whether a policy_url is a server's address."""
    return policy_url.startswith(("ws://", "wss://"))


def _row(default: Value, low: Any = None, high: Any = None, *, doc: str, **more: Any) -> Any:
    return field(
        metadata={"row": {"default": default, "doc": doc, "low": low, "high": high, **more}}
    )


def _rows(table: type, prefix: str = "") -> tuple[Spec, ...]:
    return tuple(
        Spec(prefix + row.name, **row.metadata["row"]) for row in fields(table) if row.metadata
    )


JOINT_TRAJECTORY = "trajectory_msgs/JointTrajectory"
FLOAT64_MULTI_ARRAY = "std_msgs/Float64MultiArray"


# fmt: off
@dataclass(frozen=True)
class Camera:
    """Parameters of one camera; `topic` ends with /compressed where that transport is used."""

    name: str
    topic: str = _row("<camera>/image_raw", changes=START, doc=
        "Image topic of this camera.")
    max_age: float = _row(0.2, 0.001, 60.0, changes=LIVE, doc=
        "Seconds; an older image is refused (stale).")
    latency: float = _row(0.0, 0.0, 1.0, changes=LIVE, doc=
        "Seconds from the exposure of an image to its stamp; they are subtracted from the stamp.")


@dataclass(frozen=True)
class Joint:
    """Parameters of one joint: radians = scale * the checkpoint's unit + offset."""

    name: str
    scale: float = _row(1.0, doc=
        "Radians per unit of the checkpoint: radians = scale * unit + offset. Degrees: "
        "0.017453293. A gripper from 0 to 100 % that closes at -0.17 rad and opens at 1.75 rad: "
        "scale 0.0192, offset -0.17.")
    offset: float = _row(0.0, doc=
        "Radians at the checkpoint's zero.")
    unit: str = _row("", choices=("", "rad", "m"), doc=
        "Unit of the joint in ROS, where no URDF tells: m for a prismatic joint, whose scale and "
        "offset are in metres then; empty: as the URDF says, or rad.")


@dataclass(frozen=True)
class Output:
    """Parameters of one output: the controller of some of the joints."""

    name: str
    topic: str = _row("", changes=START, doc=
        "Topic on which the controller receives commands, such as "
        "/arm_controller/joint_trajectory or /gripper_controller/commands. Required.")
    joints: tuple[str, ...] = _row((), changes=START, doc=
        "The controller's joints. Each joint belongs to exactly one output. Required.")
    type: str = _row(JOINT_TRAJECTORY, choices=(JOINT_TRAJECTORY, FLOAT64_MULTI_ARRAY),
        changes=START, doc=
        "trajectory_msgs/JointTrajectory for joint_trajectory_controller. "
        "std_msgs/Float64MultiArray for forward_command_controller and position_controllers/"
        "JointGroupPositionController: the node samples the executing trajectory, and `joints` "
        "are in the controller's order.")
    rate_hz: float = _row(100.0, 10.0, 1000.0, changes=START, doc=
        "Samples per second of a std_msgs/Float64MultiArray.")


@dataclass(frozen=True)
class NodeParameters:
    """The configuration of the node.

    Attributes:
        outputs: as given; `effective_outputs` are those that the node has.
    """

    checkpoint: str = _row("", changes=START, section="Model", doc=
        "Directory of the pi0 checkpoint (LeRobot or openpi PyTorch). Required, except where a "
        "server has it (policy_url).")
    base_checkpoint: str = _row("", changes=START, doc=
        "Where the checkpoint is an adapter (LoRA): directory of the one that it was trained on.")
    asset: str = _row("", doc=
        "Where an openpi checkpoint has the statistics of several data sets: the one to take, as "
        "its folder below assets is called.")
    horizon: int = _row(0, 0, 1000, doc=
        "Where an openpi checkpoint has no config.json: steps in a chunk (action_horizon of its "
        "training configuration); 0: the checkpoint says it.")
    device: str = _row("cpu", doc=
        "Device that runs the model: cpu, cuda:0, npu:0, another device of torch, or auto (an NPU "
        "if one is usable, otherwise a GPU of NVIDIA, otherwise the CPU).")
    dtype: str = _row("float32", choices=("float32", "bfloat16"), doc=
        "Number format of the weights.")
    precision: str = _row("full", choices=("full", "int8", "float8"), doc=
        "Number format of the products of vision and prefix. full: dtype, as all others. int8: on "
        "an NPU, or on a CPU to try it. float8: on a GPU of NVIDIA from compute capability 8.9 on, "
        "with the scales that `pi0 compile --calibrate` left in graph_cache.")
    graph: str = _row("auto", choices=("auto", "eager", "inductor", "cudagraph",
        "inductor_cudagraph", "torchair", "npugraph_ex"), doc=
        "How the model is compiled. eager: not at all. cudagraph and inductor_cudagraph: for "
        "NVIDIA, docs/nvidia.md. torchair and npugraph_ex: for Ascend, docs/ascend.md. auto: the "
        "result of `pi0 compile`; without one torchair on an NPU, cudagraph on a GPU, eager on a "
        "CPU.")
    graph_form: str = _row("frame", choices=("frame", "two-graph"), doc=
        "frame: the whole inference is one graph. two-graph: the context and one denoise step are "
        "separate graphs, which compile faster. Graphs for NVIDIA are always a frame.")
    npu_attention: str = _row("fia", choices=("fia", "pfa"), doc=
        "Attention kernel on an NPU: fia (npu_fused_infer_attention_score) or pfa "
        "(npu_prompt_flash_attention).")
    npu_weights: str = _row("nd", choices=("nd", "nz"), doc=
        "Layout of the largest weights on an NPU: nd, or nz (FRACTAL_NZ blocks).")
    npu_rotary: str = _row("per-head", choices=("per-head", "broadcast"), doc=
        "Tables of RotaryMul on an NPU: a row per head, or one that the kernel broadcasts over "
        "heads; `pi0 check` says whether both work on a card.")
    npu_masks: str = _row("tight", choices=("tight", "padded"), doc=
        "Width of attention masks on an NPU: as many as there are keys, or a multiple of 32 bytes.")
    npu_super_kernel: bool = _row(False, doc=
        "On an NPU with graph torchair: make one super kernel of each denoise step.")
    cuda_kernels: str = _row("auto", choices=("auto", "triton", "none"), doc=
        "This package's kernels on a GPU of NVIDIA: auto, those that agree with PyTorch's and are "
        "faster on this card, measured while loading; triton, all that agree; none.")
    graph_cache: str = _row("", changes=START, doc=
        "Directory in which compiled graphs survive a restart; empty: none.")
    resize: str = _row("auto", choices=("auto", "host", "device"), doc=
        "Where images are resized: host, as the checkpoint's trainer does to the last bit; device, "
        "to within one of the 255 steps of a colour; auto: device on a GPU of NVIDIA, else host.")
    threads: int = _row(0, 0, 1024, doc=
        "CPU threads of the model; 0: as many as torch finds cores. Fewer leave cores to drivers "
        "and controllers.")
    seed: int = _row(0, 0, 2**63 - 1, doc=
        "Seed of the flow-matching noise. The same seed gives the same chunks.")
    tokenizer: str = _row("", changes=START, doc=
        "Path of the tokenizer; empty: the one in the checkpoint.")
    instruction: str = _row("", changes=LIVE, doc=
        "Task in words until one arrives on the topic `instruction`.")
    policy_url: str = _row("", changes=START, doc=
        "Where the policy runs. Empty: in the node. process: in a process of its own, where it "
        "takes no time from the node's callbacks, and which is ended and started again when it "
        "hangs. ws://host:port or wss://host:port: on a server, `pi0 serve` or one of openpi; "
        "checkpoint, device and the like are the server's then.")
    policy_python: str = _row("", changes=START, doc=
        "With policy_url process: the Python that runs the policy, such as CANN's; pi0_ros is "
        "installed there. Empty: the node's.")
    policy_key_file: str = _row("", changes=START, doc=
        "With a server: file with its API key, which only the node's user may read.")
    policy_authority: str = _row("", changes=START, doc=
        "With wss: file of the certificates that are trusted, such as the server's own; empty: "
        "the system's.")
    policy_mapping: str = _row("", changes=START, doc=
        "With an openpi server: under which keys it wants images and state; droid, libero, aloha "
        "or a YAML file (docs/remote.md).")
    policy_images: str = _row("fitted", choices=("fitted", "jpeg", "raw"), doc=
        "With a server: how images are sent. fitted: shrunk to the model's size, which costs at "
        "most a grey level of rounding; jpeg: and compressed, for a slow link; raw: as they are.")
    inference_timeout: float = _row(5.0, 0.01, 600.0, changes=LIVE, doc=
        "Seconds after which an inference counts as hung; its chunk is not published.")
    action_mode: str = _row("", choices=("", "absolute", "delta"), doc=
        "Meaning of the model's actions: absolute positions, or delta (relative to the observed "
        "state); empty: what the checkpoint declares.")
    delta_joints: tuple[str, ...] = _row((), doc=
        "With action_mode delta: the joints whose actions are relative. The others (a gripper, as "
        "a rule) are absolute.")
    discrete_state_input: str = _row("", choices=("", "prompt", "none"), doc=
        "pi0.5 of openpi, whose checkpoints do not say it: prompt, the state stands in the prompt "
        "(its discrete_state_input is true); none, it does not (false, as in pi05_libero).")
    autostart: bool = _row(False, changes=START, section="Life cycle", doc=
        "Configure and activate without a lifecycle manager, and try again until it succeeds.")
    start_enabled: bool = _row(False, doc=
        "Publish trajectories as soon as the node is active; otherwise only after ~/enable.")
    rate_hz: float = _row(10.0, 0.1, 100.0, changes=LIVE, section="Time", doc=
        "Ticks per second. A tick during an inference is counted as busy.")
    action_dt: float = _row(0.02, 0.001, 1.0, doc=
        "Seconds between two steps of a chunk, as in the training data (0.0333 for 30 Hz). A wrong "
        "one makes the arm too fast or too slow.")
    fps: float = _row(0.0, 0.0, 1000.0, doc=
        "Steps of a chunk per second, as data sets call it, in place of action_dt; 0: action_dt "
        "says it.")
    controller: str = _row("jtc", choices=("jtc", "jtc_replacing", "other"), doc=
        "What executes the trajectories. jtc: joint_trajectory_controller of Humble, Jazzy, Kilted,"
        " or any with allow_trajectory_replacement false: the stamp is the time of the observation,"
        " and the steps before the splice point repeat the setpoint. jtc_replacing: one with "
        "allow_trajectory_replacement true, or other: a controller with another clock: the stamp is"
        " 0 (start on receipt); with jtc_replacing take a splice_lead of 0.1.")
    splice_lead: float = _row(0.04, 0.001, 1.0, changes=LIVE, doc=
        "Seconds from publishing to the splice point, where the new trajectory departs from the "
        "executing one. At least the message's way to the controller and one of its periods, which "
        "`pi0 doctor` measures; a message that comes later makes the command step.")
    max_skew: float = _row(0.1, 0.001, 60.0, changes=LIVE, doc=
        "Seconds between the oldest and the newest part of an observation; more is refused "
        "(skewed).")
    cameras: tuple[Camera, ...] = _row(("front", "wrist"), changes=START, section="Cameras", doc=
        "Names of the cameras, as the checkpoint names them. A camera of the checkpoint that is "
        "left out counts as missing, as in training.")
    image_transport: str = _row("raw", choices=("raw", "compressed"), changes=START, doc=
        "raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage on the camera's topic "
        "with /compressed appended.")
    frozen_frames: int = _row(30, 0, 100_000, changes=LIVE, doc=
        "A camera that repeats one image, byte for byte, in so many frames is refused (frozen); 0:"
        " no check, as for a simulated camera, whose image may stand still.")
    joints: tuple[Joint, ...] = _row((), changes=START, section="Joints", doc=
        "Names of the joints, in the order of the checkpoint's state and actions. Required.")
    outputs: tuple[Output, ...]
    joint_trajectory_topic: str = _row("~/joint_trajectory", changes=START, doc=
        "Topic of the trajectories of all joints, where one controller has them all. Robots with "
        "several controllers have `outputs` instead.")
    joint_states_topics: tuple[str, ...] = _row(("joint_states",), changes=START, doc=
        "Topics of sensor_msgs/JointState. Each message may have some of the joints, in any order, "
        "from any publisher; other joints are ignored.")
    joint_states_max_age: float = _row(0.2, 0.001, 60.0, changes=LIVE, doc=
        "Seconds; an older joint state is refused (stale), of whichever joints. Joint states at "
        "5 Hz need 0.5, and a max_skew of 0.3.")
    joint_limits: tuple[str, ...] = _row((), single=True, changes=START, section="Limits", doc=
        "File with the limits of the joints, or a list of files: joint_limits.yaml of ros2_control"
        " or MoveIt, or a URDF. Without one and without `urdf` the node makes only dry runs "
        "(~/action_chunk, no trajectory). Of several limits the tightest counts.")
    urdf: str = _row("", changes=START, doc=
        "URDF file of the robot. Its limits count beside those of `joint_limits`, which may lack "
        "what it has: MoveIt's joint_limits.yaml has no positions.")
    allow_wide_limits: bool = _row(False, changes=START, doc=
        "Take limits that are implausible: several turns, or tens of rad/s, which are degrees as a "
        "rule.")
    default_acceleration: float = _row(5.0, 0.01, 1000.0, doc=
        "Acceleration limit where the files have none (a URDF cannot), rad/s^2 or, of a prismatic "
        "joint, m/s^2.")
    velocity_scale: float = _row(1.0, 0.01, 1.0, changes=LIVE, doc=
        "Share of the velocity limits that is used.")
    acceleration_scale: float = _row(1.0, 0.01, 1.0, changes=LIVE, doc=
        "Share of the acceleration limits that is used.")
    max_jump: float = _row(0.3, 0.001, 7.0, changes=LIVE, doc=
        "Radians between the measured joint and the chunk at the splice point; a chunk that is "
        "further away is rejected.")
    clamp_position: float = _row(0.05, 0.0, 7.0, changes=LIVE, doc=
        "Radians beyond a position limit that are clamped; a chunk further out is rejected.")
    clamp_velocity: float = _row(1.5, 1.0, 100.0, changes=LIVE, doc=
        "Multiple of the velocity limit up to which a chunk is slowed down; a faster one is "
        "rejected.")
    clamp_acceleration: float = _row(20.0, 1.0, 10_000.0, changes=LIVE, doc=
        "Multiple of the acceleration limit up to which a chunk is smoothed; above, it is "
        "rejected.")
    reject_latch: int = _row(5, 1, 100_000, changes=LIVE, doc=
        "Rejected chunks in a row that disable the node until ~/reset.")
    blend: float = _row(0.1, 0.0, 2.0, changes=LIVE, doc=
        "Seconds in which a new chunk is blended with the executing trajectory.")
    starve_timeout: float = _row(0.5, 0.01, 60.0, changes=LIVE, doc=
        "Seconds without a new trajectory after which the executing one is slowed down to a stop.")
    rtc: str = _row("off", choices=("off", "guided", "trained"), section="Real-time chunking", doc=
        "How a chunk is made to agree with the executing trajectory, docs/rtc.md. off: not at all, "
        "it is blended only. guided: every denoise step is pulled towards it; any checkpoint. "
        "trained: the policy is given what executes until the chunk arrives; for checkpoints "
        "trained with such prefixes.")
    rtc_execution_horizon: int = _row(10, 0, 1000, changes=LIVE, doc=
        "With rtc guided: steps of a chunk from which on the executing trajectory no longer counts "
        "(LeRobot's execution_horizon), at least twice the delay; 0: up to its end.")
    rtc_max_guidance_weight: float = _row(10.0, 0.01, 1000.0, changes=LIVE, doc=
        "With rtc guided: the most that the pull may weigh; about the number of denoise steps.")
    rtc_schedule: str = _row("exp", choices=("exp", "linear", "ones", "zeros"), changes=LIVE, doc=
        "With rtc guided: how the weight of the executing trajectory falls from 1, behind the steps"
        " that will have been executed, to 0 at the end: exp, linear, ones (not at all), zeros (at "
        "once).")
    rtc_max_delay: int = _row(0, 0, 1000, doc=
        "With rtc trained: the most steps that a chunk is given; with a longer delay it is blended "
        "only. 0: what the checkpoint says that it was trained with.")
    tracking_tolerance: float = _row(0.1, 0.001, 7.0, changes=LIVE, section="Tracking", doc=
        "Radians (metres) that a joint may be off its setpoints of the last tracking_lag seconds, "
        "through gravity or friction.")
    tracking_lag: float = _row(0.25, 0.0, 1.5, changes=LIVE, doc=
        "Seconds that the arm may lag behind its setpoint; /diagnostics shows the estimated lag.")
    tracking_timeout: float = _row(0.3, 0.02, 60.0, changes=LIVE, doc=
        "Seconds that a joint may be further off; then the arm is stopped and a fault latches.")
    untracked_joints: tuple[str, ...] = _row((), changes=LIVE, doc=
        "Joints that need not reach their setpoint, such as a gripper that holds an object.")
    recorded_arm: bool = _row(False, changes=START, doc=
        "The joint states are a recording, whose arm hears nothing, as in `pi0 replay --enable`: a "
        "trajectory may begin while it moves, and it need not follow. Never for an arm that moves.")
    self_collision: bool = _row(False, section="Collision", doc=
        "Reject chunks in which links of the robot hit each other, by the shapes of `urdf`. Needs "
        "pinocchio.")
    srdf: str = _row("", changes=START, doc=
        "SRDF file (MoveIt's): pairs of links that it disables are not compared; empty: all pairs "
        "are, but neighbours.")
    collision_margin: float = _row(0.01, 0.001, 0.2, doc=
        "Metres between two links that count as a hit. Between two samples of a motion no point of "
        "a link moves further than twice that, so a smaller margin takes longer.")
    collision_reference: tuple[float, ...] = _row((), numbers=True, doc=
        "Radians (metres) per joint of a pose in which no pair may collide; empty: zero, or the "
        "limit next to it. Pairs that do are refused by name.")
    workspace_box: tuple[float, ...] = _row((), numbers=True, doc=
        "Box that the tool must not leave: xmin, ymin, zmin, xmax, ymax, zmax in metres in the "
        "frame of the root link of `urdf`; chunks that leave it are rejected. Empty: none. Needs "
        "pinocchio.")
    tool_frame: str = _row("", changes=START, doc=
        "Link of `urdf` that the box is for; empty: a link without children at the end of the "
        "joints' chain.")
    emergency_stop_topic: str = _row("emergency_stop", changes=START, section="Stopping", doc=
        "Topic of std_msgs/Bool. true disables the node at once, until ~/reset.")
    emergency_acceleration_scale: float = _row(1.0, 0.1, 10.0, changes=LIVE, doc=
        "Share of the acceleration limits at which the arm stops when a fault latches (emergency "
        "stop, deadman, an arm that does not follow). velocity_scale and acceleration_scale do not "
        "slow a stop down.")
    deadman_topic: str = _row("deadman", changes=START, doc=
        "Topic of std_msgs/Header that keeps the node enabled.")
    deadman_timeout: float = _row(0.0, 0.0, 60.0, changes=START, doc=
        "Seconds without a message on `deadman_topic` that disable the node until ~/reset; 0: no "
        "message is needed.")
# fmt: on

    @property
    def policy_server(self) -> bool:
        """Whether the policy runs on a server, which has the checkpoint."""
        return is_server(self.policy_url)

    @property
    def limit_files(self) -> tuple[Path, ...]:
        """Those of `joint_limits`, and `urdf`."""
        return tuple(user_path(name) for name in (*self.joint_limits, self.urdf) if name)

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @property
    def effective_outputs(self) -> tuple[Output, ...]:
        """The given outputs, or one for all joints."""
        if self.outputs:
            return self.outputs
        topic = self.joint_trajectory_topic
        return (Output("all", topic, self.joint_names, JOINT_TRAJECTORY, rate_hz=100.0),)


SPECS = _rows(NodeParameters)
CAMERA_SPECS = _rows(Camera, "camera.<camera>.")
JOINT_SPECS = _rows(Joint, "joint.<joint>.")
OUTPUT_SPECS = _rows(Output, "outputs.<output>.")
