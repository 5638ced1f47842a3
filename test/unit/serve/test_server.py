"""A policy server and its clients over the loopback: questions, answers, and what goes wrong."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.policy_client import UNITS, answer_of, observation, robot
from support.policy_server import CAMERAS, HORIZON, StubPolicy, card, policy_server
from support.waiting import PATIENCE, wait_until

from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import normalization
from pi0_ros.policy.card import PolicyCard
from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.remote import PolicyEnded, RemoteError, RemotePolicy, WrongPolicy
from pi0_ros.serve.wire import pack, unpack


def test_a_chunk_comes_back_in_radians(url: str, policy: StubPolicy) -> None:
    remote = RemotePolicy(ServerLink(url), robot())
    chunk = remote.infer(observation())
    np.testing.assert_allclose(policy.seen[0].state, [1.0, 2.0, 3.0])
    assert policy.seen[0].instruction == "go" and remote.horizon == HORIZON
    np.testing.assert_allclose(chunk.positions[:, 0], 0.5 * (1 + np.arange(HORIZON)) + 0.25)
    np.testing.assert_allclose(chunk.positions[0, 2], 103.0)
    assert (chunk.stamp, chunk.dt, chunk.sequence, chunk.seed) == (7, 0.02, 0, 5)
    assert list(chunk.stage_times) == ["model", "link"]
    # A quick machine may answer sooner than the policy says that it took.
    assert chunk.stage_times["model"] == 0.001 and chunk.stage_times["link"] >= 0.0
    remote.close()


@pytest.mark.parametrize(("how", "within"), [("raw", 0.0), ("fitted", 0.5), ("jpeg", 2.0)])
def test_images_arrive_as_they_were_sent(
    url: str, policy: StubPolicy, how: str, within: float
) -> None:
    remote = RemotePolicy(ServerLink(url), robot(images=how))
    smooth = np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None] * np.ones(
        (240, 1, 3), np.uint8
    )
    bgr = np.ascontiguousarray(smooth)[..., ::-1]
    remote.infer(observation(images={"front": smooth, "wrist": bgr}))
    for name in CAMERAS:
        seen = policy.seen[0].images[name]
        assert seen.shape == ((240, 320, 3) if how == "raw" else (168, 224, 3))
        assert abs(float(seen.mean()) - 127.5) <= 1 + within
    remote.close()


def test_every_client_has_an_episode_of_its_own(url: str) -> None:
    first, second = (RemotePolicy(ServerLink(url), robot()) for _ in range(2))
    assert [first.infer(observation()).sequence for _ in range(3)] == [0, 1, 2]
    assert second.infer(observation()).sequence == 0
    first.reset()
    assert first.infer(observation()).sequence == 0
    assert second.infer(observation()).sequence == 1
    first.close(), second.close()


def test_a_prefix_goes_with_the_question(url: str, policy: StubPolicy) -> None:
    numbers = np.random.default_rng(0).standard_normal((HORIZON, 4)).astype(np.float32)
    prefix = ActionPrefix(numbers[:, :3], numbers[:, 3], delay=7, max_weight=4.5)
    remote = RemotePolicy(ServerLink(url), robot())
    remote.infer(observation(), prefix)
    seen = policy.prefix
    assert (seen.delay, seen.max_weight) == (7, 4.5)
    np.testing.assert_allclose(seen.positions, UNITS.from_radians(prefix.positions))
    np.testing.assert_array_equal(seen.weights, prefix.weights)
    remote.infer(observation())
    assert policy.prefix is None
    remote.close()


def test_an_error_of_the_policy_keeps_its_name_and_the_connection(
    url: str, policy: StubPolicy
) -> None:
    remote = RemotePolicy(ServerLink(url), robot())
    with pytest.raises(RemoteError, match=r"lacks the cameras \['wrist'\]") as raised:
        remote.infer(observation(images={"front": np.zeros((4, 4, 3), np.uint8)}))
    assert isinstance(raised.value, ValueError)
    policy.before = lambda _: (_ for _ in ()).throw(RuntimeError("/secret/path"))
    with pytest.raises(RemoteError, match=r"failed \(RuntimeError\)") as raised:
        remote.infer(observation())
    assert "secret" not in str(raised.value) and not isinstance(raised.value, ValueError)
    for ends in (SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit()):
        policy.before = lambda _, ends=ends: (_ for _ in ()).throw(ends)
        with pytest.raises(RemoteError, match=r"failed \(RuntimeError\)"):
            remote.infer(observation())
    policy.before = lambda _: None
    assert remote.infer(observation()).sequence == 6 and remote.starts == 1
    remote.close()


def test_a_policy_that_hangs_is_left_and_asked_again(url: str, policy: StubPolicy) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def hang(_: Observation) -> None:
        hangs.set()
        assert go_on.wait(PATIENCE)

    remote, raised = RemotePolicy(ServerLink(url), robot()), []

    def infer() -> None:
        with pytest.raises(PolicyEnded, match="did not answer") as error:
            remote.infer(observation())
        raised.append(error)

    policy.before = hang
    thread = threading.Thread(target=infer)
    thread.start()
    assert hangs.wait(PATIENCE)
    remote.kill()
    thread.join(PATIENCE)
    assert raised
    policy.before = lambda _: None
    go_on.set()
    chunk = wait_until(lambda: answer_of(remote), "an answer")
    assert chunk.sequence == 0, "a new connection begins a new episode"
    remote.close()


@pytest.mark.parametrize("answers", [1, 0])
def test_a_server_that_says_goodbye_is_left_and_another_asked_at_once(answers: int) -> None:
    """As a fleet's replica does that is replaced, or a server whose pings nobody answered: no
    observation is lost."""
    with policy_server() as url:
        remote = RemotePolicy(ServerLink(url), robot())
        for _ in range(answers):
            remote.infer(observation())
    with policy_server(port=int(url.rpartition(":")[2])):
        assert remote.infer(observation()).sequence == 0 and remote.starts == 2
    remote.close()


def test_a_server_that_starts_again_is_found_within_a_second() -> None:
    with policy_server() as url:
        remote = RemotePolicy(ServerLink(url), robot())
        remote.infer(observation())
    for _ in range(5):
        with pytest.raises(PolicyEnded, match=r"cannot be reached|going|stops|trying again"):
            remote.infer(observation())
    with policy_server(port=int(url.rpartition(":")[2])):
        wait_until(lambda: answer_of(remote), "an answer")
        attempts = remote.starts
        assert attempts <= 8
        remote.close()


def test_another_policy_after_a_restart_is_refused() -> None:
    def check(served: Any) -> list[str]:
        return [] if served.joints == 3 else [f"{served.joints} joints"]

    with policy_server() as url:
        remote = RemotePolicy(ServerLink(url), robot(), check)
        remote.infer(observation())
    port = int(url.rpartition(":")[2])
    two = normalization("IDENTITY", {}, 2)
    with policy_server(its_card=card(joints=2, state=two, action=two), port=port):

        def refused() -> bool:
            try:
                remote.infer(observation())
            except WrongPolicy as error:
                return "2 joints" in str(error)
            except PolicyEnded:
                return False
            raise AssertionError("a chunk of the wrong policy")

        wait_until(refused, "the refusal")
    remote.close()


def test_a_card_survives_the_way() -> None:
    declared = Declared(("a", "b", "c"), "s", 30.0, "s: fps", (1.0, 2.0, 3.0), (0.0, 0.0, 1.0))
    told = card(action_mode="delta", delta_mask=(True, True, False), declared=declared)
    sent = unpack(pack(told.to_document()))
    back = PolicyCard.from_document(sent, "s")
    assert back.declared == declared and back.delta_mask == told.delta_mask
    assert back.to_document() == told.to_document()


def test_a_card_of_another_horizon_is_refused() -> None:
    with (
        policy_server(StubPolicy(), card(horizon=HORIZON + 1)) as url,
        pytest.raises(WrongPolicy, match="its card says 11"),
    ):
        RemotePolicy(ServerLink(url), robot())
