"""The plan of the house (DEVELOPERS.md): who may know whom, and what no file may do."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from support import ROOT

PACKAGE = ROOT / "pi0_ros"

ORDER = (
    "errors",
    "console",
    "share",
    "plain_yaml",
    "model",
    "checkpoint",
    "policy",
    "motion",
    "collision",
    "profile",
    "check",
    "serve",
    "ros",
    "node",
    "bags",
    "datasets",
    "viz",
    "diff",
    "replay",
    "eval",
    "compile",
    "view",
    "doctor",
    "convert",
    "sim",
    "demo",
    "cli",
)
"""Rooms of the package, lowest first: a room imports only rooms before it."""

APART = {
    "motion": {"model", "checkpoint"},
    "collision": {"model", "checkpoint", "policy"},
    "viz": {"node", "serve", "checkpoint", "model", "bags"},
    "bags": {"serve", "profile"},
}
"""Rooms that come earlier in the order and are not to be imported all the same."""

WITHOUT_ROS = {
    "errors",
    "console",
    "share",
    "plain_yaml",
    "model",
    "checkpoint",
    "policy",
    "motion",
    "collision",
    "profile",
    "check",
    "serve",
    "bags",
    "datasets",
    "diff",
    "eval",
    "compile",
    "convert",
    "cli",
}
ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "nav_msgs",
    "pi0_ros.action",
    "pi0_ros.msg",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "trajectory_msgs",
    "visualization_msgs",
}
NUMPY_ONLY = {"motion"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    names = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


MODULES = modules()


def imports(file: Path) -> set[str]:
    """Every module that a file imports: at its top, later, or for type checking only."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in MODULES else str(node.module))
    return names


IMPORTS = {name: imports(file) for name, file in MODULES.items()}


def room(module: str) -> str:
    return (module + ".").split(".")[1]


def test_every_room_is_in_the_plan() -> None:
    assert {room(name) for name in MODULES} - {""} <= set(ORDER)


def test_rooms_import_only_rooms_before_them() -> None:
    wrong = []
    for name, imported in IMPORTS.items():
        here = room(name)
        for other in map(room, (i for i in imported if i in MODULES)):
            if not other or other == here:
                continue
            if ORDER.index(other) > ORDER.index(here) or other in APART.get(here, set()):
                wrong.append(f"{name} imports from {other}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(IMPORTS[name] & set(MODULES)):
                visit(other, (*way, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_rooms_without_ros_import_none_of_it() -> None:
    for name, imported in IMPORTS.items():
        if room(name) in WITHOUT_ROS:
            found = {i for i in imported for ros in ROS if (i + ".").startswith(ros + ".")}
            assert not found, f"{name} imports {sorted(found)}"
        if room(name) in NUMPY_ONLY:
            assert not any(i.partition(".")[0] in ("torch", "cv2") for i in imported), name


def test_the_package_imports_nothing_that_is_not_installed() -> None:
    for name, imported in IMPORTS.items():
        outside = {i for i in imported if i.partition(".")[0] in ("benchmarks", "examples", "test")}
        assert not outside, f"{name} imports {sorted(outside)}"


def test_bars_come_from_the_console() -> None:
    """Which shows them on a terminal only."""
    users = {name for name, imported in IMPORTS.items() if "tqdm" in {i[:4] for i in imported}}
    assert users == {"pi0_ros.console"}


def test_only_safetensors_never_pickle() -> None:
    for name, imported in IMPORTS.items():
        assert not imported & {"pickle", "dill", "cloudpickle", "shelve"}, name
        text = MODULES[name].read_text()
        assert not re.search(r"\b(torch\.load|torch\.save|allow_pickle)\b", text), name


def test_home_directories_are_found_in_one_way() -> None:
    """`Path.expanduser` raises a RuntimeError where there is no such user."""
    assert [name for name, file in MODULES.items() if ".expanduser()" in file.read_text()] == []


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


def test_branches_on_cuda_are_in_three_modules() -> None:
    """Elsewhere a device is one of several, or has what those modules say of it."""
    allowed = {f"pi0_ros.{name}" for name in ("model.ops.cuda", "policy.device", "policy.compile")}
    wrong = [
        f"{file}:{node.lineno}"
        for name, file in MODULES.items()
        if name not in allowed
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Compare)
        and any(isinstance(n, ast.Constant) and n.value == "cuda" for n in ast.walk(node))
    ]
    assert not wrong
