"""Real-time chunking in the model: the formulas, and that being off costs nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from pi0_ros.model.config import TINY, TINY_PI05
from pi0_ros.model.flow_time import flow_times
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guided, Trained, guidance

STEPS, DELAY = 3, 6


@pytest.fixture(scope="module", params=[TINY, TINY_PI05], ids=["pi0", "pi05"])
def model(request: pytest.FixtureRequest) -> Pi0:
    """Random weights."""
    config = replace(request.param, depth=2, vision_depth=1, num_steps=STEPS)
    model, g = Pi0(config).eval().requires_grad_(False), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(0.0, parameter.shape[0] ** -0.5, generator=g)
    return model


def inputs(model: Pi0, seed: int = 0) -> tuple:
    """Arguments of `Pi0.forward`."""
    c, g = model.config, torch.Generator().manual_seed(seed)
    images = torch.rand(1, 2, 3, c.image_size, c.image_size, generator=g) * 2 - 1
    prompt = model.embed_prompt(torch.randint(3, c.vocab_size, (1, 7), generator=g))
    state = torch.randn(1, c.max_state_dim, generator=g)
    noise = torch.randn(1, c.horizon, c.max_action_dim, generator=g)
    valid = torch.ones(1, 2 * c.tokens_per_image + 7, dtype=torch.bool)
    return images, prompt, state, noise, model.layout(valid), model.time_table()


def earlier(model: Pi0) -> Tensor:
    c = model.config
    g = torch.Generator().manual_seed(7)
    return torch.randn(1, c.horizon, c.max_action_dim, generator=g)


def guided(model: Pi0, weights: np.ndarray, max_weight: float = 10.0) -> Guided:
    tables = guidance(weights, flow_times(STEPS), max_weight)
    return Guided(earlier(model), *map(torch.from_numpy, tables))


def trained(model: Pi0, delay: int = DELAY) -> Trained:
    given = torch.arange(model.config.horizon)[:, None] < delay
    return Trained(earlier(model), given, model.time_rows(np.zeros(1))[0])


class Plain(nn.Module):
    """`Pi0.forward` as it reads without real-time chunking."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(self, images, prompt, state, noise, layout, time_table) -> Tensor:
        context = self.model.context(images, prompt, state, layout)
        for time in time_table.unbind():
            velocity = self.model.velocity(noise, time, context, layout)
            noise = torch.add(noise, velocity, alpha=-1.0 / STEPS)
        return noise


def operators(function: Callable[..., Tensor], arguments: tuple) -> list[str]:
    """What a compiler would get, in order."""
    graph = make_fx(function)(*arguments).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def test_off_is_the_graph_and_the_result_of_a_model_without_it(model: Pi0) -> None:
    arguments = inputs(model)
    assert operators(model, arguments) == operators(Plain(model), arguments)
    assert torch.equal(model(*arguments), Plain(model)(*arguments))


@pytest.mark.parametrize("mode,added", [("guided", 5 * STEPS), ("trained", 30 * STEPS)])
def test_the_other_modes_add_few_operators(model: Pi0, mode: str, added: int) -> None:
    arguments = inputs(model)
    rtc = guided(model, np.ones(50)) if mode == "guided" else trained(model)
    with_it, without = (operators(model, (*arguments, r)) for r in (rtc, None))
    assert 0 < len(with_it) - len(without) <= added


def test_a_guided_step_is_the_published_formula(model: Pi0) -> None:
    """v' = v - w W (Y - x1), with w = min(beta, (1 - tau) / (tau r^2)) and x1 = x - t v."""
    images, prompt, state, x, layout, table = inputs(model)
    weights = np.linspace(1, 0, 50)
    rtc = guided(model, weights, max_weight=4.0)
    context = model.context(images, prompt, state, layout)
    expected, known = x, []
    for i, t in enumerate([1.0, 2 / 3, 1 / 3]):
        tau = 1 - t
        inverse_r2 = (tau**2 + (1 - tau) ** 2) / (1 - tau) ** 2
        w = min(4.0, (1 - tau) / tau * inverse_r2) if tau else 4.0
        known.append(w)
        v = model.velocity(expected, table[i], context, layout)
        error = (rtc.target - (expected - t * v)) * torch.from_numpy(weights)[:, None]
        expected = expected - (v - w * error) / STEPS
    assert known == pytest.approx([4.0, 2.5, 2.5])
    got = model(images, prompt, state, x, layout, table, rtc)
    torch.testing.assert_close(got, expected.float(), rtol=0, atol=1e-5)
    assert (got - model(images, prompt, state, x, layout, table)).abs().max() > 0.1


