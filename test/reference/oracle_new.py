"""LeRobot 0.4.4's and 0.6.1's pi0, and 0.6.1's pi0.5, as oracles.

Run by run_oracle.py; case format: oracle_case.py.
Its sizes are hard-coded in PaliGemmaWithExpertModel, so the configurations are changed on their way
into transformers' classes; nothing of LeRobot's arithmetic is touched. 0.6.1 brings a Gemma of its
own; that of 0.4.4: see benchmarks/race/peer_gemma.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lerobot
import lerobot.policies.pi0.modeling_pi0 as pi0
import lerobot.policies.pi05.modeling_pi05 as pi05
import lerobot.processor.tokenizer_processor as tokenizer_processor
import torch
import transformers
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.processor_pi05 import make_pi05_pre_post_processors
from reference.oracle_case import Case
from reference.oracle_common import (
    FixedTokenizer,
    Stopwatch,
    Taps,
    fill_parameters,
    generator,
    main,
    observation,
    statistics,
    write,
)
from torch import Tensor, nn

if lerobot.__version__ == "0.4.4":
    from transformers.modeling_utils import no_init_weights

    _CLASSES = ("PaliGemmaForConditionalGeneration", "GemmaForCausalLM")
else:
    from transformers.initialization import no_init_weights

    _CLASSES = ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")

VERSION = lerobot.__version__
_PaliGemma, _Gemma = (getattr(pi0, name) for name in _CLASSES)
_VARIANTS = {
    "pi0": (pi0, pi0.PI0Policy, PI0Config, make_pi0_pre_post_processors),
    "pi05": (pi05, pi05.PI05Policy, PI05Config, make_pi05_pre_post_processors),
}


def _use_sizes(case: Case) -> None:
    s = case.sizes
    variants = {"gemma_2b": (s.width, s.mlp), "gemma_300m": (s.expert_width, s.expert_mlp)}

    def gemma_config(variant: str) -> pi0.GemmaConfig:
        width, mlp = variants[variant]
        return pi0.GemmaConfig(width, s.depth, mlp, s.heads, s.kv_heads, s.head_dim)

    def paligemma(config: transformers.PaliGemmaConfig) -> nn.Module:
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = s.vision_width, s.vision_mlp
        vision.num_hidden_layers, vision.num_attention_heads = s.vision_depth, s.vision_heads
        vision.projection_dim = config.projection_dim = config.hidden_size = s.width
        config.text_config.vocab_size = config._vocab_size = config.image_token_index = s.vocab
        return _PaliGemma(config=config)

    def gemma(config: transformers.GemmaConfig) -> nn.Module:
        config.vocab_size = s.vocab
        return _Gemma(config=config)

    module = _VARIANTS[case.variant][0]
    module.get_gemma_config = gemma_config
    for name, build_one in zip(_CLASSES, (paligemma, gemma), strict=True):
        setattr(module, name, build_one)


def build(case: Case) -> pi0.PI0Policy | pi05.PI05Policy:
    """A policy of the case's sizes with the case's weights."""
    if case.variant == "pi05" and VERSION == "0.4.4":
        raise ValueError(f"case {case.name!r}: the oracle of LeRobot {VERSION} has no pi05")
    _use_sizes(case)
    _, policy_class, config_class, _ = _VARIANTS[case.variant]
    s = case.sizes
    features = {
        f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, *case.image_hw))
        for c in case.cameras
    }
    features["observation.state"] = PolicyFeature(FeatureType.STATE, (case.joints,))
    config = config_class(
        input_features=features,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (case.joints,))},
        device="cpu",
        dtype=case.dtype,
        chunk_size=s.chunk_size,
        n_action_steps=s.chunk_size,
        max_state_dim=s.max_state_dim,
        max_action_dim=s.max_action_dim,
        num_inference_steps=s.num_steps,
        image_resolution=(s.image_size, s.image_size),
        empty_cameras=case.empty_cameras,
        tokenizer_max_length=s.tokenizer_max_length,
        normalization_mapping={
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode(case.state_norm),
            "ACTION": NormalizationMode(case.action_norm),
        },
        **_relative_actions(case),
        **_rtc(case),
    )
    with no_init_weights():  # every parameter is filled below
        policy = policy_class(config)
    policy.model.paligemma_with_expert.paligemma.tie_weights()
    fill_parameters(policy.model, case)
    return policy.eval()


def _relative_actions(case: Case) -> dict[str, Any]:
    """Settings of LeRobot from 0.5 on."""
    if VERSION == "0.4.4":
        if case.relative_actions:
            raise ValueError(f"case {case.name!r}: LeRobot {VERSION} has no relative actions")
        return {}
    return {
        "use_relative_actions": case.relative_actions,
        "relative_exclude_joints": list(case.exclude_joints),
        "action_feature_names": list(case.action_names) or None,
    }


def _rtc(case: Case) -> dict[str, Any]:
    """Settings of real-time chunking; its configuration is no older than 0.6 as it is used here."""
    if case.rtc is None:
        return {}
    from lerobot.configs import RTCAttentionSchedule
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    return {
        "rtc_config": RTCConfig(
            prefix_attention_schedule=RTCAttentionSchedule[case.rtc.schedule],
            max_guidance_weight=case.rtc.max_guidance_weight,
            execution_horizon=case.rtc.execution_horizon,
        )
    }


def _accumulate_time(model: pi0.PI0Pytorch, num_steps: int) -> None:
    """Denoise at the float32 sums of -1 / num_steps that earlier versions step through."""
    inner = model.denoise_step
    dt = torch.tensor(-1.0 / num_steps)
    time = torch.ones(1)

    def denoise_step(*, timestep: Tensor, **kwargs: Any) -> Tensor:
        nonlocal time
        velocity = inner(timestep=time, **kwargs)
        time = time + dt
        return velocity

    model.denoise_step = denoise_step


def infer(case: Case, out: Path) -> None:
    """Build, save, run one observation through LeRobot's own pipelines, write all to `out`."""
    if case.adapt_to_pi_aloha or case.hub_layout:
        raise ValueError(f"case {case.name!r}: adapt_to_pi_aloha and hub_layout belong to 0.3.3")
    policy = build(case)
    tokenizer = FixedTokenizer(case)
    tokenizer_processor.AutoTokenizer = SimpleNamespace(from_pretrained=lambda name: tokenizer)
    before, after = _VARIANTS[case.variant][3](policy.config, statistics(case))
    for part in (policy, before, after):
        part.save_pretrained(out / "checkpoint")

    inputs = observation(case)
    batch = {f"observation.images.{c}": inputs[f"image.{c}"] for c in case.present}
    batch |= {"observation.state": inputs["state"], "task": case.task}
    model = policy.model
    taps = Taps()
    taps.listen(model, "denoise_step")
    taps.listen(model.paligemma_with_expert, "embed_image")
    for method in ("embed_prefix", "sample_actions"):
        taps.listen(model, method)
    if case.accumulated_time:
        _accumulate_time(model, case.sizes.num_steps)
    earlier, guided = {}, {}
    if case.rtc is not None:
        shape = (case.rtc.leftover, case.joints)
        earlier["earlier"] = torch.randn(shape, generator=generator(case, "earlier"))
        guided = {"inference_delay": case.rtc.delay, "prev_chunk_left_over": earlier["earlier"]}
    with Stopwatch() as watch, torch.no_grad():
        seen = before(batch)
        chunk = policy.predict_action_chunk(seen, noise=inputs["noise"].clone(), **guided)
        actions = after(chunk)
        if earlier:
            earlier["earlier_actions"] = after(earlier["earlier"][None])[0]

    absent = [k for k in policy.config.image_features if k not in batch]
    order = list(case.present) + [k.removeprefix("observation.images.") for k in absent]
    arguments, _, model_actions = taps.calls["sample_actions"][0]
    images, _, tokens, token_mask, *state = arguments
    if not (
        torch.equal(tokens[0], inputs["tokens"])
        and torch.equal(token_mask[0], inputs["token_mask"])
    ):
        raise RuntimeError("LeRobot's pipeline did not hand the case's tokens to the model")
    embeddings, prefix_mask, _ = taps.calls["embed_prefix"][0][2]
    steps = taps.calls["denoise_step"]
    key, value, *_ = next(iter(steps[0][1]["past_key_values"]))
    results = {
        "model_actions": model_actions,
        "actions": actions[0],
        "tap.prefix_embedding": embeddings[0],
        "tap.prefix_mask": prefix_mask[0],
        "tap.prefix_key": key[0],
        "tap.prefix_value": value[0],
        "tap.time": torch.cat([kwargs["timestep"] for _, kwargs, _ in steps]),
        "tap.velocity": torch.cat([result for _, _, result in steps]),
    }
    if state:  # pi0.5 gets it in words
        results["tap.state"] = state[0][0]
    for camera, image, (_, _, embedding) in zip(
        order, images, taps.calls["embed_image"], strict=True
    ):
        results[f"tap.network_image.{camera}"] = image[0]
        results[f"tap.image_embedding.{camera}"] = embedding[0]
    found = {
        "lerobot": VERSION,
        "camera_order": order,
        "tokenizer_calls": tokenizer.calls,
        "seconds": watch.seconds,
    }
    write(out, case, inputs | earlier | results, found)


def preprocess(image: Tensor, size: int) -> Tensor:
    """LeRobot's own image preprocessing without a policy around it."""
    stand_in = SimpleNamespace(
        config=SimpleNamespace(image_features={"image": None}, image_resolution=(size, size)),
        parameters=lambda: iter([torch.zeros(1)]),
    )
    images, _ = pi0.PI0Policy._preprocess_images(stand_in, {"image": image})
    return images[0]


def run(arguments: Sequence[str]) -> None:
    """Entry point of run_oracle.py: CASES.json OUT."""
    main(VERSION, infer, preprocess, arguments)
