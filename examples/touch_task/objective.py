"""What training minimises: the error of the flow, and how badly the prefix points.

The flow is pi0's (Black et al. 2024, section IV): x_t = t * noise + (1 - t) * actions, and the
model answers with d x / d t = noise - actions. Times lean towards noise, as openpi draws them.

So that inference may be told what is already sent (Black et al. 2025, "Training-Time Action
Conditioning for Efficient Real-Time Chunking"), the first actions of a chunk are given without
noise at flow time 0, as many as a random delay has steps, and have no share in the loss.

A model of this size finds out what words mean only slowly from the flow alone. So the prefix also
learns to point, from the prompt's last token: at the image's patch that shows the named object,
and with the joint positions to which the expert goes. That is a small stand-in for what PaliGemma
brings from its own training, answers with places in images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.pi0 import Context, Layout, Pi0

POINTED_JOINTS = 4
"""How many joints of the expert's goal the prefix points with: pan, lift, elbow, wrist."""


def goal_size(config: Pi0Config, joints: int) -> int:
    """Numbers in `Batch.goal`."""
    return POINTED_JOINTS + (joints if config.pi05 else 0)


class Batch(NamedTuple):
    """Everything normalised.

    Attributes:
        images: [batch, cameras, 3, image_size, image_size] float32 in [-1, 1].
        tokens: [batch, length] int64, padded with zeros.
        lengths: [batch] int64, tokens that are no padding.
        state: [batch, max_state_dim] float32, padded with zeros.
        delays: [batch] int64: how many of the actions are given.
        actions: [batch, horizon, joints] float32.
        goal: [batch, goal_size] float32: where the expert goes, NaN where its instruction leaves
            the choice; for pi0.5 then where the arm is, which it has to read in its prompt.
        patches: [batch, cameras] int64: which patch of each image shows the named object; -1: none.
    """

    images: Tensor
    tokens: Tensor
    lengths: Tensor
    state: Tensor
    delays: Tensor
    actions: Tensor
    goal: Tensor
    patches: Tensor


class Pointer(nn.Module):
    """Reads the prefix's output; thrown away after training."""

    def __init__(self, config: Pi0Config, joints: int, seed: int) -> None:
        super().__init__()
        width = config.prefix_width
        self.patches = config.tokens_per_image
        self.goal = Linear(width, goal_size(config, joints), bias=True)
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.goal, self.query, self.key):
                layer.weight.normal_(0.0, width**-0.5, generator=generator)
            self.goal.bias.zero_()

    def losses(self, prefix: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(error of the goal, cross entropy of the patches), both scalars.

        Args:
            prefix: [batch, tokens, prefix_width], images first.
        """
        cameras = batch.patches.shape[1]
        rows = torch.arange(len(prefix))
        last = prefix[rows, cameras * self.patches + batch.lengths - 1]
        goal = (self.goal(last) - batch.goal)[~batch.goal.isnan()].square().mean()
        keys = self.key(prefix[:, : cameras * self.patches]).unflatten(1, (cameras, -1))
        scores = torch.einsum("bw,bcpw->bcp", self.query(last), keys) * last.shape[1] ** -0.5
        patches = F.cross_entropy(scores.flatten(0, 1), batch.patches.flatten(), ignore_index=-1)
        return goal, patches


def layout_of(model: Pi0, batch: Batch) -> Layout:
    """Nothing is masked where all prompts of a batch have the same length."""
    image_tokens = batch.images.shape[1] * model.config.tokens_per_image
    tokens = torch.arange(image_tokens + batch.tokens.shape[1])
    valid = tokens < image_tokens + batch.lengths[:, None]
    return model.layout(valid[:1] if valid.all() else valid)


def repeated(layout: Layout, times: int) -> Layout:
    """The layout of a batch in which each row stands so many times."""
    if layout.prefix_mask is None:
        return layout
    rope = tuple(t.repeat_interleave(times, 0) for t in layout.suffix_rope)
    return layout._replace(
        suffix_rope=rope, suffix_mask=layout.suffix_mask.repeat_interleave(times, 0)
    )


def pointing_losses(model: Pi0, pointer: Pointer, batch: Batch) -> tuple[Tensor, Tensor]:
    """The prefix alone, half the cost of `losses`: see `Pointer.losses`."""
    layout = layout_of(model, batch)
    cameras = batch.images.shape[:2]
    images = model.vision(batch.images.flatten(0, 1)).unflatten(0, cameras).flatten(1, 2)
    h = torch.cat((images, model.embed_prompt(batch.tokens)), dim=1)
    x, _ = model.prefix(h, layout.prefix_rope, layout.prefix_mask)
    return pointer.losses(x, batch)


def losses(
    model: Pi0,
    pointer: Pointer,
    batch: Batch,
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """(flow loss, error of the goal, cross entropy of the patches), all scalars.

    Args:
        draws: pairs of noise and time per observation: the context is computed once for all.
        generator: of noise and times.
    """
    layout = layout_of(model, batch)
    seen: list[Tensor] = []
    hook = model.prefix.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    try:
        prompt = model.embed_prompt(batch.tokens)
        context = model.context(batch.images, prompt, batch.state, layout)
    finally:
        hook.remove()
    goal, patches = pointer.losses(seen[0], batch)

    state = context.state
    context = Context(
        None if state is None else state.repeat_interleave(draws, 0),
        [tuple(t.repeat_interleave(draws, 0) for t in kv) for kv in context.past],
    )
    actions = batch.actions.repeat_interleave(draws, 0)
    count, horizon, joints = actions.shape
    # Beta(1.5, 1) by inverting its distribution function t^1.5.
    times = torch.rand(count, generator=generator).pow(1 / 1.5) * 0.999 + 0.001
    noise = torch.randn(actions.shape, generator=generator)
    delays = batch.delays.repeat_interleave(draws)
    fixed = (torch.arange(horizon) < delays[:, None])[..., None]
    t = torch.where(fixed, 0.0, times[:, None, None])
    padded = F.pad(t * noise + (1 - t) * actions, (0, model.config.max_action_dim - joints))
    time = torch.where(fixed, model.time_rows(np.zeros(1)), model.time_rows(times.numpy())[:, None])
    velocity = model.velocity(padded, time, context, repeated(layout, draws))
    error = (velocity[..., :joints] - (noise - actions)).square().mean(dim=2, keepdim=True)
    return error[~fixed].mean(), goal, patches
