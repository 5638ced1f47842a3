"""What commands share: options, tables, figures, files, progress. Imports no heavy module."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pi0_ros.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

DONE, FAILED, WRONG_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses of every command; FAILED also where the result was judged bad."""


# Options, spelled alike in every command ----------------------------------------------------------


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--checkpoint DIR`."""
    parser.add_argument(
        "--checkpoint", metavar="DIR", type=Path, required=required, help="checkpoint directory"
    )


def add_params(parser: argparse.ArgumentParser) -> None:
    """`--params FILE`, which may be given again; later files win."""
    parser.add_argument(
        "--params",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="parameter file of the node (ROS YAML); may be given again, later files win",
    )


def add_out(parser: argparse.ArgumentParser, default: str = "") -> None:
    """`--out DIR` and `--overwrite`; see `claim_folder`."""
    ending = f" (default: {default})" if default else ""
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"folder of the results{ending}")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run in DIR"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`; see `write_json`."""
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="also write the printed figures as JSON"
    )


def add_ros_args(parser: argparse.ArgumentParser) -> None:
    """`--ros-args ARG ...`: everything after it is the node's."""
    parser.add_argument(
        "--ros-args",
        metavar="ARG",
        nargs=argparse.REMAINDER,
        default=[],
        help="everything after it goes to the node, such as -p rate_hz:=5.0",
    )


# Results ------------------------------------------------------------------------------------------


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] = (), align: str = "") -> str:
    """Columns of text, two spaces apart.

    Args:
        rows: of as many cells as there are columns; None shows as "-".
        headers: of the columns; none by default.
        align: `<` or `>` per column; left by default.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    lines = [list(headers), *cells] if headers else cells
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = align.ljust(len(widths), "<")
    return "\n".join(
        "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    )


def write_json(file: Path | None, document: Any) -> None:
    """Write a document with sorted indentation; nothing where no file was asked for."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def claim_folder(folder: Path, results: Sequence[str], overwrite: bool) -> Path:
    """Make the folder of a command's results, and remove those of an earlier run.

    Args:
        folder: made with its parents if it is not there.
        results: names in `folder` that the command writes; nothing else is ever removed.
        overwrite: whether results that are there may be replaced.

    Raises:
        UserError: results are there already and `overwrite` is not given.
    """
    import shutil

    there = [folder / name for name in results if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists: choose another --out, or give --overwrite")
    for path in there:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def progress(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """tqdm's bar, on a terminal only."""
    from tqdm import tqdm

    return tqdm(items, disable=None, **options)


def warn(text: str) -> None:
    """One line on stderr, under the name of the command."""
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr)


# Signals ------------------------------------------------------------------------------------------


@contextmanager
def deferred_signals() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM only leave a mark; yields a function that says whether one came.

    An exception that is raised wherever a signal hits may come up inside rclpy's C++ calls, which
    turn it into an error of their own. If a signal came, KeyboardInterrupt is raised at the end.
    """
    caught: list[int] = []  # no threading.Event: a second signal would find its lock taken

    def mark(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, mark) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt
