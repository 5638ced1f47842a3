"""One replay over DDS, from the recording to the results: checks, node, playing, files."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros import console
from pi0_ros.bags.bag import Bag
from pi0_ros.bags.writer import BagWriter
from pi0_ros.replay.case import node_arguments, open_case
from pi0_ros.replay.report import make_report
from pi0_ros.replay.results import BAG, LOG, claim_results, plot_results
from pi0_ros.ros.environment import environment, private_graph
from pi0_ros.ros.process import NodeProcess

if TYPE_CHECKING:
    from pi0_ros.replay.session import Output

NODE_COMMAND: Sequence[str] = (sys.executable, "-m", "pi0_ros.node")
PLAYER_NAME = "pi0_replay"
REFRESH = 0.5  # seconds between two states of a progress bar
STILL_RUNNING = "the last inference did not end in time; its chunk is missing"


def replay(args: argparse.Namespace, out: Path, interrupted: Callable[[], bool]) -> dict[str, Any]:
    """Replays a recording; leaves `out`/bag, `out`/chunks.png and `out`/node.log.

    Args:
        args: the options of command.py.
        interrupted: asked every few milliseconds; True ends the replay and its node.

    Returns:
        The figures of `make_report`.

    Raises:
        UserError: the recording cannot be read or lacks what the node needs, the node would not
            take its arguments, `out` holds results already, ROS is not installed, the node's
            process ended too early, or the node and the player did not come together.
        FileNotFoundError: no checkpoint or parameter file.
        KeyboardInterrupt: `interrupted` returned True.
    """
    console.require("rclpy", "pi0_ros.msg")
    arguments = node_arguments(args.checkpoint, args.params, args.ros_args, args.enable)
    case = open_case(args.bag, arguments, args.remap)
    if interrupted():  # while the results of an earlier replay are still there
        raise KeyboardInterrupt
    claim_results(out, case.bag, args.overwrite)
    # The surroundings must be in place before this process first uses ROS.
    with environment(private_graph(os.environ)), ExitStack() as stack:
        from pi0_ros.replay.session import Session, output_types
        from pi0_ros.ros.spinning import ros_node

        node = stack.enter_context(ros_node(PLAYER_NAME))
        command = [*NODE_COMMAND, "--ros-args", *arguments]
        process = stack.enter_context(NodeProcess(command, out / LOG))
        session = Session(node, case, process, interrupted)
        with console.progress(
            desc="Starting the node", total=0, bar_format="{desc} {elapsed}", mininterval=REFRESH
        ) as bar:
            session.wait_until_ready(args.startup_limit, lambda: bar.update(0))
        types = output_types(case.interface)
        writer = stack.enter_context(BagWriter(out / BAG, case.bag.storage, types))
        session.output.recorder.write = writer.write
        with _playing_bar(case.bag, session.output) as on_tick:
            playback = session.play(args.rate, on_tick)
        in_time = len(session.output.chunks)
        drained = session.drain()
    output = session.output
    warnings = [*process.warnings, *([] if drained else [STILL_RUNNING])]
    return make_report(
        str(args.bag),
        args.rate,
        playback,
        case.cameras,
        output.chunks,
        in_time,
        output.trajectories,
        output.counters,
        [*warnings, *plot_results(out, case, output.chunks, playback.start)],
    )


@contextmanager
def _playing_bar(bag: Bag, output: Output) -> Iterator[Callable[[int], None]]:
    """Shows how many seconds of the recording are played, and what has come of them."""
    total = (bag.end - bag.start) / 1e9
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s{postfix}"
    with console.progress(desc="Playing", total=total, bar_format=layout) as bar:
        shown = 0.0

        def on_tick(sim_time: int) -> None:
            nonlocal shown
            if time.monotonic() - shown < REFRESH and sim_time < bag.end:
                return
            shown = time.monotonic()
            refused = sum(output.counters[-1].refused.values()) if output.counters else 0
            bar.set_postfix(chunks=len(output.chunks), refused=refused, refresh=False)
            bar.n = min(total, (sim_time - bag.start) / 1e9)
            bar.refresh()

        yield on_tick
