"""Writes docs/parameters.md from the table of parameters: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pi0_ros.node.parameter_table import (
    CAMERA_SPECS,
    CONFIGURE,
    JOINT_SPECS,
    LIVE,
    OUTPUT_SPECS,
    SPECS,
    START,
    Spec,
)

HEAD = """\
# Parameters

Written by `make docs` from the table that the node itself reads.
[`config/pi0.yaml`](../config/pi0.yaml) is the same as a parameter file to copy from. Units are SI:
radians, metres, seconds.

"changes" says when a new value counts: *live*, at once, by `ros2 param set`; *configure*, when the
node is configured the next time; *start*, when its process starts the next time.
"""

_CHANGES = {LIVE: "live", CONFIGURE: "configure", START: "start"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    rows: list[Spec] = []
    title = ""
    for spec in SPECS:
        if spec.section:
            parts += _section(title, rows)
            title, rows = spec.section, []
        rows.append(spec)
        more = {"cameras": CAMERA_SPECS, "joints": JOINT_SPECS + OUTPUT_SPECS}
        rows += more.get(spec.name, ())
    return "".join([*parts, *_section(title, rows)])


def _section(title: str, rows: Iterable[Spec]) -> list[str]:
    if not title:
        return []
    lines = [
        f"\n## {title}\n",
        "\n| parameter | default | meaning | changes |\n|---|---|---|---|\n",
    ]
    return lines + [_row(spec) for spec in rows]


def _row(spec: Spec) -> str:
    default = spec.default
    if isinstance(default, tuple):
        shown = f"`[{', '.join(map(str, default))}]`"
    elif isinstance(default, bool):
        shown = f"`{str(default).lower()}`"
    else:
        shown = f"`{default}`" if default != "" else "empty"
    meaning = spec.doc
    if spec.low is not None:
        meaning += f" From {spec.low:g} to {spec.high:g}."
    if spec.choices:
        meaning += f" One of {', '.join(f'`{c}`' if c else 'empty' for c in spec.choices)}."
    for sign in "|*<":
        meaning = meaning.replace(sign, "\\" + sign)
    return f"| `{spec.name}` | {shown} | {meaning} | {_CHANGES[spec.changes]} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
