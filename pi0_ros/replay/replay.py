"""One replay from the recording to the results: checks, node, playing, files."""

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pi0_ros.bags.bag import Bag, joint_positions, match_topics, open_bag
from pi0_ros.bags.writer import BagWriter
from pi0_ros.node.interface import Topic, read_interface
from pi0_ros.replay.report import Report, make_report
from pi0_ros.ros.environment import environment, private_graph
from pi0_ros.ros.process import NodeError, NodeProcess

if TYPE_CHECKING:
    from pi0_ros.replay.recorder import Recorder

NODE_COMMAND = (sys.executable, "-m", "pi0_ros.node")
PLAYER_NAME = "pi0_replay"
REFRESH = 0.5  # seconds between two states of a progress bar
ROS_MODULES = {
    "rclpy": "source /opt/ros/<distribution>/setup.bash, or install ROS's wheels into this Python",
    "pi0_ros.msg": "build and install pi0_ros (colcon build, or pip install .); a source tree "
    "alone has no messages",
}
STILL_RUNNING = "the last inference did not end in time; its chunk is missing"
NO_PICTURE = (
    "chunks.png is not drawn: matplotlib is not installed (pip install matplotlib, or apt install "
    "python3-matplotlib)"
)


def replay(
    bag_path: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    rate: float = 1.0,
    params: str | Path | None = None,
    ros_args: Sequence[str] = (),
    remaps: Mapping[str, str] | None = None,
    enable: bool = False,
    overwrite: bool = False,
    startup_limit: float = 300.0,
    progress: bool = True,
    node_command: Sequence[str] = NODE_COMMAND,
    interrupted: Callable[[], bool] = lambda: False,
) -> Report:
    """Replays a recording; leaves `out`/bag, `out`/chunks.png and `out`/node.log.

    Args:
        bag_path: rosbag2 directory or file.
        checkpoint: directory of the pi0 checkpoint.
        out: directory for the results, made where it is missing.
        rate: seconds of the recording per second of wall time.
        params: the node's parameter file.
        ros_args: ROS arguments for the node, such as ("-p", "device:=cuda:0").
        remaps: topic in the recording -> topic to play it on.
        enable: let the node publish trajectories too; it needs `joint_limits` then.
        overwrite: replace the results of an earlier replay.
        startup_limit: seconds for the node to load the checkpoint.
        progress: show progress on stderr.
        node_command: starts the node; its ROS arguments are appended.
        interrupted: asked every few milliseconds while the recording plays, and every `POLL`
            seconds before and after; True ends the replay and its node.

    Raises:
        FileNotFoundError: no checkpoint or parameter file.
        FileExistsError: `out` holds results already.
        BagError: the recording cannot be read or lacks what the node needs.
        ArgumentsError: the node would not take its parameters.
        NodeError: ROS is not installed, the node's process ended too early (NodeEnded), or the
            node and the player did not come together.
        KeyboardInterrupt: `interrupted` said so.
    """
    _require_ros()
    plot_chunks = plotter()
    checkpoint, out = Path(checkpoint), Path(out)
    for path in (checkpoint, *([] if params is None else [Path(params)])):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
    bag = open_bag(bag_path)
    arguments = node_arguments(
        checkpoint, None if params is None else Path(params), ros_args, enable
    )
    # The surroundings must be in place before this process first uses ROS.
    with environment(private_graph(os.environ)):
        interface = read_interface(arguments)
        topics = match_topics(bag, interface.observed, remaps)
        if interrupted():  # while the results of an earlier replay are still there
            raise KeyboardInterrupt
        results = prepare(out, bag, overwrite)

        from pi0_ros.replay.session import Session, output_types
        from pi0_ros.ros.spinning import ros_node

        command = [*node_command, "--ros-args", *arguments]
        with ExitStack() as stack:
            node = stack.enter_context(ros_node(PLAYER_NAME))
            process = stack.enter_context(NodeProcess(command, out / "node.log"))
            session = Session(node, bag, topics, interface, process, interrupted)
            with _startup_bar(progress) as on_poll:
                session.wait_until_ready(startup_limit, on_poll)
            session.recorder.writer = stack.enter_context(
                BagWriter(results, bag.storage, output_types(interface))
            )
            with _playing_bar(bag, session.recorder, progress) as on_tick:
                playback = session.play(rate, on_tick)
            in_time = len(session.recorder.chunks)
            drained = session.drain()
        recorder = session.recorder
    cameras = [topic for topic, need in topics.items() if "Image" in need.type]
    report = make_report(
        str(bag_path),
        rate,
        playback,
        cameras,
        recorder.chunks,
        in_time,
        recorder.trajectories,
        recorder.counters,
        [
            *process.warnings,
            *([] if drained else [STILL_RUNNING]),
            *([] if plot_chunks else [NO_PICTURE]),
        ],
    )
    if recorder.chunks and plot_chunks:
        recorded = joint_positions(bag, joint_states_topic(topics))
        plot_chunks(out / "chunks.png", recorder.chunks, recorded, playback.start, bag.path.name)
    return report


