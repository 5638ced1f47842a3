"""The launch files, loaded by the real launch and launch_ros where ROS is installed."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
from support.domains import free_domain
from support.process import Process
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FILES = ("pi0.launch.py", "replay.launch.py", "sim.launch.py", "view.launch.py")


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
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
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
    assert context.environment["MALLOC_MMAP_THRESHOLD_"] == "16777216"

    node, viz = (action for action in made if isinstance(action, Node))
    node._perform_substitutions(context)
    assert node.expanded_node_namespace == "/left"
    assert not viz.condition.evaluate(context)
    context.launch_configurations["viz"] = "true"
    assert viz.condition.evaluate(context)
    viz._perform_substitutions(context)
    assert (viz.node_executable, viz.expanded_node_namespace) == ("pi0_viz", "/left")
    remaps = dict(node.expanded_remapping_rules)
    assert remaps["front/image_raw"] == "/cam/colour"
    assert remaps["front/image_raw/compressed"] == "/cam/colour/compressed"
    assert remaps["wrist/image_raw"] == "wrist/image_raw"
    assert remaps["~/joint_trajectory"] == "/arm/joint_trajectory"
    with pytest.raises(RuntimeError, match=r"params_file:=/none\.yaml: there is no such file"):
        walk(load("pi0.launch.py"), {"params_file": "/none.yaml"})


PROGRAM = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess, OpaqueFunction
from launch_ros.ros_adapters import get_ros_adapter
from pi0_ros.ros.launching import end_with

script = sys.argv[1]
first = ExecuteProcess(cmd=[sys.executable, "-c", script])
other = ExecuteProcess(cmd=[sys.executable, "-c", "import time; time.sleep(600)"])
adapter = OpaqueFunction(function=lambda context: get_ros_adapter(context) and None)
service = LaunchService()
parts = [adapter, end_with(first, "the program"), end_with(other, "the other"), other, first]
service.include_launch_description(LaunchDescription(parts))
sys.exit(service.run())
"""


@pytest.mark.parametrize(
    ("script", "how", "status", "says"),
    [
        ("", "", 0, "process has finished cleanly"),
        ("raise SystemExit(3)", "", 1, "the program ended with status 3"),
        ("import time; time.sleep(600)", "ctrl-c", 0, "user interrupted with ctrl-c"),
    ],
)
def test_the_end_of_a_launch(load, tmp_path, script, how, status, says):
    """Its status, and that no second shutdown is asked for, which is an error of launch_ros."""
    log = tmp_path / "log"
    program = Process([sys.executable, "-c", PROGRAM, script], log, domain=free_domain())
    if how == "ctrl-c":
        started = "process started with pid"
        wait_until(lambda: program.output.count(started) == 2, lambda: f"both; {program.output}")
        program.send(signal.SIGINT)
    wait_until(lambda: not program.lives(), lambda: f"the end; {program.output}")
    assert program.popen.returncode == status, program.output
    assert says in program.output
    assert "Cannot shutdown a ROS adapter" not in program.output


def test_replay_launch(load, tmp_path):
    from launch.actions import DeclareLaunchArgument, RegisterEventHandler

    with pytest.raises(RuntimeError, match="bag:=/data/run1: there is no such recording"):
        walk(load("replay.launch.py"), {"bag": "/data/run1"})
    _, made = walk(load("replay.launch.py"), {"bag": str(tmp_path)})
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


