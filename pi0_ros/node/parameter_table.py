"""The table of the node's parameters: names, defaults, meaning and bounds.

Plain data: the ROS parameters, `pi0_node --help` and the checks all come from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """One parameter: its name, default, meaning and bounds.

    A name with `<camera>` or `<joint>` stands for one parameter per name in `cameras` or `joints`;
    `<camera>` in its default stands for the same name. `dynamic` ones may change while the node
    runs; the others are read only.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    def of(self, placeholder: str, name: str) -> Spec:
        """The parameter of one camera or joint."""
        default = self.default
        if isinstance(default, str):
            default = default.replace(placeholder, name)
        return replace(self, name=self.name.replace(placeholder, name), default=default)


SPECS = (
    Spec(
        "checkpoint", "", "Directory of the pi0 checkpoint (LeRobot or openpi PyTorch). Required."
    ),
    Spec(
        "device",
        "cpu",
        "Device that runs the model: cpu, npu:0, another of torch's, or auto (NPU if usable).",
    ),
    Spec("dtype", "float32", "Number format of the weights.", choices=("float32", "bfloat16")),
    Spec(
        "graph",
        "auto",
        "How the model is compiled: eager (not at all), inductor, torchair or npugraph_ex (Ascend);"
        " auto: torchair on an NPU, elsewhere what pi0_compile measured, and eager without it.",
        choices=("auto", "eager", "inductor", "torchair", "npugraph_ex"),
    ),
    Spec(
        "graph_form",
        "frame",
        "frame: the whole inference is one graph; two-graph: the context and one denoise step,"
        " which compiles faster.",
        choices=("frame", "two-graph"),
    ),
    Spec(
        "npu_attention",
        "fia",
        "Attention kernel on an NPU: fia (npu_fused_infer_attention_score) or pfa"
        " (npu_prompt_flash_attention).",
        choices=("fia", "pfa"),
    ),
    Spec(
        "npu_weights",
        "nd",
        "Layout of the largest weights on an NPU: nd, or nz (FRACTAL_NZ blocks).",
        choices=("nd", "nz"),
    ),
    Spec("graph_cache", "", "Directory in which compiled graphs survive a restart; empty: none."),
    Spec(
        "threads",
        0,
        "CPU threads of the model; 0: as many as torch finds cores. Fewer leave cores to drivers"
        " and controllers.",
        low=0,
        high=1024,
    ),
    Spec("seed", 0, "Seed of the flow-matching noise.", low=0, high=2**63 - 1),
    Spec("tokenizer", "", "Path of the tokenizer; empty: the one in the checkpoint."),
    Spec(
        "action_mode",
        "",
        "Meaning of the model's actions: absolute positions, or delta (relative to the observed"
        " state); empty: what the checkpoint declares.",
        choices=("", "absolute", "delta"),
    ),
    Spec(
        "delta_joints",
        (),
        "With action_mode delta: the joints whose actions are relative; the others (a gripper,"
        " as a rule) are absolute.",
    ),
    Spec(
        "autostart",
        False,
        "Configure and activate by itself, again and again until it works; otherwise the node waits"
        " for a lifecycle manager.",
    ),
    Spec(
        "start_enabled",
        False,
        "Publish trajectories as soon as the node is active; otherwise only after ~/enable.",
    ),
    Spec(
        "policy_process",
        False,
        "Run the model in a process of its own: it takes no time from the node's callbacks, and one"
        " that hangs is ended and started again.",
    ),
    Spec(
        "inference_timeout",
        5.0,
        "Seconds after which an inference counts as hung; its chunk is not published.",
        low=0.01,
        high=600.0,
    ),
    Spec(
        "rate_hz", 10.0, "Ticks per second of the node's clock.", low=0.1, high=100.0, dynamic=True
    ),
    Spec("action_dt", 0.02, "Seconds between two steps of a chunk.", low=0.001, high=1.0),
    Spec(
        "trajectory_start",
        "observation",
        "observation: the trajectory's stamp is the observation's time, all steps are sent."
        " now: past steps are cut off and the stamp is 0, which means start now; for a controller"
        " with another clock.",
        choices=("observation", "now"),
    ),
    Spec(
        "instruction",
        "",
        "Task in words until one arrives on the topic `instruction`.",
        dynamic=True,
    ),
    Spec("cameras", ("front", "wrist"), "Names of the cameras, as the checkpoint knows them."),
    Spec(
        "image_transport",
        "raw",
        "raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage, on the camera's topic"
        " with /compressed appended.",
        choices=("raw", "compressed"),
    ),
    Spec("joints", (), "Names of the joints in the policy's order. Required."),
    Spec("joint_states_topic", "joint_states", "Topic of sensor_msgs/JointState."),
    Spec(
        "joint_states_max_age",
        0.2,
        "Seconds after which a joint state is too old to act on.",
        low=0.001,
        high=60.0,
    ),
    Spec(
        "max_skew",
        0.1,
        "Seconds allowed between the oldest and the newest part of an observation.",
        low=0.001,
        high=60.0,
    ),
    Spec(
        "frozen_frames",
        30,
        "A camera that repeats one picture, byte for byte, in so many frames counts as dead; 0: do"
        " not look (a simulated camera that stands still does that).",
        low=0,
        high=100_000,
    ),
    Spec(
        "joint_limits",
        "",
        "File with the limits of the joints: joint_limits.yaml of ros2_control, or a URDF. Without"
        " one the node makes only dry runs.",
    ),
    Spec(
        "default_acceleration",
        5.0,
        "Acceleration limit where the limits file names none (a URDF cannot), rad/s^2.",
        low=0.01,
        high=1000.0,
    ),
    Spec(
        "velocity_scale",
        1.0,
        "Share of the velocity limits that is used.",
        low=0.01,
        high=1.0,
        dynamic=True,
    ),
    Spec(
        "acceleration_scale",
        1.0,
        "Share of the acceleration limits that is used.",
        low=0.01,
        high=1.0,
        dynamic=True,
    ),
    Spec(
        "max_jump",
        0.3,
        "Radians between the measured joint and the chunk, up to where it takes over; a chunk"
        " further off is rejected.",
        low=0.001,
        high=7.0,
        dynamic=True,
    ),
    Spec(
        "clamp_position",
        0.05,
        "Radians beyond a position limit that are clipped; a chunk further out is rejected.",
        low=0.0,
        high=7.0,
        dynamic=True,
    ),
    Spec(
        "clamp_velocity",
        1.5,
        "Times the velocity limit that are slowed down; a faster chunk is rejected.",
        low=1.0,
        high=100.0,
        dynamic=True,
    ),
    Spec(
        "clamp_acceleration",
        20.0,
        "Times the acceleration limit that are smoothed; a chunk beyond is rejected.",
        low=1.0,
        high=10_000.0,
        dynamic=True,
    ),
    Spec(
        "reject_latch",
        5,
        "Rejected chunks in a row that disable the node until ~/reset.",
        low=1,
        high=100_000,
        dynamic=True,
    ),
    Spec(
        "blend",
        0.1,
        "Seconds in which a new chunk takes over from the running trajectory.",
        low=0.0,
        high=2.0,
        dynamic=True,
    ),
    Spec(
        "starve_timeout",
        0.5,
        "Seconds without a new trajectory after which a running one is slowed to a stop.",
        low=0.01,
        high=60.0,
        dynamic=True,
    ),
    Spec(
        "emergency_stop_topic",
        "emergency_stop",
        "Topic of std_msgs/Bool; true disables the node at once, until ~/reset.",
    ),
    Spec("deadman_topic", "deadman", "Topic of std_msgs/Header that keeps the node enabled."),
    Spec(
        "deadman_timeout",
        0.0,
        "Seconds without a message on `deadman_topic` that disable the node until ~/reset; 0: none"
        " is needed.",
        low=0.0,
        high=60.0,
    ),
)

CAMERA_SPECS = (
    Spec("camera.<camera>.topic", "<camera>/image_raw", "Image topic of this camera."),
    Spec(
        "camera.<camera>.max_age",
        0.2,
        "Seconds after which an image of this camera is too old to act on.",
        low=0.001,
        high=60.0,
    ),
    Spec(
        "camera.<camera>.latency",
        0.0,
        "Seconds between the moment that a picture shows and its stamp; taken off the stamp.",
        low=0.0,
        high=1.0,
    ),
)

JOINT_SPECS = (
    Spec(
        "joint.<joint>.scale",
        1.0,
        "Radians per unit of the checkpoint: radians = scale * unit + offset. Degrees:"
        " 0.017453293.",
    ),
    Spec("joint.<joint>.offset", 0.0, "Radians at the checkpoint's zero."),
)
