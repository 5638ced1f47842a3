"""Whether a checkpoint fits a robot, checked without reading its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.policy.card import PolicyCard
from pi0_ros.policy.units import JointUnits

Described = Checkpoint | PolicyCard
"""A checkpoint on this machine, or what a server says of its own."""

LEAST_SCALE = 1e-5
"""Least standard deviation (or half range) that data can have, in the checkpoint's unit.

Below it the value was constant: every format divides by its guard of 1e-8 or 1e-6 instead, and a
difference of a thousandth of a radian becomes thousands of standard deviations to the model.
"""


def policy_problems(
    checkpoint: Described,
    *,
    cameras: Sequence[str],
    joints: int,
    action_mode: str | None,
    delta_mask: Sequence[bool] | None,
    action_dt: float,
    discrete_state_input: bool | None = None,
    rtc: str = "off",
    rtc_max_delay: int = 0,
) -> list[str]:
    """Everything that does not fit; empty when all does.

    Args:
        cameras, action_mode, delta_mask, action_dt, discrete_state_input, rtc_max_delay: as for
            `Policy.load`.
        rtc: see `model.rtc`.
        joints: how many the robot has.
    """
    problems = []
    if unknown := [name for name in cameras if name not in checkpoint.cameras]:
        problems.append(
            f"cameras {unknown} are not the checkpoint's; it knows {list(checkpoint.cameras)}"
        )
    if not cameras:
        problems.append("at least one camera is needed")
    if joints != checkpoint.joints:
        problems.append(f"{joints} joints are given, the checkpoint has {checkpoint.joints}")
    problems += [
        *_action_problems(checkpoint, action_mode, delta_mask, joints),
        *_prompt_problems(checkpoint, discrete_state_input),
        *_rtc_problems(checkpoint, rtc, rtc_max_delay),
        *_statistics_problems("state", checkpoint.state),
        *_statistics_problems("action", checkpoint.action),
    ]
    if not action_dt > 0:
        problems.append(f"action_dt must be positive seconds, got {action_dt}")
    if not checkpoint.horizon > 0:
        problems.append(f"the checkpoint's chunks have {checkpoint.horizon} steps")
    return problems


def prompt_state(checkpoint: Described, discrete_state_input: bool | None) -> int:
    """How many values of the state stand in the prompt, those beyond the joints being 0."""
    if checkpoint.prompt_state is None:
        return checkpoint.joints if discrete_state_input else 0
    return checkpoint.prompt_state


def has_statistics(norm: Normalization) -> bool:
    """Whether values are normalised at all; mode IDENTITY brings no statistics to compare with."""
    return bool(np.any(norm.offset != 0) or np.any(norm.scale != 1))


def radian_range(norm: Normalization, units: JointUnits) -> tuple[np.ndarray, np.ndarray]:
    """Where the training's values mostly lay: mean -+ standard deviation, or minimum to maximum.

    Returns:
        lower, upper: [joints] radians.
    """
    ends = np.stack(
        [units.to_radians(norm.offset - norm.scale), units.to_radians(norm.offset + norm.scale)]
    )
    return ends.min(axis=0), ends.max(axis=0)


def _action_problems(
    checkpoint: Described, mode: str | None, mask: Sequence[bool] | None, joints: int
) -> list[str]:
    if mode not in (None, "absolute", "delta"):
        return [f"action_mode must be 'absolute' or 'delta', got {mode!r}"]
    declared = checkpoint.action_mode
    if mode is None and declared is None:
        return [
            f"{checkpoint.format} checkpoints do not say whether actions are absolute or relative "
            "to the observed state: set action_mode to 'absolute' or 'delta', as the training "
            "configuration has it (openpi: use_delta_joint_actions, DeltaActions)"
        ]
    if mode is not None and declared is not None and mode != declared:
        return [f"action_mode '{mode}' contradicts the checkpoint, whose actions are {declared}"]
    if declared == "delta":
        if mask is not None and tuple(mask) != checkpoint.delta_mask:
            return [
                f"delta_mask {list(mask)} contradicts the checkpoint, whose relative actions are "
                f"{list(checkpoint.delta_mask or ())}"
            ]
        return []
    if (mode == "delta") != (mask is not None):
        return ["delta_mask goes with action_mode 'delta', and only with it"]
    if mask is not None and len(mask) != joints:
        return [f"delta_mask has {len(mask)} values for {joints} joints"]
    return []


def _prompt_problems(checkpoint: Described, discrete_state_input: bool | None) -> list[str]:
    declared = checkpoint.prompt_state
    if declared is None and discrete_state_input is None:
        return [
            f"{checkpoint.format} checkpoints do not say whether prompts of pi0.5 have the state in"
            " them: set discrete_state_input to true or false, as the training configuration has"
            " it (openpi: true unless it says discrete_state_input=False, as pi05_libero does)"
        ]
    if None not in (declared, discrete_state_input) and bool(declared) != discrete_state_input:
        has = "has" if declared else "does not have"
        return [
            f"discrete_state_input {discrete_state_input} contradicts the checkpoint, whose prompt "
            f"{has} the state in it"
        ]
    return []


def _rtc_problems(checkpoint: Described, rtc: str, max_delay: int) -> list[str]:
    trained, horizon = checkpoint.rtc_max_delay, checkpoint.horizon
    if rtc != "trained":
        return []
    if not (trained or max_delay):
        return [
            "rtc: trained needs a policy that was trained with clean prefixes, and the checkpoint"
            " does not say that it was (rtc_training_max_delay in its config.json): set rtc to"
            " guided, which any policy can do; or, if it was trained so, rtc_max_delay to the most"
            " steps that its training gave"
        ]
    if trained and max_delay > trained:
        return [
            f"rtc_max_delay {max_delay} is more than the {trained} steps that the checkpoint was"
            " trained with"
        ]
    if max_delay >= horizon:
        return [f"rtc_max_delay {max_delay} must be below the {horizon} steps of a chunk"]
    return []


def _statistics_problems(kind: str, norm: Normalization) -> list[str]:
    """NaN and missing statistics are found by the readers of the formats already."""
    constant = np.flatnonzero(np.abs(norm.scale) < LEAST_SCALE)
    if not constant.size:
        return []
    values = ", ".join(f"number {i} (always {norm.offset[i]:.6g})" for i in constant)
    return [
        f"the checkpoint's {kind} never varied in its data: {values}; the statistics have no"
        " spread to divide by, so the slightest difference would count as huge. Train without"
        " these numbers, or with data in which they move"
    ]
