"""LeRobot's process in the race: `python -m benchmarks.race.peer`, in its own libraries.

LeRobot's arithmetic is untouched. Its sizes are written into its source, so that configurations are
changed on their way into transformers' classes, and 0.4.4 needs a Gemma that no released
transformers has (`bench_peer_gemma`). Parameters are not first filled with random numbers, which
`from_pretrained` would do: that makes its load time and memory better than a user sees them.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import transformers.models.gemma.modeling_gemma  # before the stand-ins: it has imports of its own
import transformers.models.paligemma.modeling_paligemma
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

try:
    from transformers.initialization import no_init_weights
except ImportError:  # up to transformers 4
    from transformers.modeling_utils import no_init_weights

from benchmarks.race import peer_gemma as bench_peer_gemma
from benchmarks.race import peer_stubs as bench_peer_stubs
from benchmarks.race.worker import Contestant, Stages, serve

_TEXT = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
_HEAD = "paligemma_with_expert.paligemma.lm_head.weight"


def load(job: dict[str, Any]) -> Contestant:
    """LeRobot's policy as a job wants it: peer, sizes, checkpoint, inputs, dtype, steps, ..."""
    sizes = SimpleNamespace(**job["sizes"])
    if job["peer"] == "0.4.4":
        bench_peer_gemma.apply()
    bench_peer_stubs.install()
    build = _build_old if job["peer"] == "0.3.3" else _build_new
    with no_init_weights():  # every parameter is filled below
        policy = build(job, sizes)
    policy.model.paligemma_with_expert.paligemma.tie_weights()
    fill(policy.model, job["checkpoint"] + "/model.safetensors")
    policy.eval()

    inputs = load_file(job["inputs"])
    batch = {
        f"observation.images.camera{i}": inputs[f"image.{i}"].permute(2, 0, 1)[None] / 255
        for i in range(job["cameras"])
    }
    batch["observation.state"] = inputs["state"][None]
    tokens = inputs["tokens"][None]
    valid = torch.arange(tokens.shape[1])[None] < job["prompt"]
    prepare = policy.prepare_images if job["peer"] == "0.3.3" else policy._preprocess_images
    has_state = job["peer"] != "0.6.1"  # which runs pi0.5 here

    def infer() -> Tensor:
        with torch.no_grad():
            images, masks = prepare(dict(batch))
            state = (policy.prepare_state(batch),) if has_state else ()
            noise = inputs["noise"].clone()  # the old one adds to it in place
            args = (images, masks, tokens, valid, *state)
            return policy.model.sample_actions(*args, noise=noise)[0]

    stages = Stages()
    _wrap(stages, policy.model)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return Contestant(infer, infer, stages, False, versions)


def fill(model: nn.Module, file: str) -> None:
    """Copy the checkpoint's tensors into the parameters of the same names."""
    missing = []
    with safe_open(file, "pt") as weights:
        there = {name.removeprefix("model."): name for name in weights.keys()}  # noqa: SIM118
        for name, parameter in model.named_parameters():
            key = name if name in there else {_TEXT: _HEAD, _HEAD: _TEXT}.get(name, name)
            if key not in there:
                missing.append(name)
                continue
            with torch.no_grad():
                parameter.copy_(weights.get_tensor(there[key]))
    if missing:
        raise RuntimeError(f"LeRobot's parameters {missing} are not in {file}")


def _wrap(stages: Stages, model: nn.Module) -> None:
    """Vision is `embed_image`; the prefix its first network call; denoising all `denoise_step`s."""
    both = model.paligemma_with_expert
    stages.wrap(both, "embed_image", "vision")
    inner, step = both.forward, model.denoise_step
    within = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if within:
            return inner(*args, **kwargs)
        with stages.clock("prefix"):
            return inner(*args, **kwargs)

    def denoise_step(*args: Any, **kwargs: Any) -> Any:
        within.append(True)
        with stages.clock("denoise"):
            result = step(*args, **kwargs)
        within.pop()
        return result

    both.forward, model.denoise_step = forward, denoise_step


def _features(job: dict[str, Any], sizes: Any) -> dict[str, Any]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    inputs = {
        f"observation.images.camera{i}": PolicyFeature(FeatureType.VISUAL, (3, 480, 480))
        for i in range(job["cameras"])
    }
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (sizes.max_state_dim,))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (sizes.max_action_dim,))}
    return {
        "input_features": inputs,
        "output_features": outputs,
        "device": "cpu",
        "chunk_size": sizes.horizon,
        "n_action_steps": sizes.horizon,
        "max_state_dim": sizes.max_state_dim,
        "max_action_dim": sizes.max_action_dim,
        "tokenizer_max_length": sizes.prompt_length,
    }


