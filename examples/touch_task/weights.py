"""Weights before training, and trained ones as a checkpoint names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.weights import checkpoint_shapes, sources
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.pi0 import Pi0
from pi0_ros.policy.prompt import Tokenizer


def new_model(config: Pi0Config, joints: int, seed: int) -> Pi0:
    """A `Pi0` with random weights that keep the size of what they multiply.

    Dimensions of states and actions beyond the robot's joints are padding: their weights are zero
    and stay so, so that the noise which inference puts there has no effect.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Pi0(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Linear):
                scale = module.weight.shape[0] ** -0.5
                module.weight.normal_(0.0, scale, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        model.vision.position.normal_(0.0, 0.5, generator=generator)
        # Gemma multiplies by sqrt(width) what it looks up.
        model.embed_tokens.normal_(0.0, config.prefix_width**-0.5, generator=generator)
        for layer in (model.action_in,) if config.pi05 else (model.state_in, model.action_in):
            layer.weight *= (layer.weight.shape[0] / joints) ** 0.5
            layer.weight[joints:] = 0.0
        if config.pi05:
            # Norms begin nearly as if there was no time: scale and gate 1, shift 0.
            for norm in model.time_in.norms:
                norm.weight *= 0.1
                norm.bias[-config.expert_width :] = 1.0
        model.action_out.weight *= 0.1
        model.action_out.weight[:, joints:] = 0.0
    return model


@torch.no_grad()
def take_over(model: Pi0, checkpoint: Path, tokenizer: Path) -> None:
    """Copy a checkpoint's weights, so that training goes on where it ended.

    Args:
        model: of the checkpoint's sizes; words that the checkpoint does not know keep the
            embeddings that they have in it.
        checkpoint: directory, with the tokenizer that its embeddings belong to.
        tokenizer: directory of the one that `model` will be used with.

    Raises:
        CheckpointError: the checkpoint is broken.
        ValueError: it has other sizes.
    """
    read = read_checkpoint(checkpoint)
    if read.config != model.config:
        raise ValueError(f"{checkpoint} has other sizes than the model: {read.config}")
    trained = dict(read.load_model(torch.float32, torch.device("cpu")).named_parameters())
    embeddings = trained.pop("embed_tokens")
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.copy_(trained[name])
    old, new = (
        SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
        for directory in (checkpoint, tokenizer)
    )
    for row in range(new.get_piece_size()):
        piece = new.id_to_piece(row)
        known = old.piece_to_id(piece)
        if old.id_to_piece(known) == piece:
            model.embed_tokens[row] = embeddings[known]


def statistics_of(checkpoint: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of state and action, by name, [joints] float32: what a checkpoint's weights are used to.

    Raises:
        ValueError: the directory does not have the one normaliser that this example writes.
    """
    (file,) = checkpoint.glob("policy_preprocessor_step_*_normalizer_processor.safetensors")
    tensors = load_file(file)
    state, action = (
        {key.removeprefix(what): value for key, value in tensors.items() if key.startswith(what)}
        for what in ("observation.state.", "action.")
    )
    return state, action


@torch.no_grad()
def line_up_numbers(model: Pi0, tokenizer: Tokenizer, seed: int) -> None:
    """Embed the numbers of a prompt on a curve, so that near ones begin alike.

    A stand-in for what PaliGemma knows of numbers: to a model that begins with nothing they would
    be 256 unrelated words.
    """
    numbers = torch.arange(256)
    rows = [tokenizer(f"Task {number}")[-1] for number in numbers.tolist()]
    x = (numbers / 127.5 - 1.0)[:, None]
    angle = torch.pi * x * torch.tensor([0.5, 1.0, 2.0, 4.0])
    curve = torch.cat((x, angle.sin(), angle.cos()), dim=1)
    generator = torch.Generator().manual_seed(seed)
    width = model.config.prefix_width
    directions = torch.randn(curve.shape[1], width, generator=generator)
    model.embed_tokens[rows] = curve @ directions * (curve.shape[1] * width) ** -0.5 * 2**0.5


def checkpoint_tensors(model: Pi0) -> dict[str, Tensor]:
    """Canonical name -> tensor, the inverse of what `model.weights.sources` builds.

    Tensors that no action depends on are left out. The folded action projection comes apart as
    itself and an identity.
    """
    c = model.config
    shapes, out = checkpoint_shapes(c), {}
    for name, source in sources(c).items():
        folded = not c.pi05 and name.startswith(("action_in.", "time_in."))
        if folded:
            continue
        value = model.get_parameter(name).detach()
        if name.endswith("norm") and source.keep_float32:
            value = value - 1.0
        elif name.endswith(".weight") and value.dim() == 2:
            value = value.t()
        parts = value.split([shapes[key][0] for key in source.keys])
        for key, part in zip(source.keys, parts, strict=True):
            out[key] = part.reshape(shapes[key]).clone(memory_format=torch.contiguous_format)
    if c.pi05:
        return out
    width = c.expert_width
    out["action_in_proj.weight"] = model.action_in.weight.detach().t().contiguous()
    out["action_in_proj.bias"] = torch.zeros(width)
    time_weight = model.time_in.weight.detach().t()
    out["action_time_mlp_in.weight"] = torch.cat((torch.eye(width), time_weight), dim=1)
    out["action_time_mlp_in.bias"] = model.time_in.bias.detach().clone()
    return out
