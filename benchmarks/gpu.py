"""How fast pi0 is on one GPU of NVIDIA: `python -m benchmarks.gpu --json FILE`.

Eager, captured, with this package's kernels, compiled by inductor and captured, and LeRobot's own
pi0 where it is installed; two cameras, 48 prompt tokens, 10 steps, bfloat16, random weights made
on the card. Each row is measured in a process of its own, which is ended when its time is over, and
is printed and written as soon as it is there. With --device cpu a tiny model runs, which tests this
program and measures nothing.

Needs torch with CUDA, and this source tree; no checkpoint, no ROS, no network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROWS = {
    "limits": (40, "what the card does: a product, a copy; the least that a frame can take"),
    "float32": (60, "operator by operator in float32: what the others are compared with"),
    "eager": (60, "operator by operator"),
    "captured": (60, "cudagraph with torch's kernels"),
    "kernels": (90, "cudagraph with those of this package's kernels that win"),
    "all kernels": (90, "cudagraph with all of this package's kernels"),
    "images": (40, "two images 640 x 480 to the model's input, on the host and on the card"),
    "LeRobot eager": (90, "LeRobot's pi0 0.4.4 as it comes"),
    "inductor": (150, "inductor_cudagraph with torch's attention"),
    "inductor + attention": (150, "inductor_cudagraph with this package's attention"),
    "float8": (150, "the same, vision and prefix in float8 with scales of the same inputs"),
    "LeRobot compiled": (150, "LeRobot's pi0 0.4.4 with its own compile_model"),
}
"""Name -> most seconds, and what it is."""

TARGETS = {"captured": 12.0, "kernels": 9.0, "float8": 7.0}
"""Row -> ms of the median on an H100 that this project aims at."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write all rows as they come")
    add("--rows", nargs="+", choices=ROWS, metavar="ROW", help="; ".join(ROWS))
    add("--budget", type=float, default=520, metavar="S", help="seconds for all (default: 520)")
    add("--device", default="cuda:0", help="default: cuda:0; cpu is always tiny")
    add("--tiny", action="store_true", help="a tiny model, which tests this program")
    add("--cameras", type=int, default=2, metavar="N", help="default: 2")
    add("--prompt", type=int, default=48, metavar="N", help="tokens (default: 48)")
    add("--frames", type=int, default=200, metavar="N", help="that are timed (default: 200)")
    add("--variant", choices=("pi0", "pi05"), default="pi0", help="default: pi0")
    add(
        "--peers",
        type=Path,
        default=ROOT / "build" / "reference",
        metavar="DIR",
        help="where `make reference` installed LeRobot (default: build/reference)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the rows; 0 where all that were tried were measured."""
    args = parse(arguments)
    begin, rows = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.rows or ROWS:
            left = args.budget - (time.monotonic() - begin)
            rows[name] = measure(name, args, Path(folder), left)
            print(line(name, rows[name]), flush=True)
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(document(args, rows), indent=1) + "\n")
    print()
    print("\n".join(table(rows)))
    print(f"{time.monotonic() - begin:.0f} s in all")
    return int(any("failed" in row for row in rows.values()))


def measure(name: str, args: argparse.Namespace, folder: Path, left: float) -> dict[str, Any]:
    """One row: what its process found, or why there is nothing."""
    if left < 15:
        return {"skipped": "the time for all rows is over"}
    job = {
        "row": name,
        "device": args.device,
        "tiny": args.tiny or args.device == "cpu",
        "cameras": args.cameras,
        "prompt": args.prompt,
        "frames": args.frames,
        "variant": args.variant,
        "expected": str(folder / "expected.pt"),
        "out": str(folder / "row.json"),
    }
    path = [str(ROOT)]
    if name.startswith("LeRobot"):
        libraries = [args.peers / "lerobot-0.4.4", args.peers / "common"]
        if args.variant != "pi0":
            return {"skipped": "LeRobot 0.4.4 is compared as pi0 only"}
        if not all(library.is_dir() for library in libraries):
            return {"skipped": f"LeRobot is not in {args.peers} (make reference)"}
        path += map(str, libraries)
    out = folder / "row.json"
    out.unlink(missing_ok=True)
    # A CPU may be slow, and is not what is measured.
    limit = min(ROWS[name][0] * (5 if job["tiny"] else 1), left)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.gpu_row", json.dumps(job)]
    begin = time.monotonic()
    status, said = run(command, env, limit)
    # What was measured before it ended counts.
    found = json.loads(out.read_text()) if out.is_file() else {}
    if status is None:
        found["unfinished" if found else "skipped"] = f"not ready after {limit:.0f} s"
    elif status:
        found["failed"] = f"exit status {status}: {said}"
    return found | {"process_s": time.monotonic() - begin}


def run(command: list[str], env: dict[str, str], limit: float) -> tuple[int | None, str]:
    """Exit status and last words of a process; None where it was ended for being late."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=env, stdout=errors, stderr=errors, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            # Compilers have processes of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        errors.seek(0)
        return status, " | ".join(errors.read().strip().splitlines()[-4:])[-800:]


def line(name: str, row: dict[str, Any]) -> str:
    """A row as it is printed when it comes."""
    values = (f"{key} {plain(value)}" for key, value in row.items() if not isinstance(value, dict))
    parts = (
        f"{key}: " + ", ".join(f"{k} {plain(v)}" for k, v in value.items())
        for key, value in row.items()
        if isinstance(value, dict)
    )
    return f"{name:<20} " + "; ".join([*values, *parts])


def plain(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


COLUMNS = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "x_bound": "x bound",
    "kernels_per_frame": "kernels",
    "memory_gb": "GB",
    "ready_s": "ready s",
    "cosine": "cosine",
}


def table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The frames as a table of Markdown; `x bound` is by the rates of row `limits`."""
    bound = rows.get("limits", {}).get("bound_ms", {}).get("frame")
    yield "| row | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---|" + "---|" * len(COLUMNS)
    for name, row in rows.items():
        if name in ("limits", "images"):
            continue
        if bound and "p50_ms" in row and name != "float32":
            row = {**row, "x_bound": row["p50_ms"] / bound}
        cells = [plain(row[key]) if key in row else "" for key in COLUMNS]
        why = row.get("skipped") or row.get("failed")
        yield f"| {name} | " + (f"{why} |" if why else " | ".join(cells) + " |")
    if bound:
        yield f"\nbound of a frame at this card's own rates: {bound:.2f} ms"
    for name, target in TARGETS.items():
        if "p50_ms" in rows.get(name, {}):
            yield f"target of {name} on an H100: {target:g} ms"


def document(args: argparse.Namespace, rows: dict[str, Any]) -> dict[str, Any]:
    """What --json writes."""
    setting = {k: getattr(args, k) for k in ("device", "variant", "cameras", "prompt", "frames")}
    return {
        "setting": setting | {"tiny": args.tiny or args.device == "cpu"},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
