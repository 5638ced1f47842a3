"""openpi's policy protocol over WebSocket: metadata first, then a chunk for each observation.

Clients of this package send the map `pi0_ros` beside openpi's keys, and get it back: the number of
the question, so that no answer is taken for another's, and what else `ActionChunk` has. Whoever
reaches the port may send anything; docs/security.md says what is done about it.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.serve.engine import Engine, Episode
from pi0_ros.serve.images import decode_all, is_costly
from pi0_ros.serve.mapping import MAPPINGS, OWN, KeyMapping
from pi0_ros.serve.metrics import CONTENT_TYPE, Metrics
from pi0_ros.serve.shared_images import SharedImages
from pi0_ros.serve.wire import MAX_MESSAGE, WireError, numbers, pack, unpack

VERSION = 1
"""Of the map `pi0_ros`."""

LOG = logging.getLogger("pi0_serve")
_HANDSHAKES = logging.getLogger("pi0_serve.websockets")

_TEXT = 2000  # characters of an error
_DRAIN = 5.0  # seconds that running inferences get to end when the server stops
_STOPS = "the server stops"


@dataclass(frozen=True)
class ServerOptions:
    """How a server is reached.

    Attributes:
        key: what clients have to send as `Authorization: Api-Key <key>`; "" for none.
        tls: for wss; None: ws.
        most_clients: connections at a time.
        largest: bytes of a message.
        mapping: keys of other clients, tried before those of `MAPPINGS`.
        default_prompt: where a request has none.
        trusted: the one client has started this process: it gets the text of every error, and the
            server stops when it has gone.
    """

    key: str = ""
    tls: ssl.SSLContext | None = None
    most_clients: int = 16
    largest: int = MAX_MESSAGE
    mapping: KeyMapping | None = None
    default_prompt: str = ""
    trusted: bool = False


class PolicyServer:
    """Serves the policy of an engine to several clients."""

    def __init__(
        self,
        engine: Engine,
        options: ServerOptions,
        metrics: Metrics,
        images: SharedImages | None = None,
    ) -> None:
        """`images`: memory that the only client shares."""
        self._engine, self._options, self._metrics = engine, options, metrics
        self._images = images
        self._mappings = [OWN, *MAPPINGS.values()]
        if options.mapping is not None:
            self._mappings.insert(0, options.mapping)
        self._clients: dict[ServerConnection, bool] = {}
        """Connection -> whether a question of it is being answered."""
        self._dismissed: set[ServerConnection] = set()
        self._stopping = False
        # A client waits for its answer, so none ever waits for the decoding of another's images.
        self._decoders = ThreadPoolExecutor(options.most_clients, "pi0-decoder")

    # Life ---------------------------------------------------------------------------------------

    async def run(
        self, stop: asyncio.Event, on_ready: Callable[[Server], None] = lambda _: None, **where: Any
    ) -> None:
        """Serve until `stop` is set; then let running inferences end.

        Args:
            on_ready: called when the port is open.
            where: `host` and `port`, or `sock` of a Unix socket that listens.
        """
        self._stop = stop
        listen = unix_serve if "sock" in where else serve
        if self._options.tls is not None:
            where["ssl"] = self._options.tls
        async with listen(
            self.serve_client,
            **where,
            compression=None,
            # A page in a browser on this machine could reach the loopback; it always says from
            # where it comes.
            origins=[None],
            max_size=self._options.largest,
            max_queue=1,
            process_request=self._admit,
            server_header=None,
            close_timeout=2.0,
            # A process of the client's own is watched by its exit, and busy while it infers.
            ping_interval=None if self._options.trusted else 20.0,
            logger=_HANDSHAKES,
        ) as server:
            on_ready(server)
            await stop.wait()
            self._stopping = True
            server.close(close_connections=False)
            await self.dismiss()
            end = time.monotonic() + _DRAIN
            while self._clients and time.monotonic() < end:
                await asyncio.sleep(0.01)

    async def dismiss(self, reason: str = _STOPS) -> None:
        """Have the clients go elsewhere, each once its question is answered."""
        self._dismissed |= set(self._clients)
        idle = [client for client, busy in self._clients.items() if not busy]
        # At once: each may take its time to say goodbye, or have gone.
        closing = (client.close(CloseCode.GOING_AWAY, reason) for client in idle)
        await asyncio.gather(*closing, return_exceptions=True)

    def _admit(self, client: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; refuse those without the key, and too many."""
        if request.path == "/healthz":
            return client.respond(http.HTTPStatus.OK, "OK\n")
        if not self.has_key(request.headers.get_all("Authorization")):
            self._metrics.refused.labels("key").inc()
            return client.respond(http.HTTPStatus.UNAUTHORIZED, "a wrong key, or none\n")
        if request.path == "/metrics":
            body = self._metrics.text()
            length = str(len(body))
            headers = Headers({"Content-Type": CONTENT_TYPE, "Content-Length": length})
            headers["Connection"] = "close"
            return Response(200, "OK", headers, body)
        if len(self._clients) >= self._options.most_clients or self._stopping:
            self._metrics.refused.labels("clients").inc()
            return client.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    def has_key(self, sent: Sequence[str]) -> bool:
        """Whether the headers Authorization have the key; in the same time whatever was sent."""
        if not self._options.key:
            return True
        wanted = f"Api-Key {self._options.key}".encode()
        given = sent[0] if len(sent) == 1 else ""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted)

    # Clients ------------------------------------------------------------------------------------

    async def serve_client(self, client: ServerConnection) -> None:
        """Greet a client and answer it until it has gone."""
        if len(self._clients) >= self._options.most_clients:  # several were admitted at once
            self._metrics.refused.labels("clients").inc()
            await client.close(CloseCode.TRY_AGAIN_LATER, "too many clients")
            return
        self._clients[client] = False
        self._metrics.clients.inc()
        LOG.info("client %s connected", _address(client))
        try:
            await self._converse(client)
        except ConnectionClosed:
            pass
        finally:
            del self._clients[client]
            self._dismissed.discard(client)
            self._metrics.clients.dec()
            if self._options.trusted:
                self._stop.set()
            LOG.info("client %s has gone", _address(client))

    async def _converse(self, client: ServerConnection) -> None:
        try:
            policy = await asyncio.wrap_future(self._engine.loaded)
        except Exception as error:
            await client.send(pack({"pi0_ros": {"error": self._described(error)}}))
            return
        about = {"version": VERSION, "horizon": policy.horizon, "device": policy.device}
        about["rtc_max_delay"] = getattr(policy, "rtc_max_delay", 0)
        if self._engine.card is not None:
            about["card"] = self._engine.card.to_document()
        await client.send(pack({"pi0_ros": about}))
        episode, before = Episode(), None
        async for frame in client:
            begun = time.monotonic()
            self._clients[client] = True
            answer = await self._answer(frame, episode, client, before)
            if isinstance(answer, str):  # openpi's form of an error
                await client.send(answer)
                await client.close(CloseCode.INTERNAL_ERROR, "see the text before")
                return
            await client.send(answer)
            before = time.monotonic() - begun
            self._clients[client] = False
            if client in self._dismissed or self._stopping:
                await client.close(CloseCode.GOING_AWAY, _STOPS)
                return

    async def _answer(
        self, frame: bytes | str, episode: Episode, client: ServerConnection, before: float | None
    ) -> bytes | str:
        """The answer to a frame, or as text why there is none and the connection ends."""
        try:
            request = unpack(frame)
            own = request.get("pi0_ros")
            number = _number(own)
            if own is not None and own.get("reset") is True:
                episode.sequence = 0
        except WireError as error:
            self._metrics.refused.labels("malformed").inc()
            return f"malformed request: {error}"[:_TEXT]
        begun = time.monotonic()
        try:
            prefix = _prefix(own)

            def wanted() -> bool:
                return client.state is State.OPEN

            with self._metrics.questions.track_inprogress():
                observation = await self._observation(request)
                answer = self._engine.infer(episode, observation, prefix, wanted)
                chunk = answer.result() if answer.done() else await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            described = self._described(error)
            self._metrics.refused.labels("failed").inc()
            if own is None:
                return described["text"]
            return pack({"pi0_ros": {"id": number, "error": described}})
        seconds = time.monotonic() - begun
        answer = {
            "actions": chunk.positions,
            "policy_timing": {"infer_ms": chunk.inference_time * 1e3},
            "server_timing": {"infer_ms": seconds * 1e3},
        }
        if before is not None:
            answer["server_timing"]["prev_total_ms"] = before * 1e3
        if own is not None:
            answer["pi0_ros"] = {"id": number, **_facts(chunk)}
        return pack(answer)

    async def _observation(self, request: Mapping[str, Any]) -> Observation:
        """What a request has of images, state and prompt; units are the checkpoint's."""
        if self._options.default_prompt:
            request = {"prompt": self._options.default_prompt, **request}
        cameras = () if self._engine.card is None else self._engine.card.served
        mapping = next((m for m in self._mappings if m.fits(request, cameras)), None)
        if mapping is None:
            keys = sorted(request)[:20]
            raise WireError(f"neither state nor image of {list(cameras)} is among the keys {keys}")
        sent, state, prompt = mapping.read(request, cameras)
        if self._images is not None:
            images = self._images.read(request["shared_images"])
        elif any(map(is_costly, sent.values())):  # in a thread: it would hold up all clients
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._decoders, decode_all, sent)
        else:
            images = decode_all(sent)
        return Observation(images, state, prompt)

    def _described(self, error: BaseException) -> dict[str, Any]:
        """An error for the client: what it can mend in full, of others the kind alone."""
        is_value_error = isinstance(error, ValueError)
        if not is_value_error:
            LOG.error("%s: %s", type(error).__name__, error, exc_info=error)
        text = str(error)
        if not (is_value_error or self._options.trusted):
            text = f"the inference failed ({type(error).__name__}); the server's log has more"
        return {
            "type": type(error).__name__,
            "text": text[:_TEXT],
            "is_value_error": is_value_error,
        }


