"""What commands share: options, tables, figures, files, progress. Imports no heavy module."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
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
    text = "checkpoint directory"
    parser.add_argument("--checkpoint", metavar="DIR", type=Path, required=required, help=text)


def add_params(parser: argparse.ArgumentParser) -> None:
    text = "parameter file of the node (ROS YAML); may be given again, later files win"
    add = parser.add_argument
    add("--params", metavar="FILE", type=Path, action="append", default=[], help=text)


def add_out(parser: argparse.ArgumentParser, default: str = "") -> None:
    ending = f" (default: {default})" if default else ""
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"folder of the results{ending}")
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    text = "replace the results of an earlier run in DIR"
    parser.add_argument("--overwrite", action="store_true", help=text)


def add_json(parser: argparse.ArgumentParser) -> None:
    text = "also write the printed figures as JSON"
    parser.add_argument("--json", metavar="FILE", type=output_file, help=text)


def output_file(text: str) -> Path:
    """argparse type of a file to write: a path that cannot be written is a wrong argument, found
    before minutes of work. Its folder need not exist yet.
    """
    file = Path(text)
    folder = next(path for path in file.absolute().parents if path.exists())
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{file} is a directory, expected a file to write")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{file} cannot be written: {folder} is not writable")
    return file


def count(least: int = 0) -> Callable[[str], int]:
    """argparse type of a whole number that is at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, got {text}"
            )
        return value

    return parse


def add_choice(
    parser: argparse.ArgumentParser, flag: str, choices: Iterable[str], text: str, default: str = ""
) -> None:
    """An option of a few words; its help names the default, which is the first one otherwise."""
    choices = list(choices)
    default = default or choices[0]
    text = f"{text} (default: {default})"
    parser.add_argument(flag, choices=choices, default=default, help=text)


def add_number(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    flag: str,
    metavar: str,
    kind: Callable[[str], float],
    default: float,
    text: str,
) -> None:
    """An option with a number, whose default its help names; `kind` reads it."""
    text = f"{text} (default: {default:g})"
    parser.add_argument(flag, metavar=metavar, type=kind, default=default, help=text)


def add_verb(verbs: Any, name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
    """The parser of a command within a command, such as `pi0 profile run`; `verbs`: of
    `add_subparsers`.
    """
    return verbs.add_parser(
        name,
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_ros_args(parser: argparse.ArgumentParser) -> None:
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
    align = align.ljust(len(widths), "<")[: len(widths)]
    return "\n".join(
        "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    )


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} ms"


def percent(share: float | None) -> str:
    """A share of 0 to 1 for a table."""
    return "-" if share is None else f"{share * 100:.1f} %"


def percentiles(
    values: Iterable[float], which: Sequence[int] = (50, 95), largest: bool = False
) -> dict[str, float | None]:
    """Percentiles by name (`p50`, `p95`; `max` too with `largest`), interpolated linearly.

    All are None without values.
    """
    names = {f"p{number}": number / 100 for number in which} | ({"max": 1.0} if largest else {})
    numbers = list(values)
    if not numbers:
        return dict.fromkeys(names)
    import numpy as np

    found = np.quantile(numbers, list(names.values())).tolist()
    return dict(zip(names, found, strict=True))


def write_text(file: Path, text: str) -> None:
    """Write a file. The OSError of a full disk would not name it."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def write_json(file: Path | None, document: Any) -> None:
    """Write a document, indented, and its folder; nothing where no file was asked for."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(document, indent=2) + "\n")


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

    there = [path for path in (folder / name for name in results) if os.path.lexists(path)]
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
    command = Path(sys.argv[0])
    name = command.parent.name if command.name == "__main__.py" else command.name
    print(f"{name}: {text}", file=sys.stderr)


# What need not be installed -----------------------------------------------------------------------

NEEDS_ROS = (
    "needs ROS 2: source /opt/ros/<distro>/setup.bash or pip install -r requirements/ros-jazzy.txt,"
    " then install pi0_ros again"
)
_ROS = re.compile(
    r"(rclpy|ament_index_python|diagnostic_updater|launch(_ros)?|rosbag2_py|rosidl_\w+"
    r"|rpyutils|tf2_ros|std_srvs|\w+_(msgs|interfaces)|pi0_ros\.(msg|action))(\.|$)"
)
_PIP = {
    **{name: name for name in ("av", "matplotlib", "msgpack", "mujoco", "pyarrow", "ray")},
    **{name: name for name in ("prometheus_client", "torch_npu", "trimesh", "viser", "websockets")},
    "PIL": "pillow",
    "fastapi": "'ray[serve]'",
    "pinocchio": "pin",
}


def missing(module: str) -> str | None:
    """What to do about a module that is not installed; None where the package asks for it always.

    Args:
        module: as imported, such as `rclpy.node` or `viser`.
    """
    if _ROS.match(module):
        return NEEDS_ROS
    package = _PIP.get(module.partition(".")[0])
    return package and f"needs {module}, which is not installed: pip install {package}"


def is_installed(module: str) -> bool:
    """Whether a module is there; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or it was taken away
        return False


def require(*modules: str) -> None:
    """Find out before the work whether modules are there that need not be.

    Raises:
        UserError: the first one that is not installed, and what to do about it.
    """
    for module in modules:
        if not is_installed(module):
            raise UserError(missing(module) or f"needs {module}, which is not installed")


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
