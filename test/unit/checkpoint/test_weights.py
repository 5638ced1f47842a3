"""Loading weights: what becomes of them, and what it costs in memory."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.checkpoint.weights import checkpoint_shapes, is_unused, sources
from pi0_ros.model.config import TINY

CPU = torch.device("cpu")


def test_every_tensor_is_used_once_or_known_to_be_unused() -> None:
    used = [key for source in sources(TINY).values() for key in source.keys]
    repeated = {key for key in used if used.count(key) > 1}
    # The action-time MLP is folded with the action projection, and split by its inputs.
    assert repeated == {"action_time_mlp_in.weight"}
    unused = {key for key in checkpoint_shapes(TINY) if is_unused(key, TINY)}
    assert set(used) | unused == set(checkpoint_shapes(TINY))
    assert not set(used) & unused


def test_fused_weights_and_folded_norms(demo_checkpoint: Path) -> None:
    file = load_file(demo_checkpoint / WEIGHTS)
    model = read_checkpoint(demo_checkpoint).load_model(torch.float32, CPU)
    layer = "model.paligemma_with_expert.gemma_expert.model.layers.1."
    x = torch.randn(5, TINY.expert_width, generator=torch.Generator().manual_seed(0))
    q, k, v = (x @ file[f"{layer}self_attn.{p}_proj.weight"].T for p in "qkv")
    ours = model.expert.layers[1]
    torch.testing.assert_close(ours.qkv(x), torch.cat((q, k, v), -1))
    gate, up = (x @ file[f"{layer}mlp.{p}_proj.weight"].T for p in ("gate", "up"))
    torch.testing.assert_close(ours.gate_up(x), torch.cat((gate, up), -1))
    norm = file[f"{layer}input_layernorm.weight"]
    torch.testing.assert_close(ours.attention_norm.data, 1 + norm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes(demo_checkpoint: Path, dtype: torch.dtype) -> None:
    model = read_checkpoint(demo_checkpoint).load_model(dtype, CPU)
    for name, parameter in model.named_parameters():
        gain = name.startswith(("prefix.", "expert.")) and name.endswith("norm")
        expected = torch.float32 if gain or name == "embed_tokens" else dtype
        assert parameter.dtype == expected, name
        assert isinstance(parameter, torch.nn.Parameter)


_MEASURE = """
import resource, sys, torch
from pi0_ros.checkpoint.formats import read_checkpoint
checkpoint = read_checkpoint(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = checkpoint.load_model(getattr(torch, sys.argv[2]), torch.device("cpu"))
total = sum(p.sum().item() for n, p in model.named_parameters() if n != "embed_tokens")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(peak * 1024, sum(p.nbytes for n, p in model.named_parameters() if n != "embed_tokens"))
"""


@pytest.mark.parametrize("stored,loaded", [("bfloat16", "bfloat16"), ("float32", "bfloat16")])
def test_no_second_copy_of_the_weights_in_memory(tmp_path: Path, stored: str, loaded: str) -> None:
    """Peak memory of loading and reading all weights, against the bytes of the weights."""
    sizes = replace(
        TINY, vocab_size=20000, prefix_width=1024, prefix_mlp=8192, depth=7, head_dim=64
    )
    write_random_checkpoint(tmp_path / "big", sizes, dtype=getattr(torch, stored))
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "big"), loaded],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, weights = map(int, out.stdout.split())
    assert weights > 250e6
    assert peak < 1.25 * weights
