"""The oracles themselves: they run LeRobot, both versions agree where they should, errors speak.

LeRobot 0.3.3 runs on transformers' own Gemma and attends by its own code; 0.4.4 runs on
benchmarks/race/peer_gemma.py. Given the same weights, inputs and denoising times they have to
agree to rounding, which checks the adapted Gemma.
"""

import json

import pytest
import torch
from reference import oracle_runner
from reference.agreement import SHARED
from reference.oracle_case import Case
from reference.oracle_runner import (
    OracleFailed,
    ReferenceMissing,
    oracle_environment,
    reference_dir,
    run_oracle,
    run_oracles,
)
from safetensors.torch import load_file
from support import ROOT


@pytest.fixture
def new(oracle):
    return oracle("0.4.4")


@pytest.fixture
def old(oracle):
    return oracle("0.3.3")


@pytest.mark.parametrize("name", [case["name"] for case in SHARED])
def test_versions_agree_in_float32(new, old, name):
    a, b = new[name].tensors(), old[name].tensors()
    inputs = [key for key in a if key in ("tokens", "noise") or key.startswith("image.")]
    assert all(torch.equal(a[key], b[key]) for key in [*inputs, "state", "token_mask", "tap.time"])
    assert 0.5 < a["model_actions"].square().mean().sqrt() < 2.0
    prefix = a["tap.prefix_mask"]  # the masked camera's keys are computed but never looked at
    torch.testing.assert_close(
        a["tap.prefix_embedding"][prefix],
        b["tap.prefix_embedding"][b["tap.prefix_mask"]],
        atol=1e-5,
        rtol=0,
    )
    atol = 1e-4 if name == "peaked" else 1e-5
    torch.testing.assert_close(a["model_actions"], b["model_actions"], atol=atol, rtol=0)
    torch.testing.assert_close(a["actions"], b["actions"], atol=2 * atol, rtol=0)


@pytest.mark.parametrize("version", ["0.4.4", "0.3.3"])
def test_bfloat16_is_close_but_not_equal_to_float32(new, old, version):
    results = new if version == "0.4.4" else old
    exact, rounded = (
        results[n].tensors()["model_actions"] for n in ("rounded, float32", "rounded, bfloat16")
    )
    difference = (exact - rounded).abs().max()
    assert 1e-4 < difference < 0.05
    cosine = torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0)
    assert cosine > 0.9999


def test_no_parameter_is_left_at_its_initial_value(new, old):
    for result in (new["plain"], old["plain"]):
        for key, tensor in load_file(result.checkpoint / "model.safetensors").items():
            if "normalize" not in key:
                assert tensor.dtype == torch.float32
                assert torch.isfinite(tensor).all() and tensor.std() > 0.01, key


def test_prompt_gets_a_newline_and_tokens_reach_the_model(new, old):
    for result in (new["plain"], old["plain"]):
        (call,) = result.record["tokenizer_calls"]
        assert call["text"] == ["pick up the cube\n"]
        assert call["max_length"] == 48 and call["padding_side"] == "right"


def test_masked_camera_comes_last_and_takes_no_part(new, old):
    for result in (new["masked"], old["masked"]):
        assert result.record["camera_order"][:3] == ["top", "right", "left"]
        tensors = result.tensors()
        assert "image.left" not in tensors
        assert (tensors["tap.network_image.left"] == -1).all()
        patches = 16
        mask = tensors["tap.prefix_mask"]
        assert mask[: 2 * patches].all() and not mask[2 * patches : 3 * patches].any()


def test_new_checkpoint_names_its_statistics(new):
    checkpoint = new["quantiles and min-max"].checkpoint
    pre = json.loads((checkpoint / "policy_preprocessor.json").read_text())
    post = json.loads((checkpoint / "policy_postprocessor.json").read_text())
    normalizer = next(s for s in pre["steps"] if s["registry_name"] == "normalizer_processor")
    unnormalizer = next(s for s in post["steps"] if s["registry_name"] == "unnormalizer_processor")
    state = load_file(checkpoint / normalizer["state_file"])
    action = load_file(checkpoint / unnormalizer["state_file"])
    tensors = new["quantiles and min-max"].tensors()
    low, high = state["observation.state.q01"], state["observation.state.q99"]
    normalised = 2 * (tensors["state"] - low) / (high - low) - 1
    torch.testing.assert_close(tensors["tap.state"][:6], normalised)
    assert (tensors["tap.state"][6:] == 0).all()
    low, high = action["action.min"], action["action.max"]
    expected = (tensors["model_actions"][0, :, :6] + 1) / 2 * (high - low) + low
    torch.testing.assert_close(tensors["actions"], expected)


