"""What benchmarks write into the pages of docs: a block between two marks, and where it is from."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from pi0_ros.errors import UserError

_PACKAGES = ("pi0_ros", "torch", "numpy")
_ROS = ("ros-jazzy-rclpy", "ros-kilted-rclpy")


def marks(name: str) -> tuple[str, str]:
    """The lines before and after a block."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def has_marks(path: Path, name: str) -> bool:
    """Whether a file has both, in this order."""
    begin, end = marks(name)
    _, found, rest = path.read_text().partition(begin)
    return bool(found) and end in rest


def write_between(path: Path, name: str, block: str) -> None:
    """Put a block between the two marks of a file; text around it stays.

    Raises:
        UserError: the file lacks the marks.
    """
    begin, end = marks(name)
    if not has_marks(path, name):
        raise UserError(f"{path} lacks the lines {begin} and {end}")
    before, _, rest = path.read_text().partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{block}\n{end}{after}")


def machine() -> str:
    """Processor, cores, and how busy the machine is."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    load = os.getloadavg()[0]
    return f"{cpu}, {os.cpu_count()} cores, {load:.1f} processes wanting one beforehand"


def versions() -> str:
    """Of Python, ROS and what else figures depend on."""
    wheels = (f"{name} {version}" for name in _ROS if (version := _version(name)))
    ros = os.environ.get("ROS_DISTRO") or next(wheels, "of unknown version")
    packages = (f"{name} {_version(name) or 'of unknown version'}" for name in _PACKAGES)
    return ", ".join([f"Python {platform.python_version()}", f"ROS {ros}", *packages])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
