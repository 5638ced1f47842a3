"""Parity of the policy with LeRobot's own pi0: the cases, the measurement and the table of it.

    PYTHONPATH=.:test python -m reference.parity docs/parity.md

runs LeRobot 0.6.1, 0.4.4 and 0.3.3 on every case, loads what they saved, gives the policy the same
images, state, prompt tokens and noise, and writes the differences into the file, between its
two marks.
"""

import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference.oracle_case import OTHER_SIZES
from reference.oracle_runner import OracleResult, run_oracles

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.model.config import Pi0Config
from pi0_ros.motion.rtc import prefix_weights
from pi0_ros.policy.compatibility import prompt_state
from pi0_ros.policy.compile import FORMS, GraphOptions
from pi0_ros.policy.graphs import load_graphs
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.policy.units import JointUnits

THREE = ["left", "top", "right"]
FULL_PROMPT = list(range(2, 50))
CASES: list[dict[str, Any]] = [
    {"name": "two cameras, 6 joints"},
    {"name": "one camera, 7 joints, one token", "cameras": ["top"], "joints": 7, "tokens": [2]},
    {
        "name": "three cameras, 14 joints, full prompt",
        "cameras": THREE,
        "joints": 14,
        "tokens": FULL_PROMPT,
        "seed": 2,
    },
    {
        "name": "masked camera",
        "cameras": THREE,
        "masked": ["top"],
        "empty_cameras": 1,
        "joints": 14,
        "seed": 3,
    },
    {"name": "peaked attention", "peaked": True, "tokens": FULL_PROMPT, "seed": 4},
    {"name": "larger images", "image_hw": [112, 112], "seed": 5},
    {"name": "min-max statistics", "state_norm": "MIN_MAX", "action_norm": "MIN_MAX", "seed": 6},
    {
        "name": "grouped heads, horizon 7, 3 steps",
        "joints": 5,
        "seed": 7,
        "image_hw": [42, 42],
        "sizes": OTHER_SIZES,
    },
]
QUANTILES = {"name": "quantile statistics", "state_norm": "QUANTILES", "action_norm": "QUANTILES"}
HUB = {"name": "tensor names of the published file", "hub_layout": True, "seed": 8}
ARM = [f"{joint}.pos" for joint in ("pan", "lift", "elbow_flex", "wrist_flex", "wrist_roll")]
RELATIVE = [
    {
        "name": "relative actions but for the gripper",
        "relative_actions": True,
        "action_names": [*ARM, "gripper.pos"],
        "seed": 10,
    },
    {
        "name": "relative actions, all, quantiles",
        "relative_actions": True,
        "state_norm": "QUANTILES",
        "action_norm": "QUANTILES",
        "seed": 11,
    },
    {
        "name": "relative actions, names excluded in part",
        "relative_actions": True,
        "action_names": [*ARM, "gripper.pos"],
        "exclude_joints": ["WRIST", "pan"],
        "seed": 12,
    },
]


def pi05(name: str, **case: Any) -> dict[str, Any]:
    """A case of pi0.5, by default with the normalisation and the prompt length of its defaults."""
    sizes = {"tokenizer_max_length": 200, **case.pop("sizes", {})}
    modes = {"state_norm": "QUANTILES", "action_norm": "QUANTILES"}
    return {"name": f"pi0.5: {name}", "variant": "pi05", "sizes": sizes, **modes, **case}


def rtc(**asked: Any) -> dict[str, Any]:
    return {"rtc": {"leftover": 40, "delay": 6, "execution_horizon": 25, **asked}}


