"""pip route: CMakeLists.txt builds and installs into a staging folder, and the wheel carries that.

colcon does not read this file: package.xml says ament_cmake. Build with
`pip install --no-build-isolation .`, because ROS has to be visible: either its wheels
(requirements/ros-*.txt) in the same environment, or a sourced /opt/ros/<distro>/setup.bash.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.build import build
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
NAME = "pi0_ros"

# The programs run under the Python of the environment they are installed in, wherever that lies.
ENV_PYTHON = b"#!/usr/bin/env python3\n"
OWN_PYTHON = b"""#!/bin/sh
'''exec' "$(dirname "$0")/../../bin/python3" "$0" "$@"
' '''
"""


def requirements(name: str) -> list[str]:
    """The requirement lines of requirements/<name>.txt."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def ros_prefixes() -> list[str]:
    """Prefixes that hold ROS: this environment's own wheels, otherwise what was sourced."""
    own = Path(sys.prefix, "share/ament_index/resource_index/packages/rosidl_default_generators")
    sourced = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes = [sys.prefix] if own.exists() else sourced
    if not prefixes or importlib.util.find_spec("ament_package") is None:
        raise SystemExit(
            f"{NAME}: no ROS 2 to build the messages with. Expected its wheels in {sys.prefix} "
            "(pip install -r requirements/ros-jazzy.txt) or a sourced "
            "/opt/ros/<distro>/setup.bash; then pip install --no-build-isolation ."
        )
    return prefixes


class BuildRos(Command):
    """Runs CMake and hands what it installs to the wheel."""

    user_options = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        prefixes = ros_prefixes()
        build_command = self.get_finalized_command("build")
        # One CMake cache per environment: a cache remembers its Python and its ROS.
        environment = sys.prefix.strip(os.sep).replace(os.sep, "-")
        tree = Path(build_command.build_base, "pip", environment)
        stage = tree.with_name(f"{environment}-stage")
        # What an earlier build installed may no longer be in the source.
        shutil.rmtree(stage, ignore_errors=True)
        shutil.rmtree(build_command.build_lib, ignore_errors=True)

        joined = os.pathsep.join(prefixes)
        env = {**os.environ, "AMENT_PREFIX_PATH": joined, "CMAKE_PREFIX_PATH": joined}
        configure = [
            f"-DCMAKE_INSTALL_PREFIX={stage.resolve()}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
        ]
        jobs = str(os.cpu_count() or 1)
        subprocess.check_call(["cmake", "-S", ROOT, "-B", tree, *configure], env=env)
        subprocess.check_call(
            ["cmake", "--build", tree, "--target", "install", "--parallel", jobs], env=env
        )

        built = next(stage.rglob(f"*-packages/{NAME}"))
        shutil.copytree(
            built,
            Path(build_command.build_lib, NAME),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for program in (stage / "lib" / NAME).iterdir():
            program.write_bytes(program.read_bytes().replace(ENV_PYTHON, OWN_PYTHON, 1))
        data_files: dict[str, list[str]] = {}
        for path in sorted(stage.rglob("*")):
            if path.is_file() and built.parent not in path.parents:
                folder = str(path.parent.relative_to(stage))
                data_files.setdefault(folder, []).append(os.path.relpath(path, ROOT))
        self.distribution.data_files = list(data_files.items())


class Build(build):
    sub_commands = [("build_ros", None), *build.sub_commands]


class NoEditable(editable_wheel):
    def run(self) -> None:
        raise SystemExit(
            f"{NAME}: editable installs have no messages; pip install --no-build-isolation ."
        )


class BinaryDistribution(Distribution):
    """The messages are compiled, so the wheel belongs to one Python and one platform."""

    def has_ext_modules(self) -> bool:
        return True


package = ElementTree.parse(ROOT / "package.xml").getroot()
setup(
    name=NAME,
    version=package.findtext("version"),
    description=package.findtext("description"),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    install_requires=[
        "numpy>=1.26",
        "opencv-python>=4.5,<6",
        "pyyaml",
        "tqdm",
        *requirements("robot"),
    ],
    extras_require={
        "npu": ["torch_npu"],
        "plot": ["matplotlib>=3.5"],
        "ray": ["ray>=2.9"],
        "sim": ["mujoco>=3.3.3", "pillow>=10.1"],
        # pin is pinocchio, which ROS has as ros-<distro>-pinocchio. Beside it viser needs 8 small
        # packages, Python 3.8 and any NumPy; docs/looking.md says why these two.
        "view": ["pin>=3", "trimesh", "viser>=1.0,<2"],
        "test": [
            "hypothesis",
            "packaging",
            "pillow",
            "pytest>=7",
            "pytest-timeout",
            "ruff",
            "websockets",  # to a browser's DevTools
        ],
    },
    entry_points={
        "console_scripts": [
            "pi0_node = pi0_ros.node.main:main",
            "pi0_replay = pi0_ros.replay.main:main",
            "pi0_eval = pi0_ros.eval.command:main",
            "pi0_view = pi0_ros.view.main:main",
            "pi0_sim = pi0_ros.sim.node:main",
            "pi0_doctor = pi0_ros.doctor.main:main",
            "pi0_demo = pi0_ros.demo.main:main",
            "pi0_demo_bag = pi0_ros.demo.bag:main",
            "pi0_demo_checkpoint = pi0_ros.checkpoint.random:main",
            "pi0_compile = pi0_ros.policy.compile_command:main",
            "pi0_profile = pi0_ros.profile.command:main",
        ]
    },
    distclass=BinaryDistribution,
    cmdclass={"build": Build, "build_ros": BuildRos, "editable_wheel": NoEditable},
    zip_safe=False,
)
