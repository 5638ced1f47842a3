"""pi0 and pi0.5: images, prompt and state to a chunk of actions by flow matching.

Written for a whole-graph compiler: shapes are static, noise is an argument, no argument is changed,
and everything that does not depend on the observation is a constant. The state token of pi0 runs
with the actions in every denoise step, as published. Parts of the published computation are
rearranged without changing its result:

* Of the last prefix layer only keys and values exist; nothing reads the rest of it.
* The state's projection does not depend on the flow time and is computed once.
* The projection of actions and the first layer of the action-time MLP are one product, and the
  time's share of it is a table with one row per denoise step.
* pi0.5 has neither state token nor action-time MLP: the flow time scales, shifts and gates at each
  norm of its action expert. That is such a table, too, with the shifts as biases of the products
  that read the norms.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.flow_time import TimeModulation, flow_times, sinusoids
from pi0_ros.model.gemma import Gemma, Norm
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import KeysValues, Ops, Rope
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.rtc import Guided, Trained
from pi0_ros.model.siglip import VisionTower


class Layout(NamedTuple):
    """What follows from which prefix tokens are valid.

    Positions count valid tokens only. The suffix is the state token, which pi0.5 does not have,
    and the actions.

    Attributes:
        prefix_rope, suffix_rope: from `Ops.rope_tables`.
        prefix_mask, suffix_mask: from `Ops.attention_mask`; None where nothing is masked out.
    """

    prefix_rope: Rope
    suffix_rope: Rope
    prefix_mask: Tensor | None
    suffix_mask: Tensor | None


class Context(NamedTuple):
    """What the denoise steps start from, constant over them.

    Attributes:
        state: the state token [batch, 1, expert_width]; None in pi0.5.
        past: per layer, keys and values of the prefix.
    """

    state: Tensor | None
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
        # pi0's prompts are embedded once per instruction: its table may stay in host memory, and in
        # the checkpoint's dtype.
        self.embed_tokens = nn.Parameter(torch.empty(c.vocab_size, c.prefix_width))
        self.prefix = Gemma(c, self.ops, c.prefix_width, c.prefix_mlp, c.depth - 1)
        self.prefix_last_kv = Linear(c.prefix_width, 2 * c.kv_heads * c.head_dim)
        # Only `time_rows` reads it.
        self.time_in: nn.Module
        if c.pi05:
            self.action_in = Linear(c.max_action_dim, c.expert_width, bias=True)
            self.time_in = TimeModulation(c)
        else:
            self.state_in = Linear(c.max_state_dim, c.expert_width, bias=True)
            self.action_in = Linear(c.max_action_dim, c.expert_width)
            self.time_in = Linear(c.expert_width, c.expert_width, bias=True)
            self.action_time = Linear(c.expert_width, c.expert_width, bias=True)
        self.expert = Gemma(c, self.ops, c.expert_width, c.expert_mlp, c.depth, adaptive=c.pi05)
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
        positions = (valid.cumsum(dim=1) - 1).clamp(min=0)
        return self._layout(
            ~valid,
            valid.sum(dim=1, keepdim=True),
            ops.rope_tables(positions, c, self.dtype),
            masked=always_masked or not bool(valid.all()),
        )

    def padded_layout(self, count: Tensor, tokens: int, prefix_rope: Rope) -> Layout:
        """`layout` where the first tokens are valid and the others padding, made inside of a graph.

        Args:
            count: int32 [batch], how many of the prefix's tokens are valid.
            tokens: of the prefix, padding included.
            prefix_rope: of the positions 0 to tokens - 1; those of the padding do not matter.
        """
        numbers = torch.arange(tokens, dtype=count.dtype, device=count.device)
        return self._layout(numbers >= count[:, None], count[:, None], prefix_rope, masked=True)

    def _layout(self, padding: Tensor, count: Tensor, prefix_rope: Rope, masked: bool) -> Layout:
        """See `Layout`.

        Args:
            padding: bool [batch, prefix tokens].
            count: [batch, 1], how many tokens are none.
            masked: whether the padding has to be masked out.
        """
        c, ops = self.config, self.ops
        batch, prefix = padding.shape
        suffix = c.horizon if c.pi05 else 1 + c.horizon
        steps = torch.arange(suffix, dtype=count.dtype, device=count.device)

        def mask(queries: int, own: Tensor) -> Tensor:
            """Padding for all queries, and then what is masked out of their own keys."""
            rows = padding[:, None, None].expand(batch, 1, queries, prefix)
            rows = torch.cat((rows, own.expand(batch, 1, -1, -1)), dim=3)
            return ops.attention_mask(rows, c.heads // c.kv_heads, self.dtype)

        prefix_mask = mask(prefix, padding.new_empty(prefix, 0)) if masked else None
        if c.pi05:
            suffix_mask = mask(suffix, padding.new_zeros(suffix, suffix)) if masked else None
        else:
            # The state token does not attend to the actions.
            suffix_mask = mask(suffix, (steps[:, None] == 0) & (steps > 0))
        suffix_rope = ops.rope_tables(count + steps, c, self.dtype)
        return Layout(prefix_rope, suffix_rope, prefix_mask, suffix_mask)

    def time_rows(self, times: np.ndarray) -> Tensor:
        """All that the denoise steps need of the flow time.

        Args:
            times: [n] flow times, 1 = noise, 0 = actions.

        Returns:
            In the model's dtype. pi0: [n, expert_width], the time's share in the first layer of the
            action-time MLP. pi0.5: [n, ...], gain, bias and gate of each norm of the action
            expert, one after the other; see `gemma.Norm`.
        """
        embedding = sinusoids(times, self.config).to(self.device)
        if not self.config.pi05:
            weight, bias = self.time_in.weight, self.time_in.bias
            return (embedding @ weight.float() + bias.float()).to(weight.dtype)
        parts = []
        for linear, norm in zip(self._readers(), self.time_in(embedding).unbind(1), strict=True):
            scale, shift, gate = norm.unbind(1)
            bias = self.ops.linear(shift.to(self.dtype), linear)
            parts += [self.ops.gain(1.0 + scale), bias, gate]
        return torch.cat([part.to(self.dtype) for part in parts], dim=1)

    def _readers(self) -> list[nn.Module]:
        """The products that read the action expert's norms, in their order."""
        layers = self.expert.layers
        return [
            *(linear for layer in layers for linear in (layer.qkv, layer.gate_up)),
            self.action_out,
        ]

    def _norms(self, row: Tensor) -> list[Norm]:
        """What `time_rows` put together."""
        c = self.config
        qkv = (c.heads + 2 * c.kv_heads) * c.head_dim
        outputs = [*(qkv, 2 * c.expert_mlp) * c.depth, c.max_action_dim]
        sizes = [size for out in outputs for size in (c.expert_width, out, c.expert_width)]
        # As one operator: a graph has no view of a part of a tensor.
        parts = row.split(sizes, dim=-1)
        return [Norm(*parts[i : i + 3]) for i in range(0, len(parts), 3)]

    def time_table(self, accumulated: bool = False) -> Tensor:
        """[num_steps, ...]: `time_rows` at `flow_times`."""
        return self.time_rows(flow_times(self.config.num_steps, accumulated))

    # ---- the computation ----------------------------------------------------------------------

    def context(self, images: Tensor, prompt: Tensor, state: Tensor, layout: Layout) -> Context:
        """Everything that the denoise steps start from.

        Args:
            images: [batch, cameras, 3, image_size, image_size] in [-1, 1], any float dtype.
            prompt: [batch, length, prefix_width], from `embed_prompt`.
            state: [batch, max_state_dim] normalised and padded with zeros; pi0.5 does not read it.
        """
        embedded = self.vision(images.flatten(0, 1)).unflatten(0, images.shape[:2]).flatten(1, 2)
        h = torch.cat((embedded, prompt), dim=1)
        x, past = self.prefix(h, layout.prefix_rope, layout.prefix_mask)
        _, last = self.ops.qkv(x, self.prefix_last_kv, 0, self.config.kv_heads, layout.prefix_rope)
        token = None if self.config.pi05 else self.state_in(state.to(self.dtype))[:, None]
        return Context(token, [*past, last])

    def velocity(self, actions: Tensor, time: Tensor, context: Context, layout: Layout) -> Tensor:
        """The flow field at noisy actions: d actions / d t, pointing from actions to noise.

        Args:
            actions: [batch, horizon, max_action_dim] float32.
            time: a row of `time_rows`; or [batch, 1, ...], where rows of the batch differ in time;
                or [1 or batch, horizon, ...], where actions do (`rtc.Trained.time`).

        Returns:
            [batch, horizon, max_action_dim] in the model's dtype.
        """
        rope, mask, past = layout.suffix_rope, layout.suffix_mask, context.past
        actions = actions.to(self.dtype)
        if self.config.pi05:
            norms = self._norms(time)
            x, _ = self.expert(self.action_in(actions), rope, mask, past, norms)
            return self.action_out(x, norms[-1].bias)
        h = self.action_time(F.silu(self.action_in(actions, time)))
        x, _ = self.expert(torch.cat((context.state, h), dim=1), rope, mask, past)
        return self.action_out(x[:, 1:])

    def denoise_step(
        self,
        actions: Tensor,
        time: Tensor,
        context: Context,
        layout: Layout,
        rtc: Guided | Trained | None = None,
    ) -> Tensor:
        """One Euler step, in float32, of the flow from t to t - 1 / num_steps; see `velocity`.

        Args:
            time: a row of `time_rows`.
            rtc: earlier actions to agree with. Those of `Trained` are in `actions` already; its
                result has them again.
        """
        if isinstance(rtc, Trained):
            time = rtc.time(time)
        velocity = self.velocity(actions, time, context, layout)
        if isinstance(rtc, Guided):
            pulled = torch.addcmul(actions, rtc.target - actions, rtc.gain)
            return torch.addcmul(pulled, velocity.float(), rtc.rate, value=-1.0)
        actions = torch.add(actions, velocity, alpha=-1.0 / self.config.num_steps)
        return actions if rtc is None else rtc.restore(actions)

    def denoise(
        self,
        noise: Tensor,
        time_table: Tensor,
        context: Context,
        layout: Layout,
        rtc: Guided | Trained | None = None,
    ) -> Tensor:
        """All denoise steps; arguments and result as those of `forward`."""
        actions = rtc.restore(noise) if isinstance(rtc, Trained) else noise
        steps = rtc.steps() if isinstance(rtc, Guided) else [rtc] * len(time_table)
        for time, step in zip(time_table.unbind(), steps, strict=True):
            actions = self.denoise_step(actions, time, context, layout, step)
        return actions

    def forward(
        self,
        images: Tensor,
        prompt: Tensor,
        state: Tensor,
        noise: Tensor,
        layout: Layout,
        time_table: Tensor,
        rtc: Guided | Trained | None = None,
    ) -> Tensor:
        """A whole inference: `context`, then `num_steps` times `denoise_step`.

        Args:
            noise: [batch, horizon, max_action_dim] float32, standard normal.
            time_table: from `time_table`.
            rtc: earlier actions to agree with (real-time chunking).

        Returns:
            Normalised actions [batch, horizon, max_action_dim] float32.
        """
        context = self.context(images, prompt, state, layout)
        return self.denoise(noise, time_table, context, layout, rtc)
