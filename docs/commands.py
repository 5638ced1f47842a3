"""Writes docs/commands.md from the parsers of the commands: `make docs`."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import textwrap
from collections.abc import Iterator

from pi0_ros import cli

HEAD = """\
# Commands

Written by `make docs` from what `pi0 VERB --help` shows. Where colcon built the package, the
programs run as `ros2 run pi0_ros pi0 VERB`, `ros2 run pi0_ros pi0_node` and so on.

Exit status of every verb: 0 when it is done; 1 when it failed, or judged something as bad; 2 for
wrong arguments; 130 after Ctrl-C or SIGTERM. Progress bars appear on a terminal only. Results of an
earlier run in `--out` are replaced only with `--overwrite`, and nothing else there ever is.
"""

EXECUTABLES = """
## pi0_node
The managed ROS 2 node. Parameters are in [`config/pi0.yaml`](../config/pi0.yaml); topics and
services are in [topics.md](topics.md) and in `pi0_node --help`.

    pi0_node --ros-args --params-file my_arm.yaml -p checkpoint:=/data/pi0 -p autostart:=true

| transition | what it does |
|---|---|
| configure | preflight, loads, compiles, warms up; refuses with one list of everything wrong |
| activate | subscribes, ticks, publishes chunks; with `start_enabled`, trajectories too |
| deactivate | publishes nothing new, at once; the executing trajectory is finished |
| cleanup | frees the policy's memory |

Without `autostart` it waits for these (`ros2 lifecycle set /pi0 configure`, a lifecycle manager, or
the launch file). With it the node tries every 5 s until it works, and /diagnostics and the log say
why not. `~/enable` with false slows an executing trajectory to a stop; deactivate does so where it
ends a goal of ~/run_policy.

SIGINT and SIGTERM end it with status 0, in every state; unusable parameters with status 1 and one
message that lists them.

## pi0_sim
The simulated robot as a node: [simulation.md](simulation.md).

## pi0_viz
Markers, path and ghost robot for RViz, made of what the node publishes: [looking.md](looking.md).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for verb, (name, _) in cli.VERBS.items():
        module = importlib.import_module(name)
        parser = cli.make_parser(f"pi0 {verb}", module)
        parts += section(parser, getattr(module, "EPILOG", ""), level=2)
        if keys := getattr(module, "JSON_KEYS", {}):
            parts.append("\n| key of `--json` | meaning |\n|---|---|\n")
            parts += [f"| {_code(key)} | {meaning} |\n" for key, meaning in keys.items()]
    return "".join([*parts, EXECUTABLES])


def section(parser: argparse.ArgumentParser, epilog: str, level: int) -> Iterator[str]:
    """A parser: what it does, its arguments, its own verbs, and what the epilog adds."""
    yield f"\n{'#' * level} {parser.prog}\n{_text(parser.description or '')}\n"
    actions = [action for action in parser._actions if action.dest != "help"]
    required = [_spelled(a) for a in actions if not a.option_strings or a.required]
    optional = ["[options]"] if len(required) < len(actions) else []
    yield f"\n    {' '.join([parser.prog, *required, *optional])}\n"
    verbs = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    if len(verbs) < len(actions):
        yield "\n| argument | meaning |\n|---|---|\n"
    for action in actions:
        if action not in verbs:
            name = _spelled(action).replace("|", r"\|")
            meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
            yield f"| `{name}` | {_text(meaning)} |\n"
    for action in verbs:
        for sub in action.choices.values():
            yield from section(sub, sub.epilog or "", level + 1)
    for paragraph in filter(None, epilog.strip().split("\n\n")):
        title, _, lines = paragraph.partition(":")
        if title in ("example", "examples"):
            yield "\n" + textwrap.indent(textwrap.dedent(lines.strip("\n")).strip(), "    ") + "\n"
        else:
            yield f"\n{_text(paragraph)}\n"


def _spelled(action: argparse.Action) -> str:
    """`BAG`, `[BAG ...]`, `--out DIR`, `--cameras NAME ...`, `--dtype a|b`."""
    value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
    several = action.nargs in ("*", "+", argparse.REMAINDER)
    if not action.option_strings:
        value += " ..." if several else ""
        return f"[{value}]" if action.nargs in ("?", "*") else value
    if action.nargs == 0:
        return action.option_strings[-1]
    return f"{action.option_strings[-1]} {value}{' ...' if several else ''}"


def _code(keys: str) -> str:
    return ", ".join(f"`{key}`" for key in keys.split(", "))


def _text(text: str) -> str:
    """Plain text as Markdown: `code` stays code, elsewhere signs mean themselves."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p[:1] == "`" else re.sub(r"([*<|])", r"\\\1", p) for p in parts)


if __name__ == "__main__":
    sys.stdout.write(page())