GUIDED = [
    {"name": "guided, linear", "seed": 20, **rtc(schedule="LINEAR")},
    {"name": "guided, short leftover", "seed": 21, **rtc(leftover=9, schedule="EXP")},
    {
        "name": "guided, relative actions, quantiles",
        "relative_actions": True,
        "state_norm": "QUANTILES",
        "action_norm": "QUANTILES",
        "seed": 22,
        **rtc(schedule="EXP", max_guidance_weight=5.0),
    },
    pi05("guided, exp", seed=23, **rtc(schedule="EXP")),
    pi05(
        "guided, relative actions",
        relative_actions=True,
        action_names=[*ARM, "gripper.pos"],
        seed=24,
        **rtc(schedule="ONES", delay=12, max_guidance_weight=20.0),
    ),
]
LONG_PROMPT = list(range(2, 202))
PI05 = [
    pi05("two cameras, 6 joints"),
    pi05("one camera, 7 joints, one token", cameras=["top"], joints=7, tokens=[2]),
    pi05("three cameras, 200 tokens", cameras=THREE, joints=14, tokens=LONG_PROMPT, seed=2),
    pi05("masked camera", cameras=THREE, masked=["top"], empty_cameras=1, joints=14, seed=3),
    pi05("peaked attention", peaked=True, tokens=LONG_PROMPT, seed=4),
    pi05("state on edges", state_on_edges=True, joints=32, task=" pick_up\nthe cube ", seed=5),
    pi05("state on edges, again", state_on_edges=True, joints=31, seed=6),
    pi05("mean and deviation", state_norm="MEAN_STD", action_norm="MEAN_STD", seed=7),
    pi05(
        "relative actions",
        relative_actions=True,
        action_names=[*ARM, "gripper.pos"],
        seed=8,
    ),
    pi05("wide heads", sizes={"head_dim": 32, "expert_width": 64, "depth": 4}, seed=9),
]
PI05_COMPILED = pi05(
    "grouped heads, horizon 7, 3 steps",
    joints=5,
    seed=10,
    image_hw=[42, 42],
    sizes=OTHER_SIZES,
)
PI05_ROUNDED = pi05("bfloat16", bf16_weights=True, seed=11)
ONLY = {
    "0.6.1": [QUANTILES, *RELATIVE, *PI05, PI05_COMPILED, PI05_ROUNDED, *GUIDED],
    "0.4.4": [QUANTILES],
    "0.3.3": [HUB],
}
# The same weights for both precisions, so that only the arithmetic differs.
ROUNDED = {"name": "bfloat16", "bf16_weights": True, "seed": 9}

FLOAT32_GATE = 1e-4
BFLOAT16_GATE = 0.9999


@dataclass(frozen=True)
class Row:
    """One comparison: LeRobot in float32 on a case against the policy in `dtype`, compiled or not.

    `max_abs` is over normalised actions (root mean square about 1) and `cosine` too.
    """

    version: str
    case: str
    dtype: str
    max_abs: float
    cosine: float
    form: str = "eager"

    @property
    def passes(self) -> bool:
        if self.dtype == "float32":
            return self.max_abs <= FLOAT32_GATE
        return self.cosine >= BFLOAT16_GATE


def sizes_of(case: dict[str, Any]) -> Pi0Config:
    """The sizes of an oracle's case, which LeRobot's config.json does not hold."""
    s = case["sizes"]
    return Pi0Config(
        variant=case["variant"],
        image_size=s["image_size"],
        patch_size=s["patch"],
        vision_width=s["vision_width"],
        vision_mlp=s["vision_mlp"],
        vision_depth=s["vision_depth"],
        vision_heads=s["vision_heads"],
        vocab_size=s["vocab"],
        prefix_width=s["width"],
        prefix_mlp=s["mlp"],
        expert_width=s["expert_width"],
        expert_mlp=s["expert_mlp"],
        depth=s["depth"],
        heads=s["heads"],
        kv_heads=s["kv_heads"],
        head_dim=s["head_dim"],
        max_state_dim=s["max_state_dim"],
        max_action_dim=s["max_action_dim"],
        horizon=s["chunk_size"],
        prompt_length=s["tokenizer_max_length"],
        num_steps=s["num_steps"],
    )


