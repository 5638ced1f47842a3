"""A policy server and its clients over the loopback: questions, answers, and what goes wrong."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.policy_server import CAMERAS, HORIZON, StubPolicy, card, policy_server
from support.waiting import PATIENCE, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import normalization
from pi0_ros.policy.card import PolicyCard
from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve import images
from pi0_ros.serve.engine import Engine, Episode
from pi0_ros.serve.images import decode
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.mapping import MAPPINGS
from pi0_ros.serve.remote import PolicyEnded, RemoteError, RemotePolicy, RobotSide, WrongPolicy
from pi0_ros.serve.wire import pack, unpack

KEY = "0123456789abcdef-key"
UNITS = JointUnits(np.array([0.5, 1.0, 1.0]), np.array([0.25, 0.0, 0.0]))


def observation(value: int = 100, stamp: int = 7, **changes: Any) -> Observation:
    images = {name: np.full((6, 8, 3), value, np.uint8) for name in CAMERAS}
    state = np.array([0.75, 2.0, 3.0])
    return Observation(
        **{"images": images, "state": state, "instruction": "go", "stamp": stamp, **changes}
    )


def robot(**changes: Any) -> RobotSide:
    return RobotSide(**{"units": UNITS, "dt": 0.02, **changes})


def question(**changes: Any) -> bytes:
    images = {name: np.full((6, 8, 3), 10, np.uint8) for name in CAMERAS}
    return pack({"images": images, "state": [1.0, 2.0, 3.0], "prompt": "go", **changes})


def ask(url: str, message: bytes) -> Any:
    """The answer to one question of a client of openpi, which numbers none."""
    with connect(url, compression=None, proxy=None) as client:
        client.recv(PATIENCE)
        client.send(message)
        answer = client.recv(PATIENCE)
        return answer if isinstance(answer, str) else unpack(answer)


@pytest.fixture
def policy() -> StubPolicy:
    return StubPolicy()


@pytest.fixture
def url(policy: StubPolicy) -> Iterator[str]:
    with policy_server(policy) as url:
        yield url


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


def answer_of(remote: RemotePolicy) -> Any:
    try:
        return remote.infer(observation())
    except PolicyEnded:
        return None


def test_a_server_that_says_goodbye_is_left_and_another_asked_at_once() -> None:
    """As a fleet's replica does that is replaced: no observation is lost."""
    with policy_server() as url:
        remote = RemotePolicy(ServerLink(url), robot())
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
        begun = time.monotonic()
        wait_until(lambda: answer_of(remote), "an answer")
        attempts = remote.starts
        assert time.monotonic() - begun < 10 and attempts <= 8
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


# Clients that are no nodes ------------------------------------------------------------------------


def test_a_client_of_openpi_gets_openpis_answer(url: str) -> None:
    answer = ask(url, question())
    assert set(answer) == {"actions", "policy_timing", "server_timing"}
    assert answer["actions"].shape == (HORIZON, 3) and answer["actions"].dtype == np.float32
    assert answer["policy_timing"]["infer_ms"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xc1", "malformed request: not msgpack"),
        (b"", "malformed request"),
        (pack({"a": 1}), "neither state nor image"),
        (question(images={"front": np.zeros((4, 4, 3), np.uint8)}), "lacks the cameras"),
        (question(images={"front": b"GIF89a", "wrist": b""}), "expected a JPEG"),
        (question(images={"front": np.zeros((4, 4), np.uint8)}), "expected an image"),
        (question(state="x"), "state: expected an array of numbers"),
        (question(state=[1.0]), r"the state must be \[3\]"),
        (question(prompt=7), "prompt: expected text"),
        (question(pi0_ros={"id": "1"}), "number as id"),
    ],
)
def test_what_is_no_question_ends_the_connection_with_a_sentence(
    url: str, message: bytes, says: str
) -> None:
    with connect(url, compression=None, proxy=None) as client:
        client.recv(PATIENCE)
        client.send(message)
        text = client.recv(PATIENCE)
        assert isinstance(text, str) and re.search(says, text), text
        assert "Traceback" not in text and 'File "' not in text
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert client.close_code == 1011
    assert ask(url, question())["actions"].shape == (HORIZON, 3), "the next client is served"


