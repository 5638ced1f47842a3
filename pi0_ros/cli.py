"""The command `pi0 <verb>`: verbs are imported when they are called; errors and signals, once.

A verb is a module with a docstring, which `--help` shows, `add_arguments(parser)` and `run(args) ->
int`, the exit status; optionally EPILOG, JSON_KEYS (key -> meaning, of `--json`), and
`check(parser, args)`, which calls `parser.error` for arguments that contradict each other. Its top
imports nothing heavy, so that `pi0 <verb> --help` answers at once. docs/commands.md is made of it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import FrameType, ModuleType
from typing import NoReturn

from pi0_ros import console
from pi0_ros.errors import UserError
from pi0_ros.share import find_shared_file

VERBS = {
    "doctor": ("pi0_ros.doctor.command", "check a robot, or a bag of it, before the arm moves"),
    "replay": ("pi0_ros.replay.command", "play a bag to the node, or step through it"),
    "diff": ("pi0_ros.diff.command", "compare two replays"),
    "eval": ("pi0_ros.eval.command", "predictions against what the robot did"),
    "view": ("pi0_ros.view.command", "bag or robot, arm and predictions in a browser"),
    "compile": ("pi0_ros.compile.command", "compile a checkpoint's graphs ahead of time"),
    "profile": ("pi0_ros.profile.command", "where the time of an inference goes"),
    "check": ("pi0_ros.check.command", "whether a device computes pi0 correctly, and how fast"),
    "serve": ("pi0_ros.serve.command", "a policy for robots on other machines"),
    "convert": ("pi0_ros.convert.command", "a checkpoint as one directory, or bags as a data set"),
    "demo": ("pi0_ros.demo.command", "a simulated arm that does what it is told"),
}
"""Verb -> its module and what it does in a few words."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    _top_parser().parse_args(argv[:1])  # ends for --help, --version and unknown verbs
    verb = argv[0]
    return call(f"pi0 {verb}", VERBS[verb][0], argv[1:])


def call(name: str, module: str | ModuleType, argv: Sequence[str]) -> int:
    """Run a command; returns its exit status. Errors for the user and signals end here.

    Args:
        name: of the command, such as `pi0 doctor`.
        module: of the command, or its dotted name; see above.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if isinstance(module, str):
            module = importlib.import_module(module)
        parser = make_parser(name, module)
        args = parser.parse_args(argv)
        if hasattr(module, "check"):
            module.check(parser, args)
        status = module.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return console.INTERRUPTED
    except ModuleNotFoundError as error:
        advice = console.missing(error.name or "")
        if advice is None:
            raise
        print(f"{name}: {advice}", file=sys.stderr)
        return console.FAILED
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            return console.FAILED
        print(f"{name}: {_sentence(error)}", file=sys.stderr)
        return console.FAILED
    finally:
        signal.signal(signal.SIGTERM, before)


def make_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    description = (module.__doc__ or "").strip().removeprefix(f"{name}: ")
    keys = getattr(module, "JSON_KEYS", {})
    parts = [getattr(module, "EPILOG", "").strip(), _json_keys(keys) if keys else ""]
    parser = argparse.ArgumentParser(
        prog=name,
        description=description[:1].upper() + description[1:],
        epilog="\n\n".join(filter(None, parts)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _json_keys(keys: Mapping[str, str]) -> str:
    width = min(24, max(map(len, keys)))
    indent = " " * (width + 4)
    lines = ["keys of --json:"]
    for key, meaning in keys.items():
        wrapped = textwrap.wrap(meaning, 98, initial_indent=indent, subsequent_indent=indent)
        if len(key) <= width:
            lines.append(f"  {key:{width}}  {wrapped.pop(0).strip()}")
        else:
            lines.append(f"  {key}")
        lines += wrapped
    return "\n".join(lines)


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="pi0",
        description="The pi0 vision-language-action model: on a robot, on recordings, alone.",
        usage="pi0 VERB [options]",
        epilog="verbs:\n"
        + "\n".join(f"  {verb:{width}}  {text}" for verb, (_, text) in VERBS.items())
        + "\n\npi0 VERB --help explains one. The node itself is pi0_node, the simulated robot"
        " pi0_sim,\nthe markers for RViz pi0_viz.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version, and whether ROS 2 is there"
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=argparse.SUPPRESS)
    return parser


class _Version(argparse.Action):
    """Which version this is, and whether it can talk to ROS."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("pi0_ros")
        except metadata.PackageNotFoundError:  # built by colcon
            manifest = find_shared_file("package.xml")
            text = manifest.read_text(encoding="utf-8") if manifest else "<version>?</version>"
            version = text.partition("<version>")[2].partition("<")[0]
        try:
            console.require("rclpy", "pi0_ros.msg")
            ros = "with ROS 2"
        except UserError:
            ros = "without ROS 2"
        print(f"pi0_ros {version}, {ros}")
        parser.exit()


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        names = " -> ".join(str(n) for n in (error.filename, error.filename2) if n is not None)
        return f"{names}: {error.strerror}" if names else error.strerror
    return str(error)


def _stdout_is_closed() -> bool:
    """Whether nobody reads stdout any more, as after `pi0 VERB | head`. It is discarded then: the
    interpreter would try once more to write what is left, and complain.
    """
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, OSError):  # not a file, as in tests
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    if not poll.poll(0):  # POLLERR or POLLHUP
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
