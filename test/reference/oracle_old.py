"""LeRobot 0.3.3's pi0 as an oracle, run by run_oracle.py (case format: oracle_case.py).

LeRobot 0.3.3 holds and computes the networks in bfloat16 only: the type is written into its source
as `torch.bfloat16` (casts of the modules, of each layer's input, of the attention's result, of the
image and state embeddings). For a case of dtype float32 this oracle hands the two modules that say
so a `torch` whose attribute `bfloat16` is torch.float32; everything else of that name is torch's
own. Order of operations, masks and scales stay LeRobot's; only the rounding goes away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lerobot.policies.pi0.modeling_pi0 as pi0
import lerobot.policies.pi0.paligemma_with_expert as paligemma_with_expert
import torch
import transformers
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from reference.oracle_case import Case
from reference.oracle_common import (
    FixedTokenizer,
    Stopwatch,
    Taps,
    fill_parameters,
    main,
    observation,
    statistics,
    write,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_utils import no_init_weights

VERSION = "0.3.3"
_ExpertConfig = pi0.PaliGemmaWithExpertConfig
# Names of transformers >= 4.52 (what LeRobot 0.3.3 writes) -> those of the published lerobot/pi0.
_TO_HUB = (
    ("paligemma.lm_head.", "paligemma.language_model.lm_head."),
    ("paligemma.model.language_model.", "paligemma.language_model.model."),
    ("paligemma.model.vision_tower.", "paligemma.vision_tower."),
    ("paligemma.model.multi_modal_projector.", "paligemma.multi_modal_projector."),
)


class _Float32Torch:
    """torch, except that its bfloat16 is float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _use_dtype(case: Case) -> None:
    for module in (pi0, paligemma_with_expert):
        module.torch = torch if case.dtype == "bfloat16" else _Float32Torch()


def _use_sizes(case: Case) -> None:
    s = case.sizes

    def config(**kwargs: Any) -> transformers.PretrainedConfig:
        result = _ExpertConfig(**kwargs)
        vlm, expert = result.paligemma_config, result.gemma_expert_config
        text, vision = vlm.text_config, vlm.vision_config
        for part, width, mlp in ((text, s.width, s.mlp), (expert, s.expert_width, s.expert_mlp)):
            part.hidden_size, part.intermediate_size = width, mlp
            part.num_hidden_layers, part.head_dim = s.depth, s.head_dim
            part.num_attention_heads, part.num_key_value_heads = s.heads, s.kv_heads
            part.vocab_size = s.vocab
        vision.hidden_size, vision.intermediate_size = s.vision_width, s.vision_mlp
        vision.num_hidden_layers, vision.num_attention_heads = s.vision_depth, s.vision_heads
        vision.image_size = s.image_size
        vision.projection_dim = vlm.projection_dim = vlm.hidden_size = s.width
        vlm._vocab_size = vlm.image_token_index = s.vocab
        return result

    pi0.PaliGemmaWithExpertConfig = config


def build(case: Case, tokenizer: FixedTokenizer) -> pi0.PI0Policy:
    """A policy of the case's sizes with the case's weights."""
    _use_dtype(case)
    _use_sizes(case)
    pi0.AutoTokenizer = SimpleNamespace(from_pretrained=lambda name: tokenizer)
    s = case.sizes
    features = {
        f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, *case.image_hw))
        for c in case.cameras
    }
    features["observation.state"] = PolicyFeature(FeatureType.STATE, (case.joints,))
    config = PI0Config(
        input_features=features,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (case.joints,))},
        device="cpu",
        chunk_size=s.chunk_size,
        n_action_steps=s.chunk_size,
        max_state_dim=s.max_state_dim,
        max_action_dim=s.max_action_dim,
        num_steps=s.num_steps,
        proj_width=s.expert_width,
        resize_imgs_with_padding=(s.image_size, s.image_size),
        empty_cameras=case.empty_cameras,
        adapt_to_pi_aloha=case.adapt_to_pi_aloha,
        tokenizer_max_length=s.tokenizer_max_length,
        normalization_mapping={
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode(case.state_norm),
            "ACTION": NormalizationMode(case.action_norm),
        },
    )
    with no_init_weights():  # every parameter is filled below
        policy = pi0.PI0Policy(config, dataset_stats=statistics(case))
    policy.model.paligemma_with_expert.paligemma.tie_weights()
    fill_parameters(policy.model, case)
    return policy.eval()


def write_hub_layout(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint of LeRobot 0.3.3 to the key names of the published lerobot/pi0."""
    renamed = {}
    saved = load_file(checkpoint / "model.safetensors")
    for key, tensor in saved.items():
        for name, hub_name in _TO_HUB:
            key = re.sub(rf"\.{re.escape(name)}", f".{hub_name}", key)
        renamed[key] = tensor
    back = pi0.PI0Policy._transform_state_dict_keys(renamed)
    if not set(saved) <= set(back):
        raise RuntimeError(f"LeRobot does not read back {sorted(set(saved) - set(back))}")
    target.mkdir(parents=True, exist_ok=True)
    save_file(renamed, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text((checkpoint / "config.json").read_text())


def infer(case: Case, out: Path) -> None:
    """Build, save, run one observation through LeRobot's select_action, write all to `out`."""
    if "QUANTILES" in (case.state_norm, case.action_norm):
        raise ValueError(f"case {case.name!r}: LeRobot {VERSION} has no QUANTILES")
    if case.accumulated_time:
        raise ValueError(f"case {case.name!r}: LeRobot {VERSION} always accumulates its time")
    tokenizer = FixedTokenizer(case)
    policy = build(case, tokenizer)
    policy.save_pretrained(out / "checkpoint")
    if case.hub_layout:
        write_hub_layout(out / "checkpoint", out / "checkpoint_hub")

    inputs = observation(case)
    batch = {f"observation.images.{c}": inputs[f"image.{c}"][None] for c in case.present}
    batch |= {"observation.state": inputs["state"][None].clone(), "task": [case.task]}
    model = policy.model
    taps = Taps()
    taps.listen(model.paligemma_with_expert, "embed_image")
    for method in ("embed_prefix", "denoise_step", "sample_actions"):
        taps.listen(model, method)
    with Stopwatch() as watch, torch.no_grad():
        # It answers the first action, queues the rest of the chunk and adds to the noise in place.
        first = policy.select_action(batch, noise=inputs["noise"].clone())
    actions = torch.cat([first, *policy._action_queue])

    absent = [k for k in policy.config.image_features if k not in batch][: case.empty_cameras]
    order = list(case.present) + [k.removeprefix("observation.images.") for k in absent]
    (images, _, tokens, token_mask, state), _, model_actions = taps.calls["sample_actions"][0]
    if not (
        torch.equal(tokens[0], inputs["tokens"])
        and torch.equal(token_mask[0], inputs["token_mask"])
    ):
        raise RuntimeError("LeRobot's pipeline did not hand the case's tokens to the model")
    embeddings, prefix_mask, _ = taps.calls["embed_prefix"][0][2]
    steps = taps.calls["denoise_step"]
    cache = steps[0][0][2][0]
    results = {
        "model_actions": model_actions,
        "actions": actions,
        "tap.state": state[0],
        "tap.prefix_embedding": embeddings[0],
        "tap.prefix_mask": prefix_mask[0],
        "tap.prefix_key": cache["key_states"][0].transpose(0, 1),
        "tap.prefix_value": cache["value_states"][0].transpose(0, 1),
        "tap.time": torch.cat([args[4] for args, _, _ in steps]),
        "tap.velocity": torch.cat([result for _, _, result in steps]),
    }
    scale = (
        case.sizes.width**0.5
    )  # transformers divided by it; LeRobot multiplies it back afterwards
    for camera, image, (_, _, embedding) in zip(
        order, images, taps.calls["embed_image"], strict=True
    ):
        results[f"tap.network_image.{camera}"] = image[0]
        results[f"tap.image_embedding.{camera}"] = embedding[0] * scale
    found = {
        "lerobot": VERSION,
        "camera_order": order,
        "tokenizer_calls": tokenizer.calls,
        "seconds": watch.seconds,
    }
    write(out, case, inputs | results, found)


def preprocess(image: Tensor, size: int) -> Tensor:
    """LeRobot's own image preprocessing without a policy around it."""
    stand_in = SimpleNamespace(
        config=SimpleNamespace(
            image_features={"image": None}, resize_imgs_with_padding=(size, size), empty_cameras=0
        )
    )
    images, _ = pi0.PI0Policy.prepare_images(stand_in, {"image": image})
    return images[0]


def run(arguments: Sequence[str]) -> None:
    """Entry point of run_oracle.py: CASES.json OUT."""
    main(VERSION, infer, preprocess, arguments)
