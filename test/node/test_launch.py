"""The launch files, loaded by the real launch and launch_ros where ROS is installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("pi0.launch.py", "replay.launch.py", "sim.launch.py")


@pytest.mark.parametrize("name", FILES)
def test_launch_files_compile(name):
    """Where launch is absent this is all that can be tried; PyPI's `launch` is another program."""
    compile((ROOT / "launch" / name).read_text(), name, "exec")


@pytest.fixture
def load():
    pytest.importorskip("launch_ros")
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    try:
        get_package_share_directory("pi0_ros")
    except PackageNotFoundError:
        pytest.skip("pi0_ros is not installed")
    return lambda name: get_launch_description_from_python_launch_file(str(ROOT / "launch" / name))


def walk(description, arguments):
    """Everything a launch would do, without starting a process."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable

    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update(arguments)
    made = []
    for entity in description.entities:
        made.append(entity)
        if isinstance(entity, (DeclareLaunchArgument, SetEnvironmentVariable)):
            entity.execute(context)
        elif isinstance(entity, OpaqueFunction):
            made += entity.execute(context)
    return context, made


def test_pi0_launch(load, monkeypatch):
    from launch_ros.actions import Node

    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    arguments = {
        "checkpoint": "/data/7",
        "params_file": str(ROOT / "config/demo.yaml"),
        "namespace": "left",
        "front_image": "/cam/colour",
        "joint_trajectory": "/arm/joint_trajectory",
    }
    context, made = walk(load("pi0.launch.py"), arguments)
    assert context.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml", "the user's stays"
    assert context.environment["FASTDDS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds.xml")
    assert context.environment["MALLOC_TRIM_THRESHOLD_"] == "268435456"

    (node,) = (action for action in made if isinstance(action, Node))
    node._perform_substitutions(context)
    assert node.expanded_node_namespace == "/left"
    remaps = dict(node.expanded_remapping_rules)
    assert remaps["front/image_raw"] == "/cam/colour"
    assert remaps["front/image_raw/compressed"] == "/cam/colour/compressed"
    assert remaps["wrist/image_raw"] == "wrist/image_raw"
    assert remaps["~/joint_trajectory"] == "/arm/joint_trajectory"


def test_replay_launch(load):
    from launch.actions import DeclareLaunchArgument, RegisterEventHandler

    _, made = walk(load("replay.launch.py"), {"bag": "/data/run1"})
    declared = {action.name for action in made if isinstance(action, DeclareLaunchArgument)}
    assert {"bag", "rate", "loop"} <= declared
    assert sum(isinstance(action, RegisterEventHandler) for action in made) == 2


def test_sim_launch(load):
    from launch.actions import IncludeLaunchDescription
    from launch_ros.actions import Node

    arguments = {"seed": "7", "use_sim_time": "true", "speed": "4", "namespace": "toy"}
    context, made = walk(load("sim.launch.py"), arguments)
    (policy,) = (action for action in made if isinstance(action, IncludeLaunchDescription))
    given = {name: value.perform(context) for name, value in policy.launch_arguments}
    assert given["checkpoint"].endswith("sim/touch_checkpoint")
    assert Path(given["params_file"]).name == "touch.yaml"
    assert Path(given["joint_limits"]).name == "so101_limits.yaml"
    assert given["start_enabled"] == given["use_sim_time"] == "true"

    (sim,) = (action for action in made if isinstance(action, Node))
    assert made.index(policy) < made.index(sim), "its environment is for both"
    sim._perform_substitutions(context)
    assert sim.expanded_node_namespace == "/toy"
    words = [part.perform(context) for word in sim.cmd[1:8] for part in word]
    assert words == ["--seed", "7", "--variant", "touch", "--clock", "--speed", "4"]
    assert dict(sim.expanded_remapping_rules)["joint_trajectory"] == given["joint_trajectory"]
