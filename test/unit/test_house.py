"""The plan of the house (DEVELOPERS.md): who may know whom, and what no file may do."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pi0_ros"
ROS = {
    "rclpy",
    "launch",
    "launch_ros",
    "cv_bridge",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "trajectory_msgs",
    "diagnostic_msgs",
    "lifecycle_msgs",
    "visualization_msgs",
    "nav_msgs",
    "geometry_msgs",
    "builtin_interfaces",
    "rosgraph_msgs",
    "pi0_ros.msg",
}
# Room -> the rooms it may import, besides itself.
KNOWS = {
    "model": set(),
    "policy": {"model"},
    "node": {"model", "policy", "tools"},
    "replay": {"model", "policy", "node"},
    "sim": {"model", "policy", "node", "replay"},
    "tools": {"model", "policy"},
    "check": {"model", "policy", "tools", "node", "replay"},
    "train": {"model", "policy", "sim"},
}
FREE_OF_ROS = {"model", "policy", "tools", "train"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Every module that a file imports, at its top or later."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names.add(node.module)
    return names


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_rooms_know_only_the_rooms_before_them(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0]
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "pi0_ros" and len(parts) > 1 and parts[1] != "msg":
            assert parts[1] in KNOWS.get(room, set()) | {room}, f"{room} imports {name}"
        if room in FREE_OF_ROS:
            assert not any(name == ros or name.startswith(ros + ".") for ros in ROS), name


def test_every_room_is_in_the_plan() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0] for file in MODULES} - {"__init__.py"}
    assert rooms == set(KNOWS)


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_only_safetensors_never_pickle(file: Path) -> None:
    assert not imports(file) & {"pickle", "dill", "cloudpickle", "shelve"}
    assert not re.search(r"\b(torch\.load|torch\.save|allow_pickle)\b", file.read_text())


def test_tests_mirror_the_package() -> None:
    for room in KNOWS:
        assert list((ROOT / "test" / room).glob("test_*.py")), f"test/{room} has no tests"


def test_no_path_of_one_machine_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    foreign = re.compile(r"(?<![\w.])/(" + "work|root|farm" + r")/[a-z.]")
    for name in filter(None, tracked.split("\0")):
        file = ROOT / name
        if file.is_file() and file.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".xml", ""}:
            found = foreign.search(file.read_text(errors="ignore"))
            assert not found, f"{name}: {found and found.group()}"
