"""Properties of the model that hold whatever its weights: padding, batches, the traced graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.model.config import TINY, Pi0Config
from pi0_ros.model.flow_time import flow_times
from pi0_ros.model.pi0 import Pi0

PATCHES = TINY.tokens_per_image


@pytest.fixture(scope="module")
def model(demo_checkpoint: Path) -> Pi0:
    return read_checkpoint(demo_checkpoint).load_model(torch.float32, torch.device("cpu"))


class Inputs:
    """Random arguments of `Pi0.forward`; `valid` marks the prefix tokens that exist."""

    def __init__(self, model: Pi0, batch: int = 1, cameras: int = 2, length: int = 7) -> None:
        g = torch.Generator().manual_seed(batch + 10 * cameras + 100 * length)
        c = model.config
        self.images = torch.rand(batch, cameras, 3, c.image_size, c.image_size, generator=g) * 2 - 1
        self.tokens = torch.randint(3, c.vocab_size, (batch, length), generator=g)
        self.state = torch.randn(batch, c.max_state_dim, generator=g)
        self.noise = torch.randn(batch, c.horizon, c.max_action_dim, generator=g)
        self.valid = torch.ones(batch, cameras * PATCHES + length, dtype=torch.bool)

    def arguments(self, model: Pi0) -> tuple:
        prompt, layout = model.embed_prompt(self.tokens), model.layout(self.valid)
        return self.images, prompt, self.state, self.noise, layout, model.time_table()

    def actions(self, model: Pi0) -> torch.Tensor:
        with torch.inference_mode():
            return model(*self.arguments(model))


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)


def test_padding_the_prompt_changes_nothing(model: Pi0) -> None:
    inputs = Inputs(model)
    expected = inputs.actions(model)
    inputs.tokens = torch.nn.functional.pad(inputs.tokens, (0, 9))
    inputs.valid = torch.nn.functional.pad(inputs.valid, (0, 9), value=False)
    assert_same(inputs.actions(model), expected)


def test_a_masked_camera_is_one_that_is_not_there(model: Pi0) -> None:
    three = Inputs(model, cameras=3)
    three.valid[:, PATCHES : 2 * PATCHES] = False
    masked = three.actions(model)
    three.images = three.images[:, [0, 2]]
    three.valid = three.valid[:, PATCHES:] | True
    assert_same(masked, three.actions(model))


def test_every_input_matters(model: Pi0) -> None:
    expected = Inputs(model).actions(model)
    for change in ("images", "state", "noise"):
        inputs = Inputs(model)
        setattr(inputs, change, getattr(inputs, change) * 0.5)
        assert (inputs.actions(model) - expected).abs().max() > 1e-3, change
    inputs = Inputs(model)
    inputs.tokens = inputs.tokens.flip(1)
    assert (inputs.actions(model) - expected).abs().max() > 1e-3
    inputs = Inputs(model)
    inputs.images = inputs.images.flip(1)
    assert (inputs.actions(model) - expected).abs().max() > 1e-3


def test_a_batch_is_its_rows(model: Pi0) -> None:
    inputs = Inputs(model, batch=2)
    inputs.valid[1, -3:] = False
    both = inputs.actions(model)
    for row in range(2):
        one = Inputs(model, batch=2)
        for name in ("images", "tokens", "state", "noise"):
            setattr(one, name, getattr(one, name)[row : row + 1])
        one.valid = inputs.valid[row : row + 1]
        assert_same(both[row : row + 1], one.actions(model))


def test_the_times_of_the_steps() -> None:
    np.testing.assert_array_equal(flow_times(4), [1.0, 0.75, 0.5, 0.25])
    time, expected = torch.tensor(1.0), []
    for _ in range(10):
        expected.append(time.item())
        time = time + torch.tensor(-0.1)
    accumulated = flow_times(10, accumulated=True)
    np.testing.assert_array_equal(accumulated, np.array(expected, np.float32))
    assert not np.array_equal(accumulated, flow_times(10))


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    """A whole inference of three steps, as a whole-graph compiler gets it."""
    model = Pi0(replace(TINY, num_steps=3)).eval().requires_grad_(False)
    arguments = Inputs(model).arguments(model)

    class Whole(torch.nn.Module):
        def forward(self, images, prompt, state, noise):
            return model(images, prompt, state, noise, *arguments[4:])

    return torch.export.export(Whole(), arguments[:4]).run_decompositions()


@pytest.fixture(scope="module")
def graph(program: torch.export.ExportedProgram) -> torch.fx.Graph:
    return program.graph


def calls(graph: torch.fx.Graph, name: str) -> list[torch.fx.Node]:
    return [node for node in graph.nodes if str(node.target) == f"aten.{name}"]


def test_the_graph_has_no_double_no_deciding_value_no_changed_input(
    program: torch.export.ExportedProgram, graph: torch.fx.Graph
) -> None:
    tensors = [node.meta["val"] for node in graph.nodes if "val" in node.meta]
    dtypes = {tensor.dtype for tensor in tensors if isinstance(tensor, torch.Tensor)}
    assert torch.float32 in dtypes
    assert torch.float64 not in dtypes
    names = {str(node.target) for node in graph.nodes}
    assert not {n for n in names if "_local_scalar_dense" in n or "nonzero" in n}
    signature = program.graph_signature
    assert not signature.user_inputs_to_mutate and not signature.buffers_to_mutate


def test_the_graph_has_none_of_the_known_waste(graph: torch.fx.Graph) -> None:
    """Fused products, nothing constant recomputed, the state projected once."""
    c = replace(TINY, num_steps=3)
    products = len(calls(graph, "mm.default")) + len(calls(graph, "addmm.default"))
    vision = 1 + 4 * c.vision_depth + 1
    prefix = 4 * (c.depth - 1) + 1
    step = 2 + 4 * c.depth + 1
    assert products == vision + prefix + 1 + step * c.num_steps
    names = {str(node.target) for node in graph.nodes}
    assert not {n for n in names if n.split(".")[-2:-1] in (["sin"], ["cos"], ["cumsum"])}


def test_the_state_does_not_see_the_actions(model: Pi0) -> None:
    """Its keys and values are the same in every step, whatever the actions are."""
    inputs = Inputs(model)
    images, prompt, state, noise, layout, times = inputs.arguments(model)
    seen: list[torch.Tensor] = []
    hook = model.expert.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with torch.inference_mode():
        context = model.context(images, prompt, state, layout)
        model.velocity(noise, times[0], context, layout)
        model.velocity(2 * noise + 1, times[1], context, layout)
    hook.remove()
    assert torch.equal(seen[0][:, 0], seen[1][:, 0])
    assert (seen[0][:, 1:] - seen[1][:, 1:]).abs().max() > 0.1


def test_arguments_are_not_changed(model: Pi0) -> None:
    arguments = Inputs(model).arguments(model)
    before = [t.clone() for t in arguments[:4]]
    with torch.inference_mode():
        model(*arguments)
    for old, new in zip(before, arguments[:4], strict=True):
        assert torch.equal(old, new)


def test_dynamo_takes_it_as_one_graph() -> None:
    model = Pi0(replace(TINY, num_steps=2, depth=2, vision_depth=1))
    g = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=g)
    arguments = Inputs(model).arguments(model)
    with torch.inference_mode():
        expected = model(*arguments)
        compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
        assert_same(compiled(*arguments), expected)


def test_bfloat16_follows_float32(demo_checkpoint: Path, model: Pi0) -> None:
    half = read_checkpoint(demo_checkpoint).load_model(torch.bfloat16, torch.device("cpu"))
    inputs = Inputs(model)
    a, b = inputs.actions(model).flatten(), inputs.actions(half).flatten()
    assert torch.cosine_similarity(a, b, dim=0) > 0.9999


def test_it_trains(model: Pi0) -> None:
    """Every parameter that an action depends on gets a gradient."""
    trained = Pi0(model.config)
    trained.load_state_dict(model.state_dict())
    inputs = Inputs(trained, batch=2)
    trained(*inputs.arguments(trained)).square().mean().backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("broken", [{"image_size": 65}, {"heads": 3, "kv_heads": 2}])
def test_sizes_that_do_not_fit_are_refused(broken: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a multiple"):
        Pi0Config(**broken)