def test_a_message_that_is_too_large_ends_the_connection() -> None:
    with policy_server(largest=10_000) as url, connect(url, proxy=None, compression=None) as client:
        client.recv(PATIENCE)
        client.send(b"x" * 20_000)
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert client.close_code == 1009


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("droid", {"observation/joint_position", "observation/gripper_position"}),
        ("libero", {"observation/state"}),
        ("aloha", {"state"}),
    ],
)
def test_keys_of_openpis_robots(kind: str, keys: set[str]) -> None:
    mapping = MAPPINGS[kind]
    cameras = tuple(mapping.images.values())
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 255, (6, 8, 3), np.uint8) for name in cameras}
    request = unpack(pack(mapping.request(images, np.arange(8.0), "go")))
    assert keys <= set(request)
    assert mapping.fits(request, cameras)
    back, state, prompt = mapping.read(request, cameras)
    assert prompt == "go" and state.tolist() == list(range(8))
    for name in cameras:
        np.testing.assert_array_equal(decode(back[name], name), images[name])


# Doors --------------------------------------------------------------------------------------------


def test_the_key_opens_and_nothing_else_does() -> None:
    with policy_server(key=KEY) as url:
        with pytest.raises(PolicyEnded, match="401; give its key as policy_key_file"):
            RemotePolicy(ServerLink(url), robot())
        for wrong in ("x", KEY + "x", KEY[:-1], "", "é"):
            with pytest.raises(PolicyEnded, match="401"):
                RemotePolicy(ServerLink(url, wrong), robot())
        remote = RemotePolicy(ServerLink(url, KEY), robot())
        assert remote.infer(observation()).sequence == 0
        remote.close()
        assert get(url, "/healthz") == (200, b"OK\n")
        assert get(url, "/metrics")[0] == 401
        status, text = get(url, "/metrics", KEY)
        assert status == 200 and b"pi0_inference_seconds_count 1.0" in text
        assert b'pi0_refused_total{reason="key"} ' in text


def test_a_page_in_a_browser_is_refused(url: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin="http://evil.example", proxy=None)


def test_more_clients_than_allowed_are_refused() -> None:
    with policy_server(most_clients=1) as url:
        remote = RemotePolicy(ServerLink(url), robot())
        with pytest.raises(PolicyEnded, match="503"):
            RemotePolicy(ServerLink(url), robot())
        remote.close()
        wait_until(lambda: _connects(url), "the place of the client that has gone")


def test_clients_admitted_at_once_are_not_more_than_allowed() -> None:
    """The key is checked before the greeting, so several may pass before the first counts."""
    with policy_server(most_clients=2) as url:
        host, port = url.removeprefix("ws://").split(":")
        ends = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(6)]
        for end in ends:
            end.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            )
        for end in ends:  # all at once: none is a client when the last is admitted
            end.sendall(b"\r\n")
        answers = [_words(end) for end in ends]
        greeted = [answer for answer in answers if b"horizon" in answer]
        refused = [a for a in answers if b"503" in a[:20] or b"too many clients" in a]
        assert len(greeted) == 2 and len(refused) == 4, answers
        for end in ends:
            end.close()


def _words(end: Any) -> bytes:
    """What a server says at first: up to its greeting, or its refusal."""
    heard = b""
    while not (b"horizon" in heard or b"too many clients" in heard):
        part = end.recv(1 << 16)
        assert part, heard
        heard += part
    return heard


def _connects(url: str) -> bool:
    try:
        RemotePolicy(ServerLink(url), robot()).close()
    except PolicyEnded:
        return False
    return True


def get(url: str, path: str, key: str = "") -> tuple[int, bytes]:
    client = http.client.HTTPConnection(url.removeprefix("ws://"), timeout=PATIENCE)
    client.request("GET", path, headers={"Authorization": f"Api-Key {key}"} if key else {})
    response = client.getresponse()
    return response.status, response.read()


# Servers that are not ours ------------------------------------------------------------------------