def test_old_checkpoint_holds_its_statistics_and_hub_names(old):
    saved = load_file(old["hub, min-max"].checkpoint / "model.safetensors")
    hub = load_file(old["hub, min-max"].path / "checkpoint_hub" / "model.safetensors")
    prefix = "model.paligemma_with_expert.paligemma."
    assert torch.equal(
        hub[prefix + "language_model.model.norm.weight"],
        saved[prefix + "model.language_model.norm.weight"],
    )
    assert prefix + "language_model.lm_head.weight" in hub
    tensors = old["hub, min-max"].tensors()
    low = saved["unnormalize_outputs.buffer_action.min"]
    high = saved["unnormalize_outputs.buffer_action.max"]
    expected = (tensors["model_actions"][0, :, :6] + 1) / 2 * (high - low) + low
    torch.testing.assert_close(tensors["actions"], expected)


def test_preprocessing_pads_where_each_version_pads(new, old):
    a, b = new["preprocess"].tensors(), old["preprocess"].tensors()
    x, y = a["network_image.480x640"], b["network_image.480x640"]
    assert (x[:, :28] == -3).all() and (x[:, -28:] == -3).all() and x[:, 28:-28].min() >= -1
    assert (y[:, :56] == -1).all()
    torch.testing.assert_close(x[:, 28:-28], y[:, 56:])
    x, y = a["network_image.116x116"], b["network_image.116x116"]
    assert (x[:, -1] == -3).all() and (x[:, :, -1] == -3).all()
    torch.testing.assert_close(x[:, :-1, :-1], y[:, 1:, 1:])
    exact = a["image_u8.224x224"].permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(a["network_image.224x224"], exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masked": ["front", "wrist"]}, "masked"),
        ({"tokens": []}, "0 tokens"),
        ({"tokens": [512]}, "expected ids in 0..511"),
        ({"joints": 33}, "joints 33"),
        ({"sizes": {"head_dim": 15}}, "head_dim"),
        ({"sizes": {"witdh": 64}}, "witdh"),
        ({"colour": "red"}, "colour"),
        ({"adapt_to_pi_aloha": True}, "expected 14"),
    ],
)
def test_bad_case_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run_oracle("0.4.4", {"name": "bad", **change}, tmp_path)


def test_full_size_case_is_pi0():
    sizes = Case.from_json({"name": "full", "sizes": "full"}).sizes
    assert (sizes.width, sizes.depth, sizes.vision_depth, sizes.vocab) == (2048, 18, 27, 257152)


def test_missing_reference_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PI0_REFERENCE", str(tmp_path / "nowhere"))
    with pytest.raises(ReferenceMissing, match="make reference"):
        reference_dir()


def test_failure_shows_the_end_of_the_oracle_s_output(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_runner, "COMMAND", ("sh", "-c", "echo the weights melted; exit 1"))
    with pytest.raises(OracleFailed, match=r"status 1(.|\n)*the weights melted"):
        run_oracle("0.3.3", {"name": "plain"}, tmp_path)


def test_endless_oracle_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_runner, "COMMAND", ("sh", "-c", "echo still here; exec sleep 600"))
    with pytest.raises(OracleFailed, match=r"longer than 2 s(.|\n)*still here"):
        run_oracles("0.3.3", [{"name": "plain"}], tmp_path, timeout=2.0)


def test_environment_is_the_reference_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    env = oracle_environment("0.3.3", tmp_path)
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in env
    own = [tmp_path / "lerobot-0.3.3", tmp_path / "common", ROOT, ROOT / "test"]
    assert env["PYTHONPATH"].split(":") == [str(path) for path in own]
    assert env["HF_HUB_OFFLINE"] == "1"