def _build_new(job: dict[str, Any], sizes: Any) -> Any:
    """pi0 of LeRobot 0.4.4, or pi0.5 of 0.6.1."""
    name = "pi0" if job["peer"] == "0.4.4" else "pi05"
    model = import_module(f"lerobot.policies.{name}.modeling_{name}")
    configuration = import_module(f"lerobot.policies.{name}.configuration_{name}")
    names = ("PaliGemmaForConditionalGeneration", "GemmaForCausalLM")
    if name == "pi05":
        names = ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")

    widths = {
        "gemma_2b": (sizes.prefix_width, sizes.prefix_mlp),
        "gemma_300m": (sizes.expert_width, sizes.expert_mlp),
    }
    paligemma_class, gemma_class = (getattr(model, n) for n in names)

    def gemma_config(variant: str) -> Any:
        width, mlp = widths[variant]
        heads = (sizes.heads, sizes.kv_heads, sizes.head_dim)
        return model.GemmaConfig(width, sizes.depth, mlp, *heads)

    def paligemma(config: Any) -> nn.Module:
        _set_vision(config, sizes)
        config.hidden_size = sizes.prefix_width
        config.text_config.vocab_size = sizes.vocab_size
        config._vocab_size = config.image_token_index = sizes.vocab_size
        return paligemma_class(config=config)

    def gemma(config: Any) -> nn.Module:
        config.vocab_size = sizes.vocab_size
        return gemma_class(config=config)

    model.get_gemma_config = gemma_config
    for class_name, build in zip(names, (paligemma, gemma), strict=True):
        setattr(model, class_name, build)
    config = getattr(configuration, f"{name.upper()}Config")(
        **_features(job, sizes),
        dtype=job["dtype"],
        num_inference_steps=job["steps"],
        image_resolution=(sizes.image_size, sizes.image_size),
    )
    return getattr(model, f"{name.upper()}Policy")(config)


def _build_old(job: dict[str, Any], sizes: Any) -> Any:
    import lerobot.policies.pi0.modeling_pi0 as pi0
    from lerobot.policies.pi0.configuration_pi0 import PI0Config

    inner = pi0.PaliGemmaWithExpertConfig

    def expert_config(**kwargs: Any) -> Any:
        result = inner(**kwargs)
        vlm, expert = result.paligemma_config, result.gemma_expert_config
        for part, width, mlp in (
            (vlm.text_config, sizes.prefix_width, sizes.prefix_mlp),
            (expert, sizes.expert_width, sizes.expert_mlp),
        ):
            part.hidden_size, part.intermediate_size = width, mlp
            part.num_hidden_layers, part.head_dim = sizes.depth, sizes.head_dim
            part.num_attention_heads, part.num_key_value_heads = sizes.heads, sizes.kv_heads
            part.vocab_size = sizes.vocab_size
        _set_vision(vlm, sizes)
        vlm.vision_config.num_hidden_layers = sizes.vision_depth
        vlm.vision_config.image_size = sizes.image_size
        vlm.hidden_size = sizes.prefix_width
        vlm._vocab_size = vlm.image_token_index = sizes.vocab_size
        return result

    pi0.PaliGemmaWithExpertConfig = expert_config
    pi0.AutoTokenizer = SimpleNamespace(from_pretrained=lambda name: None)
    statistics = {
        "observation.state": _unit_statistics(sizes.max_state_dim),
        "action": _unit_statistics(sizes.max_action_dim),
    }
    config = PI0Config(
        **_features(job, sizes),
        num_steps=job["steps"],
        proj_width=sizes.expert_width,
        resize_imgs_with_padding=(sizes.image_size, sizes.image_size),
    )
    return pi0.PI0Policy(config, dataset_stats=statistics)


def _set_vision(config: Any, sizes: Any) -> None:
    vision = config.vision_config
    vision.hidden_size, vision.intermediate_size = sizes.vision_width, sizes.vision_mlp
    vision.num_attention_heads = sizes.vision_heads
    vision.projection_dim = config.projection_dim = sizes.prefix_width


def _unit_statistics(size: int) -> dict[str, Tensor]:
    return {"mean": torch.zeros(size), "std": torch.ones(size)}


if __name__ == "__main__":
    serve(load)
