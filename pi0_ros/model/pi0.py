"""pi0: images, prompt and state to a chunk of actions by flow matching.

Written for a whole-graph compiler: shapes are static, noise is an argument, no argument is changed,
and everything that does not depend on the observation is a constant. The state token runs with the
actions in every denoise step, as published. Three parts of the published computation are rearranged
without changing its result:

* Of the last prefix layer only keys and values exist; nothing reads the rest of it.
* The state's projection does not depend on the flow time and is computed once.
* The projection of actions and the first layer of the action-time MLP are one product, and the
  time's share of it is a table with one row per denoise step.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.gemma import Gemma
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import KeysValues, Ops, Rope
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.siglip import VisionTower


def flow_times(num_steps: int, accumulated: bool = False) -> np.ndarray:
    """[num_steps] float32 times of the denoise steps, from 1 (noise) towards 0.

    Args:
        accumulated: subtract 1 / num_steps again and again in float32, as openpi and LeRobot 0.3
            do, instead of taking 1 - i / num_steps, as LeRobot 0.4 does. The last bits of a time
            change an action by 1e-4, by way of the sinusoids, and more where attention is sharp.
    """
    if not accumulated:
        return (1.0 - np.arange(num_steps) / num_steps).astype(np.float32)
    steps = np.full(num_steps - 1, -1.0 / num_steps, np.float32)
    return np.cumsum(np.concatenate((np.ones(1, np.float32), steps)), dtype=np.float32)


class Layout(NamedTuple):
    """What follows from which prefix tokens are valid: made once per instruction, not per frame.

    Positions count valid tokens only. The suffix is the state token and the actions.

    Attributes:
        prefix_rope, suffix_rope: from `Ops.rope_tables`.
        prefix_mask, suffix_mask: from `Ops.attention_mask`; the prefix has none where all of its
            tokens are valid.
    """

    prefix_rope: Rope
    suffix_rope: Rope
    prefix_mask: Tensor | None
    suffix_mask: Tensor


class Context(NamedTuple):
    """What the denoise steps start from, constant over them.

    Attributes:
        state: the state token [batch, 1, expert_width].
        past: per layer, keys and values of the prefix.
    """

    state: Tensor
    past: list[KeysValues]


class Pi0(nn.Module):
    """The model. All tensors of one call share a batch size and the model's device."""

    def __init__(self, config: Pi0Config, ops: Ops | None = None) -> None:
        """
        Args:
            ops: what the layers compute with (default: `Reference`, the one to train with); see
                `ops.select`. Once weights are loaded, `ops.prepare` has to be called.
        """
        super().__init__()
        c = self.config = config
        self.ops: Ops = Reference() if ops is None else ops
        self.vision = VisionTower(c, self.ops)
        # Prompts are embedded once per instruction: the table may stay in host memory, and in the
        # checkpoint's dtype.
        self.embed_tokens = nn.Parameter(torch.empty(c.vocab_size, c.prefix_width))
        self.prefix = Gemma(c, self.ops, c.prefix_width, c.prefix_mlp, c.depth - 1)
        self.prefix_last_kv = Linear(c.prefix_width, 2 * c.kv_heads * c.head_dim)
        self.state_in = Linear(c.max_state_dim, c.expert_width, bias=True)
        self.action_in = Linear(c.max_action_dim, c.expert_width)
        self.time_in = Linear(c.expert_width, c.expert_width, bias=True)
        self.action_time = Linear(c.expert_width, c.expert_width, bias=True)
        self.expert = Gemma(c, self.ops, c.expert_width, c.expert_mlp, c.depth)
        self.action_out = Linear(c.expert_width, c.max_action_dim, bias=True)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.vision.position.dtype

    @property
    def device(self) -> torch.device:
        return self.vision.position.device

    # ---- constants and per-instruction inputs -------------------------------------------------

    def embed_prompt(self, tokens: Tensor) -> Tensor:
        """[batch, length] int64 on the table's device -> [batch, length, prefix_width].

        Gemma scales text embeddings by sqrt(width). The result has the model's dtype and device.
        """
        rows = F.embedding(tokens, self.embed_tokens).to(self.dtype)
        return (rows * math.sqrt(self.config.prefix_width)).to(self.device)

    def layout(self, valid: Tensor, *, always_masked: bool = False) -> Layout:
        """Positions and masks for a prefix.

        Args:
            valid: bool [1 or batch, prefix tokens], True for tokens that exist: the image tokens of
                the cameras in order, then the prompt. At least one token per row must be valid.
            always_masked: make a prefix mask even where every token is valid, for graphs that take
                one.
        """
        c, ops = self.config, self.ops
        if valid.dtype != torch.bool or valid.dim() != 2:
            raise ValueError(
                f"layout: valid must be bool [batch, tokens], got {valid.dtype} {list(valid.shape)}"
            )
        batch, prefix = valid.shape
        suffix = 1 + c.horizon
        prefix_positions = (valid.cumsum(dim=1) - 1).clamp(min=0)
        steps = torch.arange(suffix, device=valid.device)
        suffix_positions = valid.sum(dim=1, keepdim=True) + steps

        def mask(queries: int, own: Tensor) -> Tensor:
            """Padding for all queries, and then what is masked out of their own keys."""
            padding = ~valid[:, None, None].expand(batch, 1, queries, prefix)
            masked = torch.cat((padding, own.expand(batch, 1, -1, -1)), dim=3)
            return ops.attention_mask(masked, c.heads // c.kv_heads, self.dtype)

        prefix_mask = None
        if always_masked or not bool(valid.all()):
            prefix_mask = mask(prefix, valid.new_empty(prefix, 0))
        # The state token does not attend to the actions.
        actions = (steps[:, None] == 0) & (steps > 0)
        return Layout(
            ops.rope_tables(prefix_positions, c, self.dtype),
            ops.rope_tables(suffix_positions, c, self.dtype),
            prefix_mask,
            mask(suffix, actions),
        )

    def time_bias(self, times: np.ndarray) -> Tensor:
        """Share of the flow time in the first layer of the action-time MLP.

        Args:
            times: [n] flow times, 1 = noise, 0 = actions.

        Returns:
            [n, expert_width] in the model's dtype.
        """
        c = self.config
        # Angles reach 1570 rad, where float32 is off by 1e-4 rad: they are taken in double on the
        # host, which no graph sees.
        fraction = np.linspace(0.0, 1.0, c.expert_width // 2)
        period = c.min_period * (c.max_period / c.min_period) ** fraction
        angle = 2.0 * np.pi * np.asarray(times, dtype=np.float64)[:, None] / period
        sinusoid = np.concatenate((np.sin(angle), np.cos(angle)), axis=1).astype(np.float32)
        weight, bias = self.time_in.weight, self.time_in.bias
        embedding = torch.from_numpy(sinusoid).to(weight.device)
        return (embedding @ weight.float() + bias.float()).to(weight.dtype)

    def time_table(self, accumulated: bool = False) -> Tensor:
        """[num_steps, expert_width]: `time_bias` at `flow_times`."""
        return self.time_bias(flow_times(self.config.num_steps, accumulated))

    # ---- the computation ----------------------------------------------------------------------

    def context(self, images: Tensor, prompt: Tensor, state: Tensor, layout: Layout) -> Context:
        """Everything that the denoise steps start from.

        Args:
            images: [batch, cameras, 3, image_size, image_size] in [-1, 1], any float dtype.
            prompt: [batch, length, prefix_width], from `embed_prompt`.
            state: [batch, max_state_dim] normalised and padded with zeros.
        """
        embedded = self.vision(images.flatten(0, 1)).unflatten(0, images.shape[:2]).flatten(1, 2)
        h = torch.cat((embedded, prompt), dim=1)
        x, past = self.prefix(h, layout.prefix_rope, layout.prefix_mask)
        _, last = self.ops.qkv(x, self.prefix_last_kv, 0, self.config.kv_heads, layout.prefix_rope)
        return Context(self.state_in(state.to(self.dtype))[:, None], [*past, last])

    def velocity(
        self, actions: Tensor, time_bias: Tensor, context: Context, layout: Layout
    ) -> Tensor:
        """The flow field at noisy actions: d actions / d t, pointing from actions to noise.

        Args:
            actions: [batch, horizon, max_action_dim] float32.
            time_bias: a row of `time_table`; or [batch, 1, expert_width], from `time_bias`.

        Returns:
            [batch, horizon, max_action_dim] in the model's dtype.
        """
        h = self.action_in(actions.to(self.dtype), time_bias)
        h = torch.cat((context.state, self.action_time(F.silu(h))), dim=1)
        x, _ = self.expert(h, layout.suffix_rope, layout.suffix_mask, context.past)
        return self.action_out(x[:, 1:])

    def denoise_step(
        self, actions: Tensor, time_bias: Tensor, context: Context, layout: Layout
    ) -> Tensor:
        """One Euler step, in float32, of the flow from t to t - 1 / num_steps; see `velocity`."""
        velocity = self.velocity(actions, time_bias, context, layout)
        return torch.add(actions, velocity, alpha=-1.0 / self.config.num_steps)

    def forward(
        self,
        images: Tensor,
        prompt: Tensor,
        state: Tensor,
        noise: Tensor,
        layout: Layout,
        time_table: Tensor,
    ) -> Tensor:
        """A whole inference: `context`, then `num_steps` times `denoise_step`.

        Args:
            noise: [batch, horizon, max_action_dim] float32, standard normal.
            time_table: from `time_table`.

        Returns:
            Normalised actions [batch, horizon, max_action_dim] float32.
        """
        context = self.context(images, prompt, state, layout)
        actions = noise
        for time_bias in time_table.unbind():
            actions = self.denoise_step(actions, time_bias, context, layout)
        return actions
