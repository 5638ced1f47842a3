"""Properties of the model that hold whatever its weights: padding, batches, the traced graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.model.config import TINY, TINY_PI05, Pi0Config
from pi0_ros.model.flow_time import flow_times, sinusoids
from pi0_ros.model.pi0 import Pi0
from pi0_ros.policy.compile import Frame, flatten_layout

PATCHES = TINY.tokens_per_image


@pytest.fixture(scope="module")
def pi0(demo_checkpoint: Path) -> Pi0:
    return read_checkpoint(demo_checkpoint).load_model(torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def pi05(demo_pi05: Path) -> Pi0:
    return read_checkpoint(demo_pi05).load_model(torch.float32, torch.device("cpu"))


@pytest.fixture(params=["pi0", "pi05"])
def model(request: pytest.FixtureRequest) -> Pi0:
    return request.getfixturevalue(request.param)


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
    for change in ("images", "noise") if model.config.pi05 else ("images", "state", "noise"):
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


def test_a_graph_makes_the_layout_that_the_host_makes(model: Pi0) -> None:
    """Where padding comes last; the RoPE tables of padding do not matter."""
    tokens, valid = 2 * PATCHES + 12, torch.arange(2 * PATCHES + 12)[None] < 2 * PATCHES + 7
    expected = model.layout(valid)
    rope = model.ops.rope_tables(torch.arange(tokens)[None], model.config, model.dtype)
    got = model.padded_layout(torch.tensor([2 * PATCHES + 7], dtype=torch.int32), tokens, rope)
    for one, other in zip(got.suffix_rope, expected.suffix_rope, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(got.prefix_mask, expected.prefix_mask)
    assert torch.equal(got.suffix_mask, expected.suffix_mask)
    inputs = Inputs(model, length=12)
    images, prompt, state, noise, _, times = inputs.arguments(model)
    with torch.inference_mode():
        made, known = (model(images, prompt, state, noise, of, times) for of in (got, expected))
    assert_same(made, known)


def test_an_adaptive_norm_is_the_published_formula() -> None:
    """Scale and shift of the norm, gate of the block that reads it, of both blocks and the end."""
    config = replace(TINY_PI05, depth=1)
    model = Pi0(config).eval().requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(0.0, parameter.shape[0] ** -0.5, generator=g)
    layer, ops, width = model.expert.layers[0], model.ops, config.expert_width
    h = torch.randn(1, 5, width, generator=g)
    norms = model.time_in(sinusoids(np.array([0.3]), config))[0]
    assert norms.shape == (3, 3, width)

    def norm(h: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        scale, shift, gate = norms[number]
        y = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return y * (1 + scale) + shift, gate

    rope = ops.rope_tables(torch.arange(5)[None], config, torch.float32)
    y, gate = norm(h, 0)
    q, kv = ops.qkv(y, layer.qkv, config.heads, config.kv_heads, rope)
    total = h + gate * layer.out(ops.attention(q, kv, None, config.head_dim**-0.5).flatten(2))
    y, gate = norm(total, 1)
    total = total + gate * layer.down(ops.geglu(y, layer.gate_up))
    expected = model.action_out(norm(total, 2)[0])
    row = model._norms(model.time_rows(np.array([0.3]))[0])
    got, _ = model.expert(h, rope, None, None, row)
    torch.testing.assert_close(model.action_out(got, row[-1].bias), expected, rtol=0, atol=1e-5)


def test_the_times_of_the_steps() -> None:
    np.testing.assert_array_equal(flow_times(4), [1.0, 0.75, 0.5, 0.25])
    time, expected = torch.tensor(1.0), []
    for _ in range(10):
        expected.append(time.item())
        time = time + torch.tensor(-0.1)
    accumulated = flow_times(10, accumulated=True)
    np.testing.assert_array_equal(accumulated, np.array(expected, np.float32))
    assert not np.array_equal(accumulated, flow_times(10))


@pytest.fixture(scope="module", params=[TINY, TINY_PI05], ids=["pi0", "pi05"])
def config(request: pytest.FixtureRequest) -> Pi0Config:
    return replace(request.param, num_steps=3)


@pytest.fixture(scope="module")
def program(config: Pi0Config) -> torch.export.ExportedProgram:
    """A whole inference of three steps, as a whole-graph compiler gets it."""
    model = Pi0(config).eval().requires_grad_(False)
    inputs = Inputs(model)
    images, prompt, state, noise, _, times = inputs.arguments(model)
    if config.pi05:
        tokens = inputs.valid.shape[1]
        rope = model.ops.rope_tables(torch.arange(tokens)[None], config, torch.float32)
        count = torch.tensor([tokens - 2], dtype=torch.int32)
        arguments = (images, inputs.tokens, state, noise, times, *rope, count)
    else:
        flat = flatten_layout(model.layout(inputs.valid, always_masked=True))
        arguments = (images, prompt, state, noise, times, *flat)
    return torch.export.export(Frame(model), arguments).run_decompositions()


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


def test_the_graph_has_none_of_the_known_waste(config: Pi0Config, graph: torch.fx.Graph) -> None:
    """Fused products, nothing constant recomputed, the state projected once; of pi0.5 only the
    positions of the actions are new in every frame.
    """
    c = config
    products = len(calls(graph, "mm.default")) + len(calls(graph, "addmm.default"))
    vision = 1 + 4 * c.vision_depth + 1
    prefix = 4 * (c.depth - 1) + 1
    state, actions = (0, 1) if c.pi05 else (1, 2)
    step = actions + 4 * c.depth + 1
    assert products == vision + prefix + state + step * c.num_steps
    tables = [*calls(graph, "sin.default"), *calls(graph, "cos.default")]
    assert [node.meta["val"].shape[1] for node in tables] == [c.horizon] * (2 if c.pi05 else 0)
    assert not calls(graph, "cumsum.default")


def test_the_state_does_not_see_the_actions(pi0: Pi0) -> None:
    """Its keys and values are the same in every step, whatever the actions are."""
    model = pi0
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


def test_bfloat16_follows_float32(demo_checkpoint: Path, demo_pi05: Path, model: Pi0) -> None:
    path = demo_pi05 if model.config.pi05 else demo_checkpoint
    half = read_checkpoint(path).load_model(torch.bfloat16, torch.device("cpu"))
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


def test_rows_of_a_batch_may_differ_in_time(model: Pi0) -> None:
    """As in training."""
    trained = Pi0(model.config)
    trained.load_state_dict(model.state_dict())
    inputs = Inputs(trained, batch=2)
    images, prompt, state, noise, layout, _ = inputs.arguments(trained)
    rows = trained.time_rows(np.array([0.9, 0.2]))
    with torch.inference_mode():
        context = trained.context(images, prompt, state, layout)
        both = trained.velocity(noise, rows[:, None], context, layout)
        for i in range(2):
            alone = trained.velocity(noise, rows[i], context, layout)
            assert_same(both[i], alone[i])


@pytest.mark.parametrize("broken", [{"image_size": 65}, {"heads": 3, "kv_heads": 2}])
def test_sizes_that_do_not_fit_are_refused(broken: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a multiple"):
        Pi0Config(**broken)
