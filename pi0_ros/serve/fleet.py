"""`pi0 serve --ray`: the policy as a deployment of Ray Serve, replicas over cards and machines.

A connection stays with the replica that took it, and so do a robot's episode and its batches. A
replica that is replaced dismisses its robots once their questions are answered, and they connect
again, to another.
"""

import argparse
import asyncio
import contextlib
import os
import time
from typing import Any

import ray
from fastapi import FastAPI, Request, Response, WebSocket
from ray import serve
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from pi0_ros import console
from pi0_ros.errors import UserError
from pi0_ros.serve.engine import Engine
from pi0_ros.serve.metrics import CONTENT_TYPE, Metrics
from pi0_ros.serve.options import load, server_options
from pi0_ros.serve.server import PolicyServer

LOCAL = "local"
"""Address that starts a Ray on this machine's loopback, for as long as the command runs."""

_NAME = "pi0"
_HEALTH_PERIOD = 0.5  # seconds from one health check to the next
_SILENCE = 3.0  # seconds without one after which a replica takes itself for one that is to end
_DRAIN = 15.0  # seconds that it then goes on at most
_APP = FastAPI()


class FleetError(UserError, RuntimeError):
    """Ray cannot be reached, or no replica could load the policy."""


class Client:
    """A WebSocket of Starlette with what `PolicyServer` uses of a connection of websockets."""

    def __init__(self, socket: WebSocket, largest: int) -> None:
        self._socket, self._largest = socket, largest
        self.state = State.OPEN
        self.remote_address = (socket.client.host, socket.client.port) if socket.client else "?"

    async def send(self, data: bytes | str) -> None:
        send = self._socket.send_text if isinstance(data, str) else self._socket.send_bytes
        try:
            await send(data)
        except (WebSocketDisconnect, RuntimeError) as error:
            self.state = State.CLOSED
            raise ConnectionClosed(None, None) from error

    async def close(self, code: int, reason: str) -> None:
        self.state = State.CLOSED
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone
            await self._socket.close(code, reason)

    def __aiter__(self) -> "Client":
        return self

    async def __anext__(self) -> bytes | str:
        message = await self._socket.receive()
        data = message.get("bytes")
        data = message.get("text") if data is None else data
        if message["type"] == "websocket.disconnect" or data is None:
            self.state = State.CLOSED
            raise StopAsyncIteration
        if len(data) > self._largest:
            await self.close(1009, "too large")
            raise StopAsyncIteration
        return data


@serve.deployment(name=_NAME)
@serve.ingress(_APP)
class Replica:
    """A policy on one card; ready once it is warm."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        args = argparse.Namespace(**arguments)
        self._options, self._metrics = server_options(args), Metrics()
        engine = Engine(lambda: load(args), self._metrics.on_batch)
        self._server = PolicyServer(engine, self._options, self._metrics)
        engine.loaded.result()
        self._checked, self._silent = time.monotonic(), False
        self._watching: asyncio.Task[None] | None = None

    def check_health(self) -> None:
        """Called by Ray Serve, which does so for every replica but those that it is to end."""
        self._checked = time.monotonic()

    async def _watch(self) -> None:
        """Dismiss the clients when Ray is about to end this replica, of which it tells nothing.

        If it was only busy they come back.
        """
        while True:
            await asyncio.sleep(_HEALTH_PERIOD)
            was_silent, self._silent = self._silent, time.monotonic() - self._checked > _SILENCE
            if self._silent and not was_silent:
                await self._server.dismiss("another replica serves")

    @_APP.get("/healthz")
    async def healthz(self) -> Response:
        return Response("OK\n")

    @_APP.get("/metrics")
    async def metrics(self, request: Request) -> Response:
        if not self._server.has_key(request.headers.getlist("authorization")):
            return Response("a wrong key, or none\n", 401)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    @_APP.websocket("/")
    async def converse(self, socket: WebSocket) -> None:
        """Until the client has gone; not for one without the key, or a page in a browser."""
        headers = socket.headers
        if "origin" in headers or not self._server.has_key(headers.getlist("authorization")):
            await socket.close(1008)
            return
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        await socket.accept()
        await self._server.serve_client(Client(socket, self._options.largest))


def run_fleet(args: argparse.Namespace) -> int:
    """Deploy the replicas; an application that runs already is replaced, replica by replica.

    Returns when all are warm: they stay, until `serve shutdown`. With a local Ray it waits for a
    signal and ends them.

    Raises:
        FleetError: there is no Ray at the address, or the policy cannot be loaded.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    address: dict[str, Any] = {"address": args.ray}
    if args.ray == LOCAL:
        address = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(log_to_driver=False, **address)
    except Exception as error:  # Ray raises plain ones, too
        raise FleetError(f"--ray {args.ray}: {error}") from error
    resources = {"num_cpus": max(1, args.threads), "resources": dict(args.ray_resource)}
    if args.device.startswith("cuda"):
        resources["num_gpus"] = 1
    deployment = Replica.options(
        num_replicas=args.replicas,
        ray_actor_options=resources,
        max_ongoing_requests=args.clients,
        health_check_period_s=_HEALTH_PERIOD,
        graceful_shutdown_wait_loop_s=_HEALTH_PERIOD,
        graceful_shutdown_timeout_s=_DRAIN,
    )
    try:
        serve.start(http_options={"host": args.host, "port": args.port})
        serve.run(deployment.bind(vars(args)), name=_NAME, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise FleetError(f"--ray {args.ray}: no replica serves: {error}") from error
    print(f"serving on ws://{args.host}:{args.port}: {args.replicas} replicas", flush=True)
    if args.ray == LOCAL:
        with contextlib.suppress(KeyboardInterrupt), console.deferred_signals() as stopped:
            while not stopped():
                time.sleep(0.1)
        serve.shutdown()
        ray.shutdown()
    return console.DONE