def test_view_launch(load, tmp_path):
    from launch_ros.actions import Node

    urdf = tmp_path / "arm.urdf"
    urdf.write_text('<robot name="a"><link name="pedestal"/></robot>')
    arguments = {"urdf": str(urdf), "node": "/left/pi0", "robot": "false", "wrist_image": "/w/raw"}
    context, made = walk(load("view.launch.py"), arguments)
    nodes = {}
    for action in (action for action in made if isinstance(action, Node)):
        action._perform_substitutions(context)
        nodes[action.expanded_node_namespace, action.node_executable] = action
    starts = {
        key: node.condition is None or node.condition.evaluate(context)
        for key, node in nodes.items()
    }
    assert sum(starts.values()) == 4, starts

    ghost = nodes["/ghost", "robot_state_publisher"]
    remaps = dict(ghost.expanded_remapping_rules)
    assert remaps["joint_states"] == "/left/pi0_viz/preview/joint_states"
    viz = nodes["/left", "pi0_viz"]
    assert dict(viz.expanded_remapping_rules)["pi0/action_chunk"] == "/left/pi0/action_chunk"
    (rviz,) = (node for (_, name), node in nodes.items() if name == "rviz2")
    words = [part.perform(context) for word in rviz.cmd[1:5] for part in word]
    assert words[0] == "-d" and words[1].endswith("config/pi0.rviz")
    assert words[2:] == ["-f", "pedestal"]
    remaps = dict(rviz.expanded_remapping_rules)
    assert remaps["/pi0_viz/markers"] == "/left/pi0_viz/markers"
    assert remaps["/wrist/image_raw"] == "/w/raw"

    urdf.write_text("<robot")
    with pytest.raises(RuntimeError, match="no XML"):
        walk(load("view.launch.py"), arguments)


def test_the_rviz_configuration_shows_what_pi0_viz_publishes():
    """Its topics are those of pi0_viz, and those that view.launch.py remaps or makes."""
    import yaml

    document = yaml.safe_load((ROOT / "config/pi0.rviz").read_text())
    displays = document["Visualization Manager"]["Displays"]
    topics = {display["Class"].rpartition("/")[2]: set() for display in displays}
    for display in displays:
        for key in ("Topic", "Description Topic"):
            if key in display:
                topics[display["Class"].rpartition("/")[2]].add(display[key]["Value"])
    launch = (ROOT / "launch/view.launch.py").read_text()
    assert topics["MarkerArray"] == {"/pi0_viz/markers"} and topics["Path"] == {"/pi0_viz/path"}
    assert topics["Image"] == {"/front/image_raw", "/wrist/image_raw"}
    assert topics["RobotModel"] == {"/robot_description", "/ghost/robot_description"}
    for topic in ("/front/image_raw", "/wrist/image_raw", "/robot_description"):
        assert f'("{topic}", LaunchConfiguration(' in launch
    (markers,) = (display for display in displays if display["Class"].endswith("MarkerArray"))
    from pi0_ros.viz.messages import WIDTHS

    assert set(markers["Namespaces"]) == {*WIDTHS, "text"}
    prefixes = [d["TF Prefix"] for d in displays if d["Class"].endswith("RobotModel")]
    assert prefixes == ["", "ghost"] and '_GHOST = "ghost"' in launch


def test_the_foxglove_layout_shows_the_same_topics():
    """Every panel has a place; topics and services are those of the nodes."""
    document = json.loads((ROOT / "config/pi0.foxglove.json").read_text())
    panels = document["configById"]

    def placed(node):
        return {node} if isinstance(node, str) else placed(node["first"]) | placed(node["second"])

    assert placed(document["layout"]) == set(panels)
    scene = panels["3D!scene"]
    assert set(scene["topics"]) == {"/pi0_viz/markers", "/pi0_viz/path"}
    assert scene["layers"]["robot"]["topic"] == "/robot_description"
    images = {p["imageMode"]["imageTopic"] for name, p in panels.items() if "Image!" in name}
    assert images == {"/front/image_raw", "/wrist/image_raw"}
    services = {
        p["serviceName"]: json.loads(p["requestPayload"])
        for name, p in panels.items()
        if "CallService!" in name
    }
    assert services == {"/pi0/enable": {"data": True}, "/pi0/reset": {}}
    words = panels["Publish!instruction"]
    assert (words["topicName"], words["datatype"]) == ("/instruction", "std_msgs/msg/String")
    assert set(json.loads(words["value"])) == {"data"}
    assert panels["DiagnosticSummary!all"]["topicToRender"] == "/diagnostics"
    # What Foxglove calls these panels in a layout that it exports.
    kinds = {"3D", "Image", "Plot", "DiagnosticSummary", "CallService", "Publish"}
    assert {name.partition("!")[0] for name in panels} == kinds
    fields = re.findall(r"^\w+(?:\[\])? (\w+)", (ROOT / "msg/ActionChunk.msg").read_text(), re.M)
    for path in panels["Plot!ages"]["paths"]:
        topic, _, field = path["value"].partition(".")
        assert topic == "/pi0/action_chunk" and field.partition("[")[0] in fields