def compare(
    version: str, result: OracleResult, dtype: str, hub: bool = False, form: str = "eager"
) -> Row:
    """Run the policy on what an oracle saved, and compare.

    Args:
        form: `eager`, or a form of a graph, which inductor compiles.
    """
    record = result.record
    case, tensors = record["case"], result.tensors()
    path = result.path / "checkpoint_hub" if hub else result.checkpoint
    read = read_checkpoint(path, sizes_of(case))
    mode = "guided" if case["rtc"] else "off"
    if form == "eager":
        options = GraphOptions("eager", rtc=mode)
    else:
        options = GraphOptions("inductor", form, rtc=mode)
    graphs = load_graphs(read, options, getattr(torch, dtype), torch.device("cpu"), cameras=0)
    prompts = []

    def tokenizer(text: str) -> list[int]:
        prompts.append(text)
        return list(case["tokens"])

    policy = Policy(
        read,
        graphs,
        tokenizer,
        cameras=[name for name in read.cameras if name not in case["masked"]],
        joint_units=JointUnits.radians(case["joints"]),
        delta_mask=np.array(read.delta_mask or [False] * case["joints"]),
        action_dt=0.02,
        seed=0,
        prompt_state=prompt_state(read, None),
    )
    images = {name: tensors[f"image_u8.{name}"].numpy() for name in policy.cameras}
    observation = Observation(images, tensors["state"].numpy(), case["task"])
    prefix = action_prefix(case["rtc"], tensors["earlier_actions"]) if case["rtc"] else None
    chunk = policy.infer(observation, tensors["noise"][0].numpy(), prefix)
    asked = [call["text"][0] for call in record["tokenizer_calls"]]
    if prompts != asked:
        raise AssertionError(f"{case['name']}: the prompt is {prompts}, LeRobot has {asked}")
    ours, theirs = (
        ((actions - read.action.offset) / read.action.inverse_scale).ravel().astype(np.float64)
        for actions in (chunk.positions, tensors["actions"].numpy())
    )
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    most = float(abs(ours - theirs).max())
    return Row(version, case["name"], dtype, most, float(cosine), form)


def action_prefix(asked: dict[str, Any], earlier: torch.Tensor) -> ActionPrefix:
    """What an oracle was guided by; the last of its actions is held, where LeRobot has zeros."""
    horizon = 50
    positions = earlier.numpy()[np.minimum(np.arange(horizon), asked["leftover"] - 1)]
    end = min(asked["execution_horizon"], asked["leftover"])
    weights = prefix_weights(asked["schedule"].lower(), asked["delay"], end, horizon)
    return ActionPrefix(positions, weights, asked["delay"], asked["max_guidance_weight"])


def cases(version: str) -> list[dict[str, Any]]:
    """What is tried with one LeRobot version (a key of `ONLY`)."""
    return [*CASES, *ONLY[version], ROUNDED]


def measure(
    version: str, results: Mapping[str, OracleResult], forms: Iterable[str] = FORMS
) -> list[Row]:
    """All comparisons with one LeRobot version, on what it saved of each of its cases.

    Args:
        forms: of graphs that inductor is to compile.
    """
    rows = [
        compare(version, results[case["name"]], "float32", hub=case.get("hub_layout", False))
        for case in cases(version)
    ]
    rows.append(compare(version, results[ROUNDED["name"]], "bfloat16"))
    if PI05_ROUNDED in cases(version):
        compiled = results[PI05_COMPILED["name"]]
        rows += [compare(version, compiled, "float32", form=form) for form in forms]
        rows.append(compare(version, results[PI05_ROUNDED["name"]], "bfloat16"))
    return rows


def table(rows: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [
        "| LeRobot | case | ours | max abs difference | cosine | gate |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        gate = f"max <= {FLOAT32_GATE:g}" if row.dtype == "float32" else f"cos >= {BFLOAT16_GATE}"
        form = "" if row.form == "eager" else f", compiled as {row.form}"
        verdict = "met" if row.passes else "NOT met"
        lines.append(
            f"| {row.version} | {row.case} | {row.dtype}{form} | {row.max_abs:.1e} "
            f"| {row.cosine:.7f} | {gate}: {verdict} |"
        )
    return "\n".join(lines)


BEGIN, END = "<!-- figures: make parity -->", "<!-- end of figures -->"


def main() -> None:
    file = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as out:
        rows = [row for v in ONLY for row in measure(v, run_oracles(v, cases(v), Path(out) / v))]
    text = file.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}, CPU"
    file.write_text(f"{before}{BEGIN}\n\n{versions}\n\n{table(rows)}\n\n{END}{after}")
    print(table(rows))
    if not all(row.passes for row in rows):
        sys.exit("a gate is not met")


if __name__ == "__main__":
    main()