@pytest.fixture
def other_server() -> Iterator[Any]:
    """other_server(answer, metadata) -> URL of a server that gives these answers."""
    running = []

    def start(answer: Any, metadata: Any = None) -> str:
        def handle(client: Any) -> None:
            client.send(pack({} if metadata is None else metadata))
            for message in client:
                given = answer(unpack(message))
                client.send(given if isinstance(given, (bytes, str)) else pack(given))

        server = serve(handle, "127.0.0.1", 0, compression=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"ws://localhost:{server.socket.getsockname()[1]}"

    yield start
    for server in running:
        server.shutdown()


ACTIONS = np.ones((HORIZON, 3), np.float32)
OURS = {"pi0_ros": {"version": 1, "horizon": HORIZON, "device": "cpu"}}


def test_a_server_of_openpi_gets_openpis_keys(other_server: Any) -> None:
    seen = []
    url = other_server(lambda message: seen.append(message) or {"actions": ACTIONS})
    with pytest.raises(WrongPolicy, match="no `pi0 serve`; for an openpi server give policy_mapp"):
        RemotePolicy(ServerLink(url), robot())
    side = robot(mapping=MAPPINGS["libero"], horizon=HORIZON, delta_mask=[True, False, False])
    remote = RemotePolicy(ServerLink(url), side)
    images = dict.fromkeys(MAPPINGS["libero"].images.values(), np.zeros((480, 640, 3), np.uint8))
    chunk = remote.infer(observation(images=images))
    assert set(seen[0]) == {
        "observation/image", "observation/wrist_image", "observation/state", "prompt",
    }  # fmt: skip
    assert seen[0]["observation/image"].shape == (168, 224, 3)
    np.testing.assert_allclose(chunk.positions[0], [0.5 * (1 + 1) + 0.25, 1.0, 1.0])
    assert [remote.infer(observation(images=images)).sequence for _ in range(2)] == [1, 2]
    remote.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m: b"garbage", "malformed answer"),
        (lambda m: "Traceback ...\nValueError: no", "reports: Traceback"),
        (lambda m: {"actions": ACTIONS}, "another question"),
        (lambda m: {"actions": ACTIONS, "pi0_ros": {"id": m["pi0_ros"]["id"] - 1}}, "another"),
        (lambda m: {"actions": ACTIONS[:, :2], "pi0_ros": m["pi0_ros"]}, r"shape \[10, 2\]"),
        (lambda m: {"actions": "x", "pi0_ros": m["pi0_ros"]}, "array of numbers"),
        (lambda m: {"pi0_ros": m["pi0_ros"]}, "actions: expected"),
        (lambda m: {"pi0_ros": {**m["pi0_ros"], "error": 3}}, "an error without a text"),
    ],
)
def test_a_malformed_answer_ends_the_connection(other_server: Any, answer: Any, says: str) -> None:
    good = [True, False, True, True]

    def reply(message: Any) -> Any:
        own = message["pi0_ros"]
        return {"actions": ACTIONS, "pi0_ros": own} if good.pop(0) else answer(message)

    remote = RemotePolicy(ServerLink(other_server(reply, OURS)), robot())
    remote.infer(observation())
    with pytest.raises((PolicyEnded, RemoteError), match=says):
        remote.infer(observation())
    assert wait_until(lambda: answer_of(remote), "the next answer").sequence == 0
    assert remote.starts == 2
    remote.close()


@pytest.mark.parametrize(
    "metadata",
    [
        {"pi0_ros": 3},
        {"pi0_ros": {"version": 2, "horizon": 5, "device": "cpu"}},
        {"pi0_ros": {"version": 1, "horizon": -1, "device": "cpu"}},
        {"pi0_ros": {"version": 1, "horizon": 5, "device": "cpu", "card": {"joints": 1}}},
        {"pi0_ros": {"version": 1, "horizon": 5, "device": "cpu", "card": [1]}},
    ],
)
def test_a_malformed_greeting_is_refused(other_server: Any, metadata: Any) -> None:
    with pytest.raises(WrongPolicy, match="what the server says of itself is malformed"):
        RemotePolicy(ServerLink(other_server(lambda m: {}, metadata)), robot())


def test_a_card_survives_the_way() -> None:
    declared = Declared(("a", "b", "c"), "s", 30.0, "s: fps", (1.0, 2.0, 3.0), (0.0, 0.0, 1.0))
    told = card(action_mode="delta", delta_mask=(True, True, False), declared=declared)
    sent = unpack(pack(told.to_document()))
    back = PolicyCard.from_document(sent, "s")
    assert back.declared == declared and back.delta_mask == told.delta_mask
    assert back.to_document() == told.to_document()


# Several robots -----------------------------------------------------------------------------------