def _number(own: Any) -> int | None:
    """The number of a question; None for a client that numbers none."""
    if own is None:
        return None
    number = own.get("id") if isinstance(own, dict) else None
    if type(number) is not int:
        raise WireError("pi0_ros: expected a map with the question's number as id")
    return number


def _prefix(own: Any) -> ActionPrefix | None:
    """What the chunk is to agree with, which only clients of this package send."""
    sent = None if own is None else own.get("prefix")
    if sent is None:
        return None
    if not isinstance(sent, dict):
        raise WireError("prefix: expected a map")
    delay, most = sent.get("delay"), sent.get("max_weight")
    if type(delay) is not int or type(most) is not float:
        raise WireError("prefix: expected a whole number as delay, and a number as max_weight")
    return ActionPrefix(
        numbers(sent.get("positions"), "prefix positions", ndim=2).astype(np.float32),
        numbers(sent.get("weights"), "prefix weights", ndim=1).astype(np.float32),
        delay,
        most,
    )


def _facts(chunk: ActionChunk) -> dict[str, Any]:
    """What openpi's answers do not have."""
    return {
        "sequence": int(chunk.sequence),
        "seed": int(chunk.seed),
        "stages": {name: float(seconds) for name, seconds in chunk.stage_times.items()},
    }


def _without_traceback(record: logging.LogRecord) -> bool:
    """A line for what is no handshake: anybody can send that, and as often as they like."""
    if record.exc_info and record.msg == "opening handshake failed":
        record.msg, record.exc_info = f"{record.msg}: {record.exc_info[1]}", None
    return True


_HANDSHAKES.addFilter(_without_traceback)


def _address(client: ServerConnection) -> str:
    address = client.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "on a Unix socket"
