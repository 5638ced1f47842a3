"""pi0 serve: a checkpoint for robots on other machines, over openpi's WebSocket protocol.

Loads a checkpoint and answers the node (parameter policy_url) and any client of openpi. It listens
on the loopback; for other machines give --host, a key and, on a network that others use, TLS.
GET /healthz says OK once the policy is warm, GET /metrics has figures for Prometheus.
docs/remote.md shows both sides, docs/security.md what the key and TLS give.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import signal
from functools import partial
from pathlib import Path

from pi0_ros import console
from pi0_ros.errors import UserError

PORT = 8000
"""As openpi's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    from pi0_ros.profile.load_options import add_load_options

    console.add_checkpoint(parser)
    add_load_options(parser)
    add, number = parser.add_argument, partial(console.add_number, parser)
    add("--cache", type=Path, metavar="DIR", help="compiled graphs, of `pi0 compile`")
    add("--threads", type=console.count(), default=0, metavar="N", help="CPU threads; 0: all cores")
    number("--seed", "N", console.count(), 0, "of the noise")
    add("--asset", default="", metavar="NAME", help="of an openpi checkpoint's statistics")
    add("--horizon", type=console.count(), default=0, metavar="N", help="where none is recorded")
    add("--base", type=Path, metavar="DIR", help="checkpoint that an adapter was trained on")
    text = "where the checkpoint does not say (openpi)"
    add("--action-mode", choices=("absolute", "delta"), help=text)
    text = "with --action-mode delta: numbers, from 0, of the joints whose actions are relative"
    add("--delta", nargs="+", type=int, metavar="I", help=text)
    text = "pi0.5 of openpi: whether the state stands in the prompt"
    add("--discrete-state-input", choices=("prompt", "none"), help=text)
    text = "with --rtc trained: steps; 0: what the checkpoint says"
    add("--rtc-max-delay", type=console.count(), default=0, metavar="N", help=text)
    add("--action-dt", type=float, default=0.0, metavar="S", help="seconds between two actions")
    add("--host", default="127.0.0.1", help="address to listen on (default: the loopback)")
    add("--port", type=console.count(), default=PORT, help=f"0: any (default: {PORT})")
    add("--api-key-file", type=Path, metavar="FILE", help="key that clients have to send")
    text = "let everybody in who reaches an address other than the loopback"
    add("--no-key", action="store_true", help=text)
    add("--tls-cert", type=Path, metavar="FILE", help="certificate (chain) in PEM: serve wss")
    add("--tls-key", type=Path, metavar="FILE", help="its private key in PEM")
    add("--mapping", metavar="NAME", help="YAML file with the keys of another kind of client")
    add("--prompt", default="", metavar="TEXT", help="instruction of clients that send none")
    number("--clients", "N", console.count(1), 16, "at a time")
    text = "most robots in one inference; graphs are compiled for 1, 2, 4 ..."
    number("--batch", "N", console.count(1), 8, text)
    add("--ray", metavar="ADDRESS", help="as a Ray Serve deployment: host:port, auto, or local")
    number("--replicas", "N", console.count(1), 1, "with --ray")
    text = "that each replica takes, such as NPU=1; may be given again"
    resource = {"metavar": "NAME=N", "type": _resource, "action": "append", "default": []}
    add("--ray-resource", **resource, help=text)
    number("--max-message", "MIB", console.count(1), 32, "largest message, in MiB")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End where options do not fit each other."""
    if (args.tls_cert is None) != (args.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    if (args.action_mode == "delta") != (args.delta is not None):
        parser.error("--delta goes with --action-mode delta, and only with it")
    if args.ray and args.tls_cert:
        parser.error("--ray: Ray's proxy has no TLS; put a proxy that has it in front")
    if not (_is_loopback(args.host) or args.api_key_file or args.no_key):
        parser.error(
            f"--host {args.host}: other machines reach it; give --api-key-file (or --no-key)"
        )


def run(args: argparse.Namespace) -> int:
    """Load, serve until a signal comes, and let running inferences end."""
    console.require("websockets", "msgpack", "prometheus_client")
    if args.ray:
        console.require("ray", "fastapi")
        from pi0_ros.serve.fleet import run_fleet

        return run_fleet(args)
    from pi0_ros.serve.engine import Engine
    from pi0_ros.serve.metrics import Metrics
    from pi0_ros.serve.options import load, server_options
    from pi0_ros.serve.server import PolicyServer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("pi0_serve.websockets").setLevel(logging.WARNING)
    options, metrics = server_options(args), Metrics()
    engine = Engine(lambda: load(args), metrics.on_batch)
    asyncio.run(_serve(args, engine, PolicyServer(engine, options, metrics)))
    engine.close(1.0)
    return console.DONE


async def _serve(args: argparse.Namespace, engine: object, server: object) -> None:
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loading = True

    def on_signal() -> None:
        stop.set()
        if loading:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        policy = await asyncio.wrap_future(engine.loaded)
    except asyncio.CancelledError:
        return
    except ValueError as error:  # the checkpoint is broken, or does not fit the options
        raise UserError(str(error)) from error
    loading = False

    def on_ready(opened: object) -> None:
        scheme = "ws" if args.tls_cert is None else "wss"
        for socket in opened.sockets:
            host, port = socket.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            print(f"serving on {scheme}://{host}:{port}", flush=True)

    names = list(engine.card.served)
    print(f"{args.checkpoint} on {policy.device}: cameras {names}, {engine.card.joints} joints")
    await server.run(stop, on_ready, host=args.host, port=args.port)


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=N, got {text}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
