"""pi0: pictures, prompt and state to a chunk of actions by flow matching.

Written for a whole-graph compiler: shapes are static, noise is an argument, no argument is changed,
and everything that does not depend on the observation is a constant. Three parts of the published
computation are rearranged without changing its result:

* Of the last prefix layer only keys and values exist; nothing reads the rest of it.
* The state token attends to the prefix and itself only and does not depend on the flow time, so
  its keys and values are computed once and join the context; the denoise steps run on action
  tokens.
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
from pi0_ros.model.gemma import Gemma, Rotary, join
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import onednn as cpu
from pi0_ros.model.ops import reference as ops
from pi0_ros.model.ops.reference import KeysValues, rotary, rotary_table
from pi0_ros.model.siglip import VisionTower


def flow_times(num_steps: int, accumulated: bool = False) -> np.ndarray:
    """[num_steps] float32 times of the denoise steps, from 1 (noise) towards 0.

    Args:
        accumulated: subtract 1 / num_steps again and again in float32, as openpi and LeRobot 0.3
            do, instead of taking 1 - i / num_steps, as LeRobot 0.4 does. The sinusoids of the time
            turn the last bits of it into 1e-4 of an action, and more where attention is sharp.
    """
    if not accumulated:
        return (1.0 - np.arange(num_steps) / num_steps).astype(np.float32)
    steps = np.full(num_steps - 1, -1.0 / num_steps, np.float32)
    return np.cumsum(np.concatenate((np.ones(1, np.float32), steps)), dtype=np.float32)


class Layout(NamedTuple):
    """What follows from which prefix tokens are valid: made once per instruction, not per frame.

    Positions count valid tokens only. Masks are True where a key is masked out, and None where
    every prefix token is valid. Shapes: see `ops.rotary` and `ops.attention`.
    """

    prefix_turn: Rotary
    state_turn: Rotary
    action_turn: Rotary
    prefix_masked: Tensor | None
    state_masked: Tensor | None
    action_masked: Tensor | None


class Pi0(nn.Module):
    """The model. All tensors of one call share a batch size and the model's device."""

    def __init__(self, config: Pi0Config) -> None:
        super().__init__()
        c = self.config = config
        self.is_prepared = False  # for a CPU, see `cpu.prepare`
        self.vision = VisionTower(c)
        # Prompts are embedded once per instruction: the table may stay in host memory, and in the
        # checkpoint's dtype.
        self.embed_tokens = nn.Parameter(torch.empty(c.vocab_size, c.prefix_width))
        self.prefix = Gemma(c, c.prefix_width, c.prefix_mlp, c.depth - 1)
        self.prefix_last_kv = Linear(c.prefix_width, 2 * c.kv_heads * c.head_dim)
        self.state_in = Linear(c.max_state_dim, c.expert_width, bias=True)
        self.action_in = Linear(c.max_action_dim, c.expert_width)
        self.time_in = Linear(c.expert_width, c.expert_width, bias=True)
        self.action_time = Linear(c.expert_width, c.expert_width, bias=True)
        self.expert = Gemma(c, c.expert_width, c.expert_mlp, c.depth)
        self.action_out = Linear(c.expert_width, c.max_action_dim, bias=True)

    # ---- constants and per-instruction inputs -------------------------------------------------

    def embed_prompt(self, tokens: Tensor) -> Tensor:
        """[batch, length] int64 on the table's device -> [batch, length, prefix_width].

        Gemma scales text embeddings by sqrt(width). The result has the model's dtype and device.
        """
        rows = F.embedding(tokens, self.embed_tokens)
        rows = rows.to(self.prefix_last_kv.weight.dtype) * math.sqrt(self.config.prefix_width)
        return rows.to(self.prefix_last_kv.weight.device)

    def layout(self, valid: Tensor, *, always_masked: bool = False) -> Layout:
        """Positions and masks for a prefix.

        Args:
            valid: bool [1 or batch, prefix tokens], True for tokens that exist: the image tokens of
                the cameras in order, then the prompt. At least one token per row must be valid.
            always_masked: make masks even where every token is valid, for graphs that take them.
        """
        c = self.config
        if valid.dtype != torch.bool or valid.dim() != 2:
            raise ValueError(
                f"layout: valid must be bool [batch, tokens], got {valid.dtype} {list(valid.shape)}"
            )
        batch, prefix = valid.shape
        counts = valid.sum(dim=1, keepdim=True)
        prefix_positions = (valid.cumsum(dim=1) - 1).clamp(min=0)
        steps = torch.arange(c.horizon + 1, device=valid.device)
        suffix_positions = counts + steps
        table = rotary_table(prefix + c.horizon + 1, c.head_dim, valid.device)

        def turn(positions: Tensor) -> Rotary:
            cos, sin = table[:, positions].unsqueeze(3)
            if self.is_prepared:
                return cpu.turn(cos, sin)
            if not ops.on_npu(cos):
                return cos, sin
            # A row per head lets the kernel turn a fused projection at once, before it is split.
            dtype, turned = self.prefix_last_kv.weight.dtype, c.heads + c.kv_heads
            rows = (cos.expand(-1, -1, turned, -1), sin.expand(-1, -1, turned, -1))
            kept = cos[:, :, :1].expand(-1, -1, c.kv_heads, -1)
            cos = torch.cat((rows[0], torch.ones_like(kept)), dim=2)
            sin = torch.cat((rows[1], torch.zeros_like(kept)), dim=2)
            return cos.to(dtype), sin.to(dtype)

        masks: list[Tensor | None] = [None, None, None]
        if always_masked or not bool(valid.all()):
            keys = F.pad(~valid, (0, c.horizon + 1), value=False)[:, None, None]
            masks = [
                keys[..., :prefix].expand(batch, 1, prefix, prefix).contiguous(),
                keys[..., : prefix + 1].contiguous(),
                keys.expand(batch, 1, c.horizon, prefix + 1 + c.horizon).contiguous(),
            ]
        return Layout(
            turn(prefix_positions),
            turn(suffix_positions[:, :1]),
            turn(suffix_positions[:, 1:]),
            *masks,
        )

    def time_bias(self, times: np.ndarray) -> Tensor:
        """Share of the flow time in the first layer of the action-time MLP.

        Args:
            times: [n] flow times, 1 = noise, 0 = actions.

        Returns:
            [n, 1, expert_width] in the model's dtype.
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
        return (embedding @ weight.float() + bias.float()).to(weight.dtype)[:, None]

    def time_table(self, accumulated: bool = False) -> Tensor:
        """[num_steps, 1, 1, expert_width]: `time_bias` at `flow_times`."""
        return self.time_bias(flow_times(self.config.num_steps, accumulated))[:, None]

    # ---- the computation ----------------------------------------------------------------------

    def context(
        self, images: Tensor, prompt: Tensor, state: Tensor, layout: Layout
    ) -> list[KeysValues]:
        """Everything that the denoise steps attend to.

        Args:
            images: [batch, cameras, 3, image_size, image_size] in [-1, 1], any float dtype.
            prompt: [batch, length, prefix_width], from `embed_prompt`.
            state: [batch, max_state_dim] normalised and padded with zeros.

        Returns:
            Per layer, keys and values of prefix and state [batch, prefix + 1, kv_heads, head_dim];
            of a prepared model both as one, [batch, prefix + 1, 2, kv_heads, head_dim].
        """
        pictures = self.vision(images.flatten(0, 1)).unflatten(0, images.shape[:2]).flatten(1, 2)
        h = torch.cat((pictures, prompt), dim=1)
        x, prefix = self.prefix(h, layout.prefix_turn, layout.prefix_masked)
        prefix.append(self._last_keys_values(x, layout.prefix_turn))

        token = self.state_in(state.to(self.state_in.weight.dtype))[:, None]
        depth, turn = self.config.depth - 1, layout.state_turn
        x, joined = self.expert(token, turn, layout.state_masked, prefix, depth, joined=True)
        _, own = self.expert.layers[-1].project(x, turn)
        return [*joined, join(prefix[-1], own)]

    def _last_keys_values(self, x: Tensor, turn: Rotary) -> KeysValues:
        c = self.config
        y = self.prefix_last_kv(x)
        if self.is_prepared:
            y = cpu.turned(y.unflatten(-1, (-1, c.head_dim)), turn[0], c.kv_heads)
            return (y.to(x.dtype).unflatten(2, (2, -1)),)
        k, v = y.unflatten(-1, (2, -1, c.head_dim)).unbind(2)
        return rotary(k, *(table[:, :, :1] for table in turn)), v

    def velocity(
        self, actions: Tensor, time_bias: Tensor, context: list[KeysValues], layout: Layout
    ) -> Tensor:
        """The flow field at noisy actions: d actions / d t, pointing from actions to noise.

        Args:
            actions: [batch, horizon, max_action_dim] float32.
            time_bias: [1 or batch, 1, expert_width], from `time_bias`.

        Returns:
            [batch, horizon, max_action_dim] float32.
        """
        h = self.action_in(actions.to(self.action_in.weight.dtype), time_bias)
        h = self.action_time(F.silu(h))
        x, _ = self.expert(h, layout.action_turn, layout.action_masked, context)
        return self.action_out(x).float()

    def denoise_step(
        self, actions: Tensor, time_bias: Tensor, context: list[KeysValues], layout: Layout
    ) -> Tensor:
        """One Euler step of the flow from t to t - 1 / num_steps; see `velocity`."""
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
