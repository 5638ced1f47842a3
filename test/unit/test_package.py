"""The package as a user gets it: its two builds, its lists and its lock tell the same story."""

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from functools import partial
from importlib import import_module, metadata
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT
from support.waiting import PATIENCE

import pi0_ros

PACKAGE_XML = ElementTree.parse(ROOT / "package.xml").getroot()
MESSAGES = sorted((ROOT / "msg").glob("*.msg"))
PROGRAMS = sorted((ROOT / "scripts").iterdir())
LOCKS = {"jazzy": ROOT / "constraints.txt", "kilted": ROOT / "constraints-kilted.txt"}

# Import name -> name on PyPI, and PyPI name -> rosdep key, where they differ from the rule.
PYPI = {
    "cv2": "opencv-python",
    "fastapi": "ray",  # both of ray[serve]
    "starlette": "ray",
    "torchair": "torch_npu",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
ROSDEP = {"opencv-python": "python3-opencv", "pyyaml": "python3-yaml"}


def installed_prefix() -> Path:
    """Where the messages, the programs and the share folder were installed."""
    installed = [Path(p) for p in pi0_ros.__path__ if (Path(p) / "msg").is_dir()]
    assert installed, "pi0_ros is not installed: make venv, or colcon build and source it"
    return next(p for p in installed[0].parents if (p / "share" / "pi0_ros").is_dir())


def listed(file: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def pins(lock: Path) -> dict[str, Requirement]:
    return {canonicalize_name(pin.name): pin for pin in listed(lock)}


def required() -> list[Requirement]:
    """What the installed package asks of pip, extras included."""
    try:
        lines = metadata.requires("pi0_ros")
    except metadata.PackageNotFoundError:
        lines = None
    if not lines:
        pytest.skip("built by colcon: pip knows nothing of the package")
    return [Requirement(line) for line in lines]


def depends(*tags: str) -> set[str]:
    return {element.text or "" for tag in tags for element in PACKAGE_XML.iter(tag)}


def imports(folder: str) -> set[str]:
    """Top-level names of other people's modules that the Python files of a folder import."""
    files = list((ROOT / folder).rglob("*.py"))
    names = {"pi0_ros", *sys.stdlib_module_names, *(file.stem for file in files)}
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - names


def test_versions_agree() -> None:
    version = PACKAGE_XML.findtext("version")
    newest = re.search(r"^(\d+\.\d+\.\d+) \(.+\)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.M)
    assert newest and newest.group(1) == version
    share = installed_prefix() / "share" / "pi0_ros"
    assert ElementTree.parse(share / "package.xml").findtext("version") == version
    required()  # skips under colcon
    assert metadata.version("pi0_ros") == version


def test_the_sources_of_this_tree_are_under_test() -> None:
    assert Path(import_module("pi0_ros.policy").__file__ or "").is_relative_to(ROOT)


def test_every_file_of_the_package_is_installed() -> None:
    installed = next(Path(p) for p in pi0_ros.__path__ if (Path(p) / "msg").is_dir())
    package, share = ROOT / "pi0_ros", installed_prefix() / "share" / "pi0_ros"
    pairs = [(package, installed), (ROOT / "launch", share / "launch")]
    pairs += [(ROOT / "config", share / "config")]
    for source, target in pairs:
        files = [f.relative_to(source) for f in source.rglob("*") if f.is_file()]
        missing = [f for f in files if "__pycache__" not in f.parts and not (target / f).is_file()]
        assert files and not missing, f"not in {target}: {missing}"


@pytest.mark.parametrize("file", MESSAGES, ids=lambda f: f.stem)
def test_messages_are_built_from_this_tree(file: Path) -> None:
    message = getattr(import_module("pi0_ros.msg"), file.stem)
    lines = (line.partition("#")[0].split() for line in file.read_text().splitlines())
    fields = {words[1]: words[0] for words in lines if words and "=" not in "".join(words)}
    built = message.get_fields_and_field_types()
    assert list(built) == list(fields)
    for name, kind in fields.items():
        element = built[name].removeprefix("sequence<").removesuffix(">")
        assert kind.removesuffix("[]") in (element, {"double": "float64"}.get(element)), name
        assert kind.endswith("[]") == built[name].startswith("sequence<"), name


def test_pip_and_colcon_install_the_same_programs() -> None:
    called = {}
    for program in PROGRAMS:
        assert os.access(program, os.X_OK), f"{program} is not executable"
        code = program.read_text()
        module = re.search(r"^from (\S+) import main$", code, re.M)
        assert module and code.startswith("#!/usr/bin/env python3\n"), program
        called[program.name] = f"{module.group(1)}:main"
    required()
    entry_points = metadata.distribution("pi0_ros").entry_points
    assert called == {e.name: e.value for e in entry_points if e.group == "console_scripts"}


@pytest.mark.parametrize("name", [program.name for program in PROGRAMS])
def test_programs_start_where_ros_looks_for_them(name: str, tmp_path: Path) -> None:
    program = installed_prefix() / "lib" / "pi0_ros" / name
    done = subprocess.run(
        [program, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}")


def test_imports_are_declared() -> None:
    ros = depends("depend", "exec_depend")
    pip = {canonicalize_name(r.name): r for r in required()}
    for name in imports("pi0_ros") | imports("launch"):
        assert name in ros or PYPI.get(name, name).replace("_", "-") in pip, (
            f"{name} is imported but neither package.xml nor setup.py names it"
        )
    test_ros = ros | depends("test_depend")
    own = {"benchmarks", "examples", *(path.name for path in (ROOT / "test").iterdir())}
    # These lie in environments of their own.
    apart = {"datasets", "lerobot", "openpi_client", "openpi_server", "pandas", "torch_npu"}
    for name in imports("test") - own - apart:
        assert name in test_ros or PYPI.get(name, name).replace("_", "-") in pip, name


def test_benchmarks_examples_and_tests_are_not_installed() -> None:
    assert {path.name for path in (ROOT / "pi0_ros").iterdir()}.isdisjoint(("benchmarks", "test"))
    required()  # skips under colcon
    tops = {file.parts[0] for file in metadata.files("pi0_ros") or ()}
    assert "pi0_ros" in tops
    assert tops.isdisjoint(("benchmarks", "examples", "test", "support"))


def test_ros_dependencies_are_used() -> None:
    ros = {name for name in depends("depend", "exec_depend") if not name.startswith("python3-")}
    used = imports("pi0_ros") | imports("launch")
    used |= {name for file in MESSAGES for name in re.findall(r"^(\w+)/", file.read_text(), re.M)}
    # What the launch files run instead of importing: `ros2 VERB ...` is the package ros2VERB.
    for file in (ROOT / "launch").glob("*.py"):
        for verb in re.findall(r'\["ros2", "(\w+)"', file.read_text()):
            assert f"ros2{verb}" in ros, f"{file.name} runs ros2 {verb}; package.xml lacks it"
            used.add(f"ros2{verb}")
        used |= set(re.findall(r'package="(\w+)"', file.read_text()))
    # Run by what colcon builds; actions are made of action_msgs.
    assert ros - {"rosidl_default_runtime", "action_msgs"} <= used


def test_what_pip_installs_on_a_robot_or_rosdep_does() -> None:
    robot = {r.name for r in listed(ROOT / "requirements" / "robot.txt")}
    keys = depends("depend", "exec_depend")
    for requirement in required():
        if requirement.marker is None and requirement.name not in robot:
            key = ROSDEP.get(requirement.name, f"python3-{requirement.name}")
            assert key in keys, f"{requirement.name}: neither robot.txt nor package.xml has it"


@pytest.mark.parametrize("ros", LOCKS)
def test_the_lock_holds_what_is_asked_for(ros: str) -> None:
    lock = pins(LOCKS[ros])
    asked = listed(ROOT / "requirements" / f"ros-{ros}.txt") + required()
    for requirement in asked:
        if any(f'extra == "{extra}"' in str(requirement.marker) for extra in ("npu", "ray")):
            continue  # not in the environment that the lock is made from
        pin = lock.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in {LOCKS[ros].name}: make lock"
        version = str(pin.specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{pin}: asked for {requirement}"


def test_the_locks_differ_in_ros_only() -> None:
    jazzy, kilted = (
        {str(pin) for name, pin in pins(lock).items() if not name.startswith("ros-")}
        for lock in LOCKS.values()
    )
    assert jazzy == kilted


def test_every_lock_line_is_exact() -> None:
    for lock in LOCKS.values():
        for pin in listed(lock):
            assert re.fullmatch(r"==[^*,+]+", str(pin.specifier)), f"{lock.name}: {pin}"


def test_fast_dds_takes_the_profile() -> None:
    """A participant maps a shared-memory segment of the size that the profile names."""
    profile = ROOT / "config" / "fastdds.xml"
    size = int(re.findall(r"<segment_size>(\d+)<", profile.read_text())[0])
    assert size >= 8 * 640 * 480 * 3, "several raw images of two cameras have to fit"
    code = """
import rclpy
rclpy.init()
node = rclpy.create_node("profile")
for line in open("/proc/self/maps"):
    if "/dev/shm/fastrtps_" in line or "/dev/shm/fastdds_" in line:
        first, last = line.split()[0].split("-")
        print(int(last, 16) - int(first, 16))
rclpy.shutdown()
"""
    sizes = {}
    for name in ("", str(profile)):
        env = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": "98"}
        for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            env.pop(variable, None)
            env |= {variable: name} if name else {}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
        sizes[name] = max(map(int, done.stdout.split()))
    assert sizes[""] < size <= sizes[str(profile)]


@pytest.fixture(scope="session")
def python_without_ros(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A Python that has setuptools and nothing else, and its environment variables."""
    folder = tmp_path_factory.mktemp("without_ros")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (folder / "tools").mkdir()
    packages = Path(setuptools.__file__).parents[1]
    for pattern in ("setuptools", "setuptools-*.dist-info", "_distutils_hack", "pkg_resources"):
        for path in packages.glob(pattern):
            (folder / "tools" / path.name).symlink_to(path)
    env = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"}
    return folder / "venv" / "bin" / "python", {**env, "PYTHONPATH": str(folder / "tools")}


def build(
    python: tuple[Path, dict[str, str]], source: Path, command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    program, env = python
    return subprocess.run(
        [program, "setup.py", command, f"--dist-dir={source / 'dist'}"],
        cwd=source,
        env={**env, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what setup.py reads, since building leaves files beside it."""
    for name in ("pi0_ros", "config", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "package.xml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    return tmp_path / "source"


def test_without_ros_the_wheel_is_pure_and_whole(python_without_ros, source: Path) -> None:
    done = build(python_without_ros, source, "bdist_wheel")
    assert done.returncode == 0, done.stderr
    assert "no ROS 2 found" in done.stdout
    (wheel,) = (source / "dist").glob("*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(source / "installed")
    files = [f.relative_to(ROOT) for f in (ROOT / "pi0_ros").rglob("*") if f.is_file()]
    assert {str(f) for f in files if "__pycache__" not in f.parts} <= names
    assert not any(name.startswith(("pi0_ros/msg", "benchmarks", "examples")) for name in names)
    assert any(name.endswith("share/pi0_ros/config/pi0.yaml") for name in names)
    # Neither NumPy nor torch is there: help needs none.
    program, env = python_without_ros
    command = [program, "-m", "pi0_ros.cli"]
    env = {**env, "PYTHONPATH": str(source / "installed")}
    run = partial(subprocess.run, env=env, cwd=source.parent, capture_output=True, text=True)
    assert run([*command, "--version"]).stdout.endswith(", without ROS 2\n")
    assert run([*command, "profile", "--help"]).stdout.startswith("usage: pi0 profile")


def test_an_editable_install_without_ros_names_the_source_tree(
    python_without_ros, source: Path
) -> None:
    done = build(python_without_ros, source, "editable_wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*editable*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".pth"))
        assert archive.read(path).decode().strip() == str(source)


def test_a_ros_that_messages_cannot_be_built_with_is_said(
    python_without_ros, source: Path, tmp_path: Path
) -> None:
    """As where a virtual environment of another Python meets a sourced setup.bash."""
    marker = "share/ament_index/resource_index/packages/rosidl_default_generators"
    (tmp_path / "ros" / marker).mkdir(parents=True)
    prefix = str(tmp_path / "ros")
    done = build(python_without_ros, source, "bdist_wheel", AMENT_PREFIX_PATH=prefix)
    assert done.returncode != 0
    assert f"ROS 2 is in {prefix}, but building the messages needs ament_package" in done.stderr
