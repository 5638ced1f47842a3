"""The case format of the reference oracles: what a JSON case may say, its defaults and its checks.

A case is a JSON object. Keys (defaults in `Case`):

name            folder name of the case's output, unique within one run
sizes           object, see `Sizes`; missing keys take the tiny defaults, "sizes": "full" is pi0
variant         "pi0" or, with 0.6.1, "pi05"
dtype           "float32" or "bfloat16": how LeRobot holds and computes the model. LeRobot 0.3.3
                itself only knows bfloat16; its "float32" is a run-time hook of oracle_old.py
cameras         names; the policy's inputs are observation.images.<name>, in this order
masked          those of `cameras` that the config declares and the observation lacks
empty_cameras   PI0Config.empty_cameras: adds that many observation.images.empty_camera_<i>,
                declared and absent. 0.3.3 keeps at most this many absent cameras as masked ones and
                drops the rest
joints          n, length of state and action
tokens          prompt token ids, 1..tokenizer_max_length of them, padded with 0 to that length
task            instruction given to LeRobot, whose tokenizer is replaced by one answering `tokens`
image_hw        [height, width] of every camera image, pixels
seed            seeds weights, statistics, images, state and noise, each from its own stream
peaked          multiply attention logits (vision, prefix, expert) by `peak_gain`, half through
                q_proj, half through k_proj, and attention's output projections by 2 / peak_gain.
                At 8 the largest weight of the expert's softmax is 0.76 on average (0.08 without).
                Without the second factor denoising is chaotic: one unit in the last place of the
                weights moves the result by 1e-3 at 8, 1e-1 at 16; with it by 1e-5, at most 5e-5
                over seeds (unpeaked: 2e-6; tiny sizes, float32)
bf16_weights    round the weights to bfloat16 before use, so that a float32 and a bfloat16 run of
                the same seed differ by arithmetic only
state_on_edges  the state lies on edges between the 256 parts of its quantiles' range, or one unit
                in the last place beside them
state_norm, action_norm   "MEAN_STD", "MIN_MAX", "IDENTITY"; from 0.4.4 also "QUANTILES"
relative_actions, exclude_joints, action_names   0.6.1 only: actions are relative to the state,
those whose name contains an excluded one are not
accumulated_time   not 0.3.3: denoise at the times of 0.3.3, openpi and LeRobot 0.4.0-0.4.2, which
                add -1 / num_steps in float32, instead of 1 - k / num_steps. The time embedding
                turns the last bits of t into 2e-4 of velocity: parity needs the same times
rtc             0.6.1 only: real-time chunking, see `Rtc`
adapt_to_pi_aloha   0.3.3 only, needs 14 joints
hub_layout      0.3.3 only: also write checkpoint_hub/, the same checkpoint under the key names of
                the published lerobot/pi0 (module tree of transformers before 4.52)
mode            "infer" (all of the above) or "preprocess": only LeRobot's image preprocessing, on
                `preprocess_hw` = [[height, width], ...]; of the rest only name, seed and
                sizes.image_size count

Standard library only: the oracles read it in their processes, oracle_runner.py in the tests'.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

NORM_MODES = ("MEAN_STD", "MIN_MAX", "QUANTILES", "IDENTITY")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network. The defaults are tiny (milliseconds per layer); `FULL` is pi0.

    width, mlp          residual and MLP width of the prefix model (PaliGemma's Gemma)
    expert_width, expert_mlp   the same of the action expert
    depth, heads, kv_heads, head_dim   shared by both (they attend to each other's K/V);
                        rotary needs an even head_dim
    vision_width, vision_mlp, vision_depth, vision_heads   SigLIP; vision_heads divides vision_width
    image_size, patch   side of the square network input and of a patch, pixels; patch is always 14
    vocab               rows of the embedding table
    chunk_size          points of an action chunk
    max_state_dim, max_action_dim   padded state and action length
    num_steps           denoising steps (from 0.4.4 num_inference_steps, in 0.3.3 num_steps)
    tokenizer_max_length   length of the padded prompt
    """

    width: int = 64
    mlp: int = 128
    expert_width: int = 32
    expert_mlp: int = 64
    depth: int = 3
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 16
    vision_width: int = 48
    vision_mlp: int = 96
    vision_depth: int = 2
    vision_heads: int = 4
    image_size: int = 56
    patch: int = 14
    vocab: int = 512
    chunk_size: int = 50
    max_state_dim: int = 32
    max_action_dim: int = 32
    num_steps: int = 10
    tokenizer_max_length: int = 48


FULL = Sizes(
    width=2048,
    mlp=16384,
    expert_width=1024,
    expert_mlp=4096,
    depth=18,
    heads=8,
    kv_heads=1,
    head_dim=256,
    vision_width=1152,
    vision_mlp=4304,
    vision_depth=27,
    vision_heads=16,
    image_size=224,
    vocab=257152,
)


@dataclass(frozen=True)
class Rtc:
    """Guided real-time chunking.

    leftover            steps of the earlier chunk that LeRobot is given; at random
    delay               its inference_delay, steps
    execution_horizon, max_guidance_weight, schedule   of its RTCConfig
    """

    leftover: int = 40
    delay: int = 6
    execution_horizon: int = 25
    max_guidance_weight: float = 10.0
    schedule: str = "LINEAR"


