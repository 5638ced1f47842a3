"""A trained model leaves as a checkpoint and comes back the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from examples.touch_task.muon import orthogonalised
from examples.touch_task.weights import checkpoint_tensors, new_model
from pi0_ros.checkpoint.tensors import Tensors, read_infos
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD, check_keys, load_weights
from pi0_ros.model.config import TINY, TINY_PI05

JOINTS = 6


@torch.inference_mode()
def actions(model: torch.nn.Module, padding_noise: float = 0.0) -> torch.Tensor:
    """[1, horizon, max_action_dim] of a fixed observation."""
    c = model.config
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(1, 2, 3, c.image_size, c.image_size, generator=generator)
    state = torch.randn(1, c.max_state_dim, generator=generator)
    noise = torch.randn(1, c.horizon, c.max_action_dim, generator=generator)
    noise[..., JOINTS:] += padding_noise
    prompt = model.embed_prompt(torch.tensor([[2, 5, 6]]))
    layout = model.layout(torch.ones(1, 2 * c.tokens_per_image + 3, dtype=torch.bool))
    return model(images, prompt, state, noise, layout, model.time_table())


@pytest.fixture(scope="module", params=[TINY, TINY_PI05], ids=["pi0", "pi05"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    made = new_model(request.param, JOINTS, seed=1)
    with torch.no_grad():  # gains and biases begin at 1 and 0, which would hide an exchange
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn(parameter.shape)
    return made


def test_saved_weights_compute_the_same(tmp_path: Path, model: torch.nn.Module) -> None:
    tensors = checkpoint_tensors(model)
    tensors[LM_HEAD] = tensors.pop(EMBED_TOKENS)
    save_file(tensors, tmp_path / "model.safetensors")
    tensors = Tensors(read_infos([tmp_path / "model.safetensors"], []))
    assert check_keys(tensors, model.config, ()) == []
    loaded = load_weights(tensors, model.config, torch.float32, torch.device("cpu"))
    for (name, one), (_, other) in zip(
        model.named_parameters(), loaded.named_parameters(), strict=True
    ):
        np.testing.assert_allclose(one.detach(), other, atol=1e-6, err_msg=name)
    torch.testing.assert_close(actions(model), actions(loaded), atol=1e-5, rtol=1e-5)


def test_noise_in_the_padding_has_no_effect(model: torch.nn.Module) -> None:
    """Inference fills the padding with noise; training never shows it any."""
    fresh = new_model(model.config, JOINTS, seed=1)
    one, other = actions(fresh), actions(fresh, padding_noise=5.0)
    assert torch.equal(one[..., :JOINTS], other[..., :JOINTS])
    assert not torch.equal(one[..., JOINTS:], other[..., JOINTS:])


def test_same_seed_same_weights() -> None:
    one, two, other = (new_model(TINY, JOINTS, seed) for seed in (4, 4, 5))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(one.embed_tokens, other.embed_tokens)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 100)])
def test_muon_makes_singular_values_alike(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    matrices *= torch.tensor([1e-4, 1.0, 1e3])[:, None, None]
    turned = orthogonalised(matrices)
    assert turned.shape == matrices.shape
    for before, after in zip(matrices, turned, strict=True):
        u, _, v = torch.linalg.svd(before, full_matrices=False)
        values = torch.diagonal(u.T @ after @ v.T)
        assert values.min() > 0.6 and values.max() < 1.3
