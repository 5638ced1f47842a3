"""pip route. With ROS 2 the messages are built by CMakeLists.txt, and the wheel carries them;
without ROS the wheel is pure Python and has no messages.

colcon does not read this file: package.xml says ament_cmake. ROS is what the environment holds as
wheels (requirements/ros-*.txt), otherwise what /opt/ros/<distro>/setup.bash was sourced for.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
NAME = "pi0_ros"

# The programs run under the Python of the environment they are installed in, wherever that lies.
ENV_PYTHON = b"#!/usr/bin/env python3\n"
OWN_PYTHON = b"""#!/bin/sh
'''exec' "$(dirname "$0")/../../bin/python3" "$0" "$@"
' '''
"""
# Modules of Python with which ROS generates the Python side of messages.
GENERATORS = ("ament_package", "catkin_pkg", "em", "lark", "numpy", "rosidl_generator_py")


def requirements(name: str) -> list[str]:
    """The requirement lines of requirements/<name>.txt."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


@cache
def ros_environment() -> dict[str, str] | None:
    """Environment in which CMake finds ROS; None without ROS.

    pip builds in an environment of its own, which hides what this Python has installed and what was
    sourced. CMake runs outside of it: with this Python's packages and those of the ROS prefixes.

    Raises:
        SystemExit: there is a ROS that this Python cannot build messages with.
    """
    marker = "share/ament_index/resource_index/packages/rosidl_default_generators"
    sourced = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes = [sys.prefix] if Path(sys.prefix, marker).exists() else sourced
    if not any(Path(prefix, marker).exists() for prefix in prefixes):
        return None
    joined = os.pathsep.join(prefixes)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [
        str(folder)
        for prefix in prefixes
        for lib in ("lib", "local/lib")
        for folder in sorted(Path(prefix, lib, version).glob("*-packages"))
        if prefix != sys.prefix
    ]
    env = {**os.environ, "AMENT_PREFIX_PATH": joined, "CMAKE_PREFIX_PATH": joined}
    env["PYTHONPATH"] = os.pathsep.join(folders)
    code = (
        "import importlib.util as i, sys; print(*(m for m in sys.argv[1:] if not i.find_spec(m)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *GENERATORS], env=env, capture_output=True, text=True
    )
    lacking = found.stdout.split() + ([] if shutil.which("cmake") else ["cmake"])
    if lacking:
        raise SystemExit(
            f"{NAME}: ROS 2 is in {joined}, but building the messages needs {', '.join(lacking)}, "
            f"which {sys.executable} does not find. With ROS from apt use the Python of the system "
            "(a virtual environment needs --system-site-packages), with its wheels install "
            "requirements/ros-*.txt. Without AMENT_PREFIX_PATH what needs no ROS is installed."
        )
    return env


class BuildRos(Command):
    """Runs CMake and adds what it generates and installs to the wheel."""

    user_options = []
    editable_mode = False  # set by setuptools

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        build_command = self.get_finalized_command("build")
        if not self.editable_mode:
            # What an earlier build put there may no longer be in the source.
            shutil.rmtree(build_command.build_lib, ignore_errors=True)
        env = ros_environment()
        if env is None:
            print(f"{NAME}: no ROS 2 found: no messages, so what needs ROS will not run.")
            return
        stage = self.run_cmake(Path("build", "pip"), env)
        for program in (stage / "lib" / NAME).iterdir():
            program.write_bytes(program.read_bytes().replace(ENV_PYTHON, OWN_PYTHON, 1))

        modules = next(stage.rglob(f"*-packages/{NAME}"))
        site = os.path.relpath(sysconfig.get_path("purelib"), sysconfig.get_path("data"))
        data_files: dict[str, list[str]] = {}
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            folder = path.parent.relative_to(stage)
            if path.is_relative_to(modules.parent):
                inside = path.relative_to(modules.parent)
                if inside.parts[0] != NAME or (ROOT / inside).exists():
                    continue  # rosidl's metadata; what build_py installs
                if not self.editable_mode:
                    target = Path(build_command.build_lib, inside)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, target)
                    continue
                folder = Path(site, inside).parent
            data_files.setdefault(str(folder), []).append(os.path.relpath(path, ROOT))
        self.distribution.data_files = list(data_files.items())
        if self.editable_mode:  # setuptools leaves out data files there
            self.run_command("install_data")

    def run_cmake(self, folder: Path, env: dict[str, str]) -> Path:
        """Configure, build and install; returns the prefix that was installed to."""
        # One CMake cache per environment: a cache remembers its Python and its ROS.
        environment = sys.prefix.strip(os.sep).replace(os.sep, "-")
        tree, stage = folder / environment, folder / f"{environment}-stage"
        shutil.rmtree(stage, ignore_errors=True)
        configure = [
            f"-DCMAKE_INSTALL_PREFIX={stage.resolve()}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            "-DPI0_PIP=ON",
        ]
        jobs = str(os.cpu_count() or 1)
        subprocess.check_call(["cmake", "-S", ROOT, "-B", tree, *configure], env=env)
        subprocess.check_call(
            ["cmake", "--build", tree, "--target", "install", "--parallel", jobs], env=env
        )
        return stage


class Build(build):
    sub_commands = [("build_ros", None), *build.sub_commands]


class RosDistribution(Distribution):
    """Messages are compiled: a wheel that has them belongs to one Python and one platform."""

    def has_ext_modules(self) -> bool:
        return ros_environment() is not None


package = ElementTree.parse(ROOT / "package.xml").getroot()
setup(
    name=NAME,
    version=package.findtext("version"),
    description=package.findtext("description"),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_dir={"": "."},  # so that an editable install is a path, which messages can lie beside
    package_data={f"{NAME}.sim": ["NOTICE", "*.urdf", "*.xml", "touch*_checkpoint/*"]},
    data_files=[(f"share/{NAME}/config", [str(f) for f in sorted(Path("config").iterdir())])],
    install_requires=[
        "numpy>=1.26",
        "opencv-python>=4.5,<6",
        "pyyaml",
        "tqdm",
        *requirements("robot"),
    ],
    extras_require={
        # pin is pinocchio, which ROS has as ros-<distro>-pinocchio.
        "collision": ["pin>=3"],
        # LeRobot data sets: v2.1 and v3.
        "lerobot-data": ["av>=12", "pyarrow>=14"],
        "npu": ["torch_npu"],
        "plot": ["matplotlib>=3.5"],
        "ray": ["ray[serve]>=2.9"],
        "sim": ["mujoco>=3.3.3", "pillow>=10.1"],
        # Beside pin viser needs 8 small
        # packages, Python 3.8 and any NumPy; docs/looking.md says why these two.
        "view": ["pin>=3", "trimesh", "viser>=1.0,<2"],
        "test": [
            "hypothesis",
            "packaging",
            "pillow",
            "pytest>=7",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "setuptools>=70.1",
            "selenium>=4.11",  # drives Chromium in the tests of `pi0 view`
            # Its interpreter runs the kernels for NVIDIA on a CPU. There are wheels for Linux.
            "triton; sys_platform == 'linux'",
        ],
    },
    entry_points={
        "console_scripts": [
            "pi0 = pi0_ros.cli:main",
            "pi0_node = pi0_ros.node.main:main",
            "pi0_sim = pi0_ros.sim.node:main",
            "pi0_viz = pi0_ros.viz.main:main",
        ]
    },
    distclass=RosDistribution,
    cmdclass={"build": Build, "build_ros": BuildRos},
    zip_safe=False,
)