class BatchingPolicy(StubPolicy):
    """Notes the sizes of batches; the first inference waits until it may go on."""

    batch_sizes = (1, 2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.before = self._first

    def _first(self, _: Observation) -> None:
        self.sizes.append(1)
        self.begun.set()
        assert self.go_on.wait(PATIENCE)

    def infer_batch(self, requests: list[Any]) -> list[Any]:
        before, self.before = self.before, lambda _: None
        try:
            chunks = [self.infer(r.observation, sequence=r.sequence) for r in requests]
        finally:
            self.before = before
        self.sizes.append(len(requests))
        return chunks


def test_what_waits_shares_the_next_inference_and_what_is_wrong_spoils_nothing() -> None:
    policy = BatchingPolicy()
    with policy_server(policy) as url:
        remotes = [RemotePolicy(ServerLink(url), robot()) for _ in range(6)]
        dead = RemotePolicy(ServerLink(url), robot())
        answers: dict[int, Any] = {}

        def infer(number: int) -> None:
            seen = observation(10 * number)
            if number == 3:
                seen = observation(images={"front": np.zeros((4, 4, 3), np.uint8)})
            try:
                answers[number] = remotes[number].infer(seen)
            except RemoteError as error:
                answers[number] = error

        threads = [threading.Thread(target=infer, args=(n,)) for n in range(6)]
        threads[0].start()
        assert policy.begun.wait(PATIENCE), "the first begins at once, and alone"
        gone = threading.Thread(target=answer_of, args=(dead,))
        gone.start()
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: get_waiting(url) == 7, "all questions at the server")
        dead.kill()
        gone.join(PATIENCE)
        policy.go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert isinstance(answers.pop(3), RemoteError)
        for number, chunk in answers.items():
            assert chunk.positions[0, 2] == 3 + 10 * number and chunk.sequence == 0
        assert max(policy.sizes) >= 2
        for remote in remotes:
            remote.close()


def get_waiting(url: str) -> int:
    text = get(url, "/metrics")[1].decode()
    return int(float(re.search(r"^pi0_questions (\S+)", text, re.M)[1]))


def test_a_costly_image_holds_nobody_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG is decoded beside the loop that serves all clients."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(sent: Any, camera: str) -> Any:
        if isinstance(sent, bytes):
            begun.set()
            assert go_on.wait(PATIENCE)
        return decode(sent, camera)

    monkeypatch.setattr(images, "decode", slow)
    first, second = (RemotePolicy(ServerLink(url), robot(images=i)) for i in ("jpeg", "fitted"))
    waits = threading.Thread(target=first.infer, args=(observation(),))
    waits.start()
    assert begun.wait(PATIENCE)
    assert [second.infer(observation()).sequence for _ in range(3)] == [0, 1, 2]
    go_on.set()
    waits.join(PATIENCE)
    assert not waits.is_alive()
    first.close(), second.close()


def test_one_that_reads_no_answers_holds_nobody_up(url: str) -> None:
    with connect(url, compression=None, proxy=None, max_queue=1) as slow:
        slow.recv(PATIENCE)
        for _ in range(3):
            slow.send(question())
        remote = RemotePolicy(ServerLink(url), robot())
        assert [remote.infer(observation()).sequence for _ in range(5)] == list(range(5))
        remote.close()


def test_one_that_wants_no_answer_any_more_does_not_end_the_engine() -> None:
    """A server of another kind (Ray's) cancels what its client, which has gone, waits for."""
    policy = StubPolicy()
    begun, go_on = threading.Event(), threading.Event()
    policy.before = lambda _: (begun.set(), go_on.wait(PATIENCE))
    engine = Engine(lambda: (policy, None), lambda *_: None)
    first, waits, last = (
        engine.infer(Episode(), Observation(observation().images, np.zeros(3), "go"), None, yes)
        for yes in [lambda: True] * 3
    )
    assert begun.wait(PATIENCE)
    first.cancel()
    assert waits.cancel()
    go_on.set()
    assert last.result(PATIENCE).positions.shape == (HORIZON, 3)
    engine.close(PATIENCE)


def test_a_card_of_another_horizon_is_refused() -> None:
    with (
        policy_server(StubPolicy(), card(horizon=HORIZON + 1)) as url,
        pytest.raises(WrongPolicy, match="its card says 11"),
    ):
        RemotePolicy(ServerLink(url), robot())
