"""What both oracles share: seeded weights and inputs, taps, output files, command line.

Each output folder holds

    case.json          "case" with its defaults, "fills_frame" (no padding is seen), "versions",
                       "lerobot", "camera_order" (the model's, absent ones last), "tokenizer_calls",
                       "seconds" of the one inference ("wall", "cpu"; one thread, taps included)
    checkpoint/        as LeRobot's own save_pretrained writes it
    io.safetensors     inputs, results and taps:
        image_u8.<camera>       [H, W, 3] uint8 RGB, cameras present in the observation
        image.<camera>          [3, H, W] float32 = image_u8 / 255
        state                   [n] float32, raw (not normalised)
        tokens, token_mask      [tokenizer_max_length] int64 and bool
        noise                   [1, chunk, max_action_dim] float32
        earlier, earlier_actions   [leftover, n] float32, of a case with `rtc`: the chunk that
                                LeRobot's is guided by, normalised and as LeRobot un-normalises it
        model_actions           [1, chunk, max_action_dim] float32, what sample_actions returned
        actions                 [chunk, n] float32, sliced and un-normalised by LeRobot
        tap.network_image.<camera>    [3, S, S] float32, after LeRobot's resize, pad and *2 - 1
        tap.image_embedding.<camera>  [S*S/196, width], the projector's output, unscaled
        tap.state               [max_state_dim], normalised and padded
        tap.prefix_embedding    [P, width], what the prefix model is fed
        tap.prefix_mask         [P] bool
        tap.prefix_key, tap.prefix_value   [kv_heads, P, head_dim], layer 0, key after rotation
        tap.time                [num_steps], the time of each denoising step
        tap.velocity            [num_steps, chunk, max_action_dim], v_t of each denoising step
                                Cameras in taps include the masked ones, in the model's order.

A case of mode "preprocess" writes case.json and io.safetensors with, for each size,
image_u8.<H>x<W> [H, W, 3] and network_image.<H>x<W> [3, S, S].
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from reference.oracle_case import Case
from safetensors.torch import save_file
from torch import Tensor, nn


def generator(case: Case, stream: str, name: str = "") -> torch.Generator:
    """A random stream for each purpose (and parameter name), so that adding one moves no other."""
    # torch's CPU generator takes no more than 32 bits of a seed.
    return torch.Generator().manual_seed(zlib.crc32(f"{case.seed}/{stream}/{name}".encode()))


@torch.no_grad()
def fill_parameters(model: nn.Module, case: Case) -> None:
    """Replace every parameter by a random one that keeps activations near 1 and hides no term.

    The value depends on the parameter's name and the seed only, so that both LeRobot versions
    (whose modules have the same names under one transformers) get the same weights.
    """
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=generator(case, "weights", name))
        if "embed_tokens" in name or "lm_head" in name:
            value *= parameter.shape[1] ** -0.5  # pi0 multiplies text embeddings by sqrt(width)
        elif "position_embedding" in name:
            value *= 0.5
        elif ".dense." in name:  # pi0.5's adaptive norms: scale, shift and gate of about 1
            value *= 3 * parameter.shape[1] ** -0.5 if parameter.ndim > 1 else 0.5
        elif parameter.ndim > 1:
            value *= (parameter[0].numel()) ** -0.5
            if case.peaked and name.endswith(("q_proj.weight", "k_proj.weight")):
                value *= case.peak_gain**0.5
            if case.peaked and name.endswith((".o_proj.weight", ".out_proj.weight")):
                value *= 2 / case.peak_gain
        elif name.endswith(".bias"):
            value *= 0.1
        elif "layer_norm" in name or "post_layernorm" in name:  # LayerNorm: times weight
            value.mul_(0.2).add_(1.0)
        else:  # Gemma's RMSNorm: times 1 + weight
            value *= 0.3
        if case.bf16_weights:
            value = value.to(torch.bfloat16)
        parameter.copy_(value)


def statistics(case: Case) -> dict[str, dict[str, Tensor]]:
    """Random statistics as a LeRobot dataset has them, some of which pi0 ignores."""
    g = generator(case, "statistics")
    result = {}
    shapes = {"observation.state": (case.joints,), "action": (case.joints,), "timestamp": (1,)}
    shapes |= {f"observation.images.{c}": (3, 1, 1) for c in case.cameras}
    for key, shape in shapes.items():
        mean = 0.5 * torch.randn(shape, generator=g)
        std = 0.3 + 1.2 * torch.rand(shape, generator=g)
        q01 = mean - std * (1.5 + torch.rand(shape, generator=g))
        q99 = mean + std * (1.5 + torch.rand(shape, generator=g))
        result[key] = {
            "mean": mean,
            "std": std,
            "min": q01 - 0.1 - torch.rand(shape, generator=g),
            "max": q99 + 0.1 + torch.rand(shape, generator=g),
            "q01": q01,
            "q99": q99,
            "count": torch.tensor([1000.0]),
        }
    return result


def random_image(height: int, width: int, g: torch.Generator) -> Tensor:
    """[H, W, 3] uint8: smooth colours, edges and grain, all of which resizing can get wrong."""
    low = torch.rand(1, 3, 5, 7, generator=g)
    smooth = nn.functional.interpolate(low, (height, width), mode="bicubic", align_corners=False)
    blocks = torch.rand(1, 3, 12, 12, generator=g).round()
    edges = nn.functional.interpolate(blocks, (height, width), mode="nearest")
    grain = torch.rand(1, 3, height, width, generator=g)
    image = (0.5 * smooth + 0.25 * edges + 0.25 * grain).clamp(0, 1)[0]
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def as_float(image: Tensor) -> Tensor:
    """[H, W, 3] uint8 -> [1, 3, H, W] float32 in [0, 1], as LeRobot's robot loop does it."""
    return image.permute(2, 0, 1).contiguous().to(torch.float32).div(255)[None]


