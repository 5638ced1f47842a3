"""The folder of a replay's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros import console
from pi0_ros.bags.bag import Recording
from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.bags.messages import joint_positions
from pi0_ros.bags.results import FIGURES
from pi0_ros.errors import UserError
from pi0_ros.replay.case import Case

BAG, PLOT, LOG = "bag", "chunks.png", "node.log"
DIFFERENCE, GOLDEN = "diff.png", "golden.json"


def claim_results(out: Path, bag: Recording, overwrite: bool) -> None:
    """Makes the folder of the results; see `console.claim_folder`."""
    if bag.path.resolve().is_relative_to((out / BAG).resolve()):
        raise UserError(f"{out / BAG} is the recording to replay: choose another --out")
    console.claim_folder(out, (BAG, PLOT, FIGURES, LOG, DIFFERENCE, GOLDEN), overwrite)


def plot_results(out: Path, case: Case, chunks: Sequence[ChunkRecord], start: int) -> list[str]:
    """Draws the chunks, or returns a warning; `start` is the time in ns that the plot calls 0."""
    if not console.is_installed("matplotlib"):
        return [f"{PLOT} {console.missing('matplotlib')}"]
    if chunks:
        from pi0_ros.replay.plot import plot_chunks

        recorded = joint_positions(case.bag, case.joint_states)
        plot_chunks(out / PLOT, chunks, recorded, start, case.bag.path.name, case.units)
    return []
