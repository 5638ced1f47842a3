"""Give the stock transformers 4.53 the Gemma behaviour that LeRobot 0.4.4's pi0 requires.

LeRobot 0.4 was written against a branch of transformers whose Gemma differs from the released one:

- RMSNorm.forward returns (normalised, gate) and takes a condition; for pi0 both extras are None,
  and the arithmetic is that of the released GemmaRMSNorm (float32 inside, times 1 + weight).
- GemmaModel.forward does not multiply its input by sqrt(hidden size), casts it to bfloat16 where
  the weights are, and with use_cache=False reads a given K/V cache without growing it.
- PaliGemma's image features are not divided by sqrt(hidden size).
- SigLIP's embeddings are computed in float32 and cast to bfloat16 where the encoder's weights are.
- transformers.models.siglip.check exists, by which LeRobot recognises that branch.

Import this before lerobot. pi05's adaptive norms are left out: they raise.
"""

from __future__ import annotations

import sys
import types

import torch
import transformers.models.siglip as siglip_package
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.gemma import modeling_gemma
from transformers.models.paligemma import modeling_paligemma
from transformers.models.siglip import modeling_siglip


class RMSNorm(modeling_gemma.GemmaRMSNorm):
    """The released norm, returning (normalised, gate=None)."""

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, None]:
        if cond is not None:
            raise NotImplementedError("adaptive norms belong to pi05, which nothing here runs")
        return super().forward(x), None


def _gated_residual(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    return x + y if gate is None else x + y * gate


def _gemma_forward(
    self: nn.Module,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    position_ids: Tensor,
    past_key_values: DynamicCache | None = None,
    use_cache: bool | None = None,
    adarms_cond: Tensor | None = None,
) -> BaseModelOutputWithPast:
    hidden = inputs_embeds
    if self.layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16:
        hidden = hidden.to(torch.bfloat16)
    cos, sin = self.rotary_emb(hidden, position_ids)
    if use_cache and past_key_values is None:
        past_key_values = DynamicCache()
    for index, layer in enumerate(self.layers):
        attn = layer.self_attn
        x, gate = layer.input_layernorm(hidden, adarms_cond)
        heads = (*x.shape[:-1], -1, attn.head_dim)
        q, k, v = (
            proj(x).view(heads).transpose(1, 2) for proj in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = modeling_gemma.apply_rotary_pos_emb(q, k, cos, sin)
        if use_cache:
            k, v = past_key_values.update(k, v, index)
        elif past_key_values is not None:
            cached_k, cached_v = past_key_values[index]
            k, v = torch.cat([cached_k, k], dim=2), torch.cat([cached_v, v], dim=2)
        out, _ = modeling_gemma.eager_attention_forward(
            attn, q, k, v, attention_mask, attn.scaling, dropout=0.0
        )
        out = attn.o_proj(out.reshape(*x.shape[:-1], -1))
        hidden = _gated_residual(hidden, out, gate)
        x, gate = layer.post_attention_layernorm(hidden, adarms_cond)
        hidden = _gated_residual(hidden, layer.mlp(x), gate)
    hidden, _ = self.norm(hidden, adarms_cond)
    return BaseModelOutputWithPast(
        last_hidden_state=hidden, past_key_values=past_key_values if use_cache else None
    )


def _image_features(self: nn.Module, pixel_values: Tensor) -> Tensor:
    return self.multi_modal_projector(self.vision_tower(pixel_values).last_hidden_state)


def _cast_siglip_embeddings(init):
    def wrapped(self: nn.Module, config) -> None:
        init(self, config)

        def to_encoder_dtype(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            weight = self.encoder.layers[0].self_attn.q_proj.weight
            return output.to(torch.bfloat16) if weight.dtype == torch.bfloat16 else output

        self.embeddings.register_forward_hook(to_encoder_dtype)

    return wrapped


def apply() -> None:
    """Change the imported transformers in place. Once per process."""
    check = types.ModuleType("transformers.models.siglip.check")
    check.check_whether_transformers_replace_is_installed_correctly = lambda: True
    sys.modules[check.__name__] = siglip_package.check = check
    modeling_gemma.GemmaRMSNorm = RMSNorm
    modeling_gemma._gated_residual = _gated_residual
    modeling_gemma.GemmaModel.forward = _gemma_forward
    modeling_paligemma.PaliGemmaModel.get_image_features = _image_features
    tower = modeling_siglip.SiglipVisionTransformer
    tower.__init__ = _cast_siglip_embeddings(tower.__init__)