def observation(case: Case) -> dict[str, Tensor]:
    """The case's inputs under the names of io.safetensors."""
    g = generator(case, "images")
    images = {camera: random_image(*case.image_hw, g) for camera in case.cameras}
    stats = statistics(case)["observation.state"]
    unit = torch.randn(case.joints, generator=generator(case, "state"))
    state = stats["mean"] + stats["std"] * unit
    if case.state_on_edges:
        low, high = stats["q01"], stats["q99"]
        edges = torch.randint(-1, 259, (case.joints,), generator=generator(case, "edges"))
        edges[:4] = torch.tensor([0, 256, 1, 128])[: case.joints]
        state = low + (high - low) * edges / 256
        beside = torch.tensor([-1.0, 0.0, 1.0]).repeat(case.joints)[: case.joints]
        state = torch.where(beside == 0, state, torch.nextafter(state, beside * torch.inf))
    length = case.sizes.tokenizer_max_length
    tokens = torch.zeros(length, dtype=torch.int64)
    tokens[: len(case.tokens)] = torch.tensor(case.tokens)
    noise = torch.randn(
        1, case.sizes.chunk_size, case.sizes.max_action_dim, generator=generator(case, "noise")
    )
    result = {
        "state": state,
        "tokens": tokens,
        "token_mask": torch.arange(length) < len(case.tokens),
        "noise": noise,
    }
    for camera in case.present:
        result[f"image_u8.{camera}"] = images[camera]
        result[f"image.{camera}"] = as_float(images[camera])[0]
    return result


class FixedTokenizer:
    """Stands for google/paligemma-3b-pt-224: answers the case's tokens, remembers the questions."""

    name_or_path = "google/paligemma-3b-pt-224"

    def __init__(self, case: Case) -> None:
        self.tokens = case.tokens
        self.calls: list[dict[str, Any]] = []

    def __call__(self, text: Any, max_length: int, **options: Any) -> dict[str, Tensor]:
        self.calls.append({"text": text, "max_length": max_length, **options})
        ids = torch.zeros(1, max_length, dtype=torch.int64)
        ids[0, : len(self.tokens)] = torch.tensor(self.tokens)
        mask = torch.arange(max_length)[None] < len(self.tokens)
        return {"input_ids": ids, "attention_mask": mask.long()}


class Stopwatch:
    """Wall and processor seconds of a with-block, in `seconds`."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        wall, cpu = self._start
        self.seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


class Taps:
    """Listens to methods of LeRobot's model while it infers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[tuple, dict, Any]]] = {}

    def listen(self, owner: nn.Module, method: str) -> None:
        """Record (args, kwargs, result) of every call of owner.method, tensors copied."""
        inner = getattr(owner, method)
        calls = self.calls.setdefault(method, [])

        def outer(*args: Any, **kwargs: Any) -> Any:
            kept = [a.clone() if isinstance(a, Tensor) else a for a in args]
            result = inner(*args, **kwargs)
            copied = result.clone() if isinstance(result, Tensor) else result
            calls.append((tuple(kept), kwargs, copied))
            return result

        setattr(owner, method, outer)


def write(
    out: Path,
    case: Case,
    tensors: dict[str, Tensor],
    found: dict[str, Any],
) -> None:
    """Write io.safetensors and case.json (the case under "case", the rest of `found` beside it)."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.detach().contiguous().clone() for k, v in tensors.items()}, out / "io.safetensors"
    )
    record = {
        "case": case.to_json(),
        "fills_frame": case.fills_frame,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        **found,
    }
    (out / "case.json").write_text(json.dumps(record, indent=2) + "\n")


def preprocess_case(case: Case, out: Path, preprocess: Callable[[Tensor, int], Tensor]) -> None:
    """Run `preprocess` ([1, 3, H, W] in [0, 1], S -> [1, 3, S, S]) on random images."""
    tensors = {}
    for height, width in case.preprocess_hw:
        image = random_image(height, width, generator(case, "images", f"{height}x{width}"))
        tensors[f"image_u8.{height}x{width}"] = image
        tensors[f"network_image.{height}x{width}"] = preprocess(
            as_float(image), case.sizes.image_size
        )[0]
    write(out, case, tensors, {})


def main(
    version: str,
    infer: Callable[[Case, Path], None],
    preprocess: Callable[[Tensor, int], Tensor],
    argv: Iterable[str] | None = None,
) -> None:
    """`oracle_XXX.py CASES.json OUT`: run every case of the list into OUT/<name>."""
    parser = argparse.ArgumentParser(
        description=f"Run LeRobot {version}'s pi0 on made-up cases (see oracle_case.py) and write "
        "checkpoints, inputs and results (see oracle_common.py)."
    )
    parser.add_argument("cases", type=Path, help="JSON file: a list of cases")
    parser.add_argument("out", type=Path, help="folder for one folder per case")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases = [Case.from_json(data) for data in json.loads(args.cases.read_text())]
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        parser.error(f"case names are not unique: {names}")
    for index, case in enumerate(cases):
        start = time.perf_counter()
        out = args.out / case.name
        if case.mode == "preprocess":
            preprocess_case(case, out, preprocess)
        else:
            infer(case, out)
        seconds = time.perf_counter() - start
        print(f"[{index + 1}/{len(cases)}] {version} {case.name}: {seconds:.1f} s", file=sys.stderr)