def test_guidance_without_weight_is_no_guidance(model: Pi0) -> None:
    arguments = inputs(model)
    rtc = guided(model, np.zeros(50))
    torch.testing.assert_close(model(*arguments, rtc), model(*arguments), rtol=0, atol=1e-6)


def test_a_chunk_with_given_actions_begins_with_them(model: Pi0) -> None:
    """Bit by bit; the others depend on them."""
    arguments, rtc = inputs(model), trained(model)
    got, without = model(*arguments, rtc), model(*arguments)
    assert torch.equal(got[:, :DELAY], rtc.target[:, :DELAY])
    assert (got - without)[:, DELAY:].abs().max() > 1e-3
    other = rtc._replace(target=rtc.target + 1)
    assert (model(*arguments, other) - got)[:, DELAY:].abs().max() > 1e-3
    later = rtc.target.clone()
    later[:, DELAY:] += 1
    assert torch.equal(model(*arguments, rtc._replace(target=later)), got)


def test_without_given_actions_it_is_the_plain_flow(model: Pi0) -> None:
    arguments = inputs(model)
    got = model(*arguments, trained(model, delay=0))
    torch.testing.assert_close(got, model(*arguments), rtol=0, atol=2e-5)


def test_given_actions_are_at_flow_time_zero(model: Pi0) -> None:
    """All given is flow time 0 everywhere; none is the step's own; a part differs from both."""
    images, prompt, state, x, layout, table = inputs(model)
    context = model.context(images, prompt, state, layout)
    rtc = trained(model)

    def velocity(given: Tensor) -> Tensor:
        row = rtc._replace(given=given).time(table[0])
        return model.velocity(x, row, context, layout)

    every = torch.ones(50, 1, dtype=torch.bool)
    ends = [model.velocity(x, row, context, layout) for row in (rtc.clean, table[0])]
    torch.testing.assert_close(velocity(every), ends[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(velocity(~every), ends[1], rtol=0, atol=2e-5)
    part = velocity(rtc.given)
    assert min((part - end).abs().max() for end in ends) > 1e-3


def test_rows_of_a_batch_may_differ_in_time_and_in_given_actions(model: Pi0) -> None:
    """As in training; every parameter that velocities depend on gets a gradient."""
    student = Pi0(model.config)
    student.load_state_dict(model.state_dict())
    images, prompt, state, x, layout, _ = (
        torch.cat((t, t)) if i < 4 else t for i, t in enumerate(inputs(model))
    )
    rows = student.time_rows(np.array([0.9, 0.2, 0.0]))
    given = torch.arange(50)[None, :, None] < torch.tensor([3, 8])[:, None, None]
    target = earlier(model).expand(2, -1, -1)
    time = Trained(target, given, rows[2]).time(rows[:2, None])
    context = student.context(images, prompt, state, layout)
    both = student.velocity(x, time, context, layout)
    for i in range(2):
        one = Trained(target[i : i + 1], given[i], rows[2]).time(rows[i])
        first = type(context)(
            None if context.state is None else context.state[i : i + 1],
            [tuple(t[i : i + 1] for t in pair) for pair in context.past],
        )
        alone = student.velocity(x[i : i + 1], one, first, layout)
        torch.testing.assert_close(both[i : i + 1], alone, rtol=0, atol=2e-5)
    both.square().mean().backward()
    without = [name for name, p in student.named_parameters() if p.grad is None]
    assert without == ["embed_tokens"], "the prompt was embedded before"


@pytest.mark.compile
def test_one_graph_serves_all_delays(model: Pi0) -> None:
    images, prompt, state, x, layout, table = inputs(model)
    context = model.context(images, prompt, state, layout)
    step = torch.compile(model.denoise_step, fullgraph=True, dynamic=False, backend="eager")

    def conditions(delay: int) -> list[Guided | Trained]:
        weights = (np.arange(50) < delay).astype(float)
        return [guided(model, weights).steps()[1], trained(model, delay)]

    for rtc in conditions(0):
        step(x, table[1], context, layout, rtc)
    with torch.compiler.set_stance("fail_on_recompile"):
        for rtc in conditions(1) + conditions(9):
            expected = model.denoise_step(x, table[1], context, layout, rtc)
            got = step(x, table[1], context, layout, rtc)
            torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