@dataclass(frozen=True)
class Case:
    """One case; see the module's docstring for the keys."""

    name: str
    mode: str = "infer"
    variant: str = "pi0"
    sizes: Sizes = field(default_factory=Sizes)
    dtype: str = "float32"
    cameras: tuple[str, ...] = ("front", "wrist")
    masked: tuple[str, ...] = ()
    empty_cameras: int = 0
    joints: int = 6
    tokens: tuple[int, ...] = (2, 17, 42, 99, 7, 108)
    task: str = "pick up the cube"
    image_hw: tuple[int, int] = (56, 56)
    seed: int = 0
    peaked: bool = False
    peak_gain: float = 8.0
    bf16_weights: bool = False
    state_on_edges: bool = False
    state_norm: str = "MEAN_STD"
    action_norm: str = "MEAN_STD"
    relative_actions: bool = False
    exclude_joints: tuple[str, ...] = ("gripper",)
    action_names: tuple[str, ...] = ()
    accumulated_time: bool = False
    rtc: Rtc | None = None
    adapt_to_pi_aloha: bool = False
    hub_layout: bool = False
    preprocess_hw: tuple[tuple[int, int], ...] = ((480, 640), (224, 224), (116, 116), (300, 200))

    @staticmethod
    def from_json(data: dict[str, Any]) -> Case:
        """Read a decoded JSON object; ValueError names what is unknown or out of range."""
        data = dict(data)
        sizes = data.pop("sizes", {})
        if sizes == "full":
            sizes = dataclasses.asdict(FULL)
        _refuse_unknown(data, Case, "case")
        _refuse_unknown(sizes, Sizes, "sizes")
        for key in ("cameras", "masked", "tokens", "image_hw", "exclude_joints", "action_names"):
            if key in data:
                data[key] = tuple(data[key])
        if "preprocess_hw" in data:
            data["preprocess_hw"] = tuple(tuple(hw) for hw in data["preprocess_hw"])
        if data.get("rtc") is not None:
            _refuse_unknown(data["rtc"], Rtc, "rtc")
            data["rtc"] = Rtc(**data["rtc"])
        case = Case(sizes=Sizes(**sizes), **data)
        case.check()
        return case

    def to_json(self) -> dict[str, Any]:
        """The plain JSON object that `from_json` reads, all defaults written out."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raise ValueError for a case that LeRobot could not run or that would mean nothing."""
        s = self.sizes
        problems = []
        if self.mode not in ("infer", "preprocess"):
            problems.append(f"mode {self.mode!r}: expected infer or preprocess")
        if self.variant not in ("pi0", "pi05"):
            problems.append(f"variant {self.variant!r}: expected pi0 or pi05")
        if self.dtype not in ("float32", "bfloat16"):
            problems.append(f"dtype {self.dtype!r}: expected float32 or bfloat16")
        if not set(self.masked) < set(self.cameras):
            problems.append(f"masked {self.masked}: expected some, not all, of {self.cameras}")
        if not 1 <= len(self.tokens) <= s.tokenizer_max_length:
            problems.append(f"{len(self.tokens)} tokens: expected 1..{s.tokenizer_max_length}")
        if any(not 0 <= t < s.vocab for t in self.tokens):
            problems.append(f"tokens {self.tokens}: expected ids in 0..{s.vocab - 1}")
        if not 1 <= self.joints <= min(s.max_state_dim, s.max_action_dim):
            problems.append(f"joints {self.joints}: expected 1..{s.max_action_dim}")
        if s.patch != 14 or s.image_size % s.patch:
            problems.append(
                f"image_size {s.image_size}, patch {s.patch}: patch is 14 and divides it"
            )
        if s.head_dim % 2 or s.heads % s.kv_heads or s.vision_width % s.vision_heads:
            problems.append(
                "head_dim must be even, kv_heads divide heads, vision_heads vision_width"
            )
        for mode in (self.state_norm, self.action_norm):
            if mode not in NORM_MODES:
                problems.append(f"normalisation {mode!r}: expected one of {NORM_MODES}")
        if self.action_names and len(self.action_names) != self.joints:
            problems.append(f"{len(self.action_names)} action_names for {self.joints} joints")
        if self.adapt_to_pi_aloha and self.joints != 14:
            problems.append(f"adapt_to_pi_aloha with {self.joints} joints: expected 14")
        if problems:
            raise ValueError(f"case {self.name!r}: " + "; ".join(problems))

    @property
    def present(self) -> tuple[str, ...]:
        """Cameras the observation holds, in declared order."""
        return tuple(c for c in self.cameras if c not in self.masked)

    @property
    def fills_frame(self) -> bool:
        """Whether the resized image covers the network input, so that no padding is seen."""
        return resized_hw(self.image_hw, self.sizes.image_size) == (self.sizes.image_size,) * 2


OTHER_SIZES = {
    "width": 40,
    "expert_width": 24,
    "heads": 6,
    "kv_heads": 2,
    "head_dim": 10,
    "depth": 2,
    "vision_width": 30,
    "vision_heads": 5,
    "vision_depth": 1,
    "image_size": 42,
    "chunk_size": 7,
    "num_steps": 3,
    "max_state_dim": 12,
    "max_action_dim": 9,
}
"""Sizes unlike the published ones, so that none that is hard-coded goes unnoticed."""


def resized_hw(image_hw: tuple[int, int], size: int) -> tuple[int, int]:
    """Height and width LeRobot resizes to before padding to size x size (it truncates)."""
    ratio = max(image_hw[1] / size, image_hw[0] / size)
    return int(image_hw[0] / ratio), int(image_hw[1] / ratio)


def _refuse_unknown(data: dict[str, Any], cls: type, what: str) -> None:
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"{what}: unknown keys {unknown}; known are {sorted(known)}")