def _require_ros() -> None:
    for module, remedy in ROS_MODULES.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise NodeError(f"{module} cannot be imported ({error}): {remedy}") from error


def plotter() -> Callable[..., None] | None:
    """plot.plot_chunks, or None where matplotlib, an optional dependency, is not installed."""
    try:
        from pi0_ros.replay.plot import plot_chunks
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        return None
    return plot_chunks


def node_arguments(
    checkpoint: Path, params: Path | None, ros_args: Sequence[str], enable: bool = False
) -> list[str]:
    """What follows --ros-args on the node's command line; of two values the later one wins."""
    # rcl reads a value as YAML: quotes keep a path such as 2024 a string.
    quoted = str(checkpoint.resolve()).replace("'", "''")
    files = [] if params is None else ["--params-file", str(params.resolve())]
    # The replay configures and activates the node itself, which tells it how that went.
    ours = ["use_sim_time:=true", f"checkpoint:='{quoted}'", "autostart:=false", "enabled:=false"]
    ours.append(f"start_enabled:={str(enable).lower()}")
    return [*files, *ros_args, *(word for value in ours for word in ("-p", value))]


def prepare(out: Path, bag: Bag, overwrite: bool) -> Path:
    """Makes `out` and room in it; returns the path of the recording to write."""
    results = out / "bag"
    if results.exists():
        if not overwrite:
            raise FileExistsError(
                f"{results} is there already: choose another --out, or --overwrite it"
            )
        if bag.path.resolve().is_relative_to(results.resolve()):
            raise FileExistsError(f"{results} is the recording to replay: choose another --out")
        if not (results / "metadata.yaml").exists():
            raise FileExistsError(f"{results} is no recording: remove it, or choose another --out")
        shutil.rmtree(results)
    out.mkdir(parents=True, exist_ok=True)
    (out / "chunks.png").unlink(missing_ok=True)
    return results


def joint_states_topic(topics: Mapping[str, Topic]) -> str:
    return next(topic for topic, need in topics.items() if need.type.endswith("/JointState"))


@contextmanager
def _startup_bar(progress: bool) -> Iterator[Callable[[], None]]:
    """Shows for how long the node has been loading."""
    layout = "{desc} {elapsed}"
    with tqdm(
        desc="Starting the node",
        total=0,
        bar_format=layout,
        mininterval=REFRESH,
        disable=not progress,
    ) as bar:
        yield lambda: bar.update(0)


@contextmanager
def _playing_bar(bag: Bag, recorder: "Recorder", progress: bool) -> Iterator[Callable[[int], None]]:
    """Shows how many seconds of the recording are played, and what has come of them."""
    total = (bag.end - bag.start) / 1e9
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s{postfix}"
    with tqdm(desc="Playing", total=total, bar_format=layout, disable=not progress) as bar:
        shown = 0.0

        def on_tick(sim_time: int) -> None:
            nonlocal shown
            if time.monotonic() - shown < REFRESH and sim_time < bag.end:
                return
            shown = time.monotonic()
            refused = sum(recorder.counters[-1].refused.values()) if recorder.counters else 0
            bar.set_postfix(chunks=len(recorder.chunks), refused=refused, refresh=False)
            bar.n = min(total, (sim_time - bag.start) / 1e9)
            bar.refresh()

        yield on_tick
