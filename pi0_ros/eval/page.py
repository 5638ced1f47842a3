"""An evaluation as one HTML page that needs nothing else: images are inside, scripts are none."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pi0_ros.eval.evaluate import Drawn, Evaluated
from pi0_ros.eval.report import JOINTS, joint_rows, per_unit, verdict
from pi0_ros.replay.plot import draw_paths, panels

DRAWN = 20
"""Recordings that are drawn; the others are in the table only."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } .strip { display: flex; gap: 4px; align-items: flex-start;
  margin: .5em 0; }
.strip figure { margin: 0; flex: 1; } .strip img { width: 100%; display: block; }
.verdict { font-size: 1.15em; font-weight: 600; }
figcaption { font-size: .8em; color: #555; } .problem { color: #a40000; white-space: pre-wrap; }
"""


def page(
    document: dict[str, Any], results: Sequence[Evaluated], title: str, notes: Sequence[str]
) -> str:
    """The page.

    Args:
        document: as `evaluation_json` makes it of `results`.
        notes: sentences below the title.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(note)}</p>" for note in notes)]
    if "all" in document:
        parts += _total(document["all"])
    parts += ["<h2>Recordings</h2>", _recordings(document["recordings"])]
    shown = 0
    for one, result in zip(document["recordings"], results, strict=True):
        if result.drawn is None or shown >= DRAWN:
            continue
        shown += 1
        parts += _recording(one, result, result.drawn)
    drawable = sum(result.drawn is not None for result in results)
    if drawable > shown:
        parts.append(f"<p>The first {shown} of {drawable} recordings are drawn.</p>")
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
{body}
</body></html>
"""


def _total(total: dict[str, Any]) -> list[str]:
    wall = total["wall"]["inference_ms"]
    return [
        "<h2>Error of the predicted joint positions</h2>",
        f'<p class="verdict">{escape(verdict(total).capitalize())}.</p>',
        f"<p>{total['chunks']} chunks, {total['steps_compared']} values compared. Units are the"
        " joints'; jerk is the rms, per s<sup>3</sup>; &ldquo;standing still&rdquo; is the error of"
        " not moving."
        f" Inference: {wall['p50']:.1f} ms in the median, {wall['p95']:.1f} ms at the 95th"
        " percentile.</p>",
        _table(JOINTS, joint_rows(total)),
        _image(horizon_png(total), "image/png", "error over the seconds ahead"),
    ]


def _recordings(recordings: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in recordings:
        if "problem" in one:
            rows.append((one["recording"], "", "", "", "", "could not be evaluated"))
            continue
        rows.append(
            (
                one["recording"],
                f"{one['duration_s']:.1f} s",
                str(one["chunks"]),
                per_unit(one, "mean_abs"),
                per_unit(one, "holding_mean_abs"),
                ", ".join(f"{n} {reason}" for reason, n in one["refused"].items()) or "none",
            )
        )
    head = ("recording", "length", "chunks", "mean error", "standing still", "refused")
    problems = "".join(
        f'<p class="problem">{escape(one["problem"])}</p>' for one in recordings if "problem" in one
    )
    return _table(head, rows) + problems


def _recording(one: dict[str, Any], result: Evaluated, drawn: Drawn) -> list[str]:
    tasks = "; ".join(result.instructions)
    parts = [
        f"<h2>{escape(result.bag)}</h2>",
        f"<p>Instructions: {escape(tasks)}. Black: {escape(result.source)}; coloured: predicted."
        f" Mean error {escape(per_unit(one, 'mean_abs'))}; {escape(verdict(one))}.</p>",
        _image(
            paths_png(drawn, result.joints, result.dt, result.units),
            "image/png",
            "predicted and recorded",
        ),
    ]
    for camera, images in drawn.thumbnails.items():
        figures = "".join(
            f"<figure>{_image(data, 'image/jpeg', camera)}"
            f"<figcaption>{escape(camera)}, {seconds:.1f} s</figcaption></figure>"
            for seconds, data in images
        )
        parts.append(f'<div class="strip">{figures}</div>')
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _image(data: bytes, kind: str, alt: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img alt="{escape(alt)}" src="data:{kind};base64,{text}">'


def horizon_png(total: dict[str, Any]) -> bytes:
    """The mean error of each step ahead per joint, a panel for each unit.

    Where joints have one unit, also of all together, beside that of standing still.

    Args:
        total: figures as `evaluation_json` has them, of one recording or of all.
    """
    horizon = total["horizon"]
    units = list(total["units"])
    figure, axes = panels(len(units), 1, (9, 3.4), 0.0, 90)
    seconds = horizon["seconds"]
    for number, (name, errors) in enumerate(horizon["joints"].items()):
        axis = axes[units.index(total["joints"][name]["unit"]), 0]
        axis.plot(seconds, _floats(errors), color=f"C{number % 10}", linewidth=1.0, label=name)
    if len(units) == 1:
        mean, holding = _floats(horizon["mean_abs"]), _floats(horizon["holding_mean_abs"])
        axis.plot(seconds, mean, color="black", linewidth=2.0, label="all joints")
        axis.plot(seconds, holding, "--", color="black", linewidth=1.5, label="standing still")
    for axis, unit in zip(axes[:, 0], units, strict=True):
        axis.set_ylabel(f"mean error ({unit})")
        axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    axis.set_xlabel("seconds after the observation")
    figure.legend(loc="outside right upper", fontsize=9)
    return _png(figure)


def paths_png(drawn: Drawn, joints: Sequence[str], dt: float, units: Sequence[str]) -> bytes:
    """One panel per joint: what was recorded in black, each chunk's path coloured by its time."""
    figure, axes = panels(len(joints), 1 if len(joints) < 3 else 3, (4, 2.1), 0.6, 90)
    recorded = {
        name: (drawn.times, column) for name, column in zip(joints, drawn.recorded.T, strict=True)
    }
    draw_paths(figure, axes, joints, drawn.stamps, list(drawn.predicted), dt, recorded, units)
    return _png(figure)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
