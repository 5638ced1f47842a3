"""pi0_node as it is, which also writes down every one of its timings and when it was taken.

/diagnostics has percentiles of the last thousand, in which the first ticks count too; and what
decoding and the transfer to the policy's process take counts as inference there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pi0_ros.node.main import main as pi0_node
from pi0_ros.node.progress import Timings


class WrittenTimings(Timings):
    """Each timing becomes a line of a file: monotonic seconds, stage, seconds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w", buffering=1)  # a line at a time: the node may be killed

    def record(self, stage: str, seconds: float) -> None:
        """Keep a duration, and write it."""
        super().record(stage, seconds)
        self._file.write(f"{time.monotonic():.6f} {stage} {seconds:.9f}\n")


def main(argv: list[str]) -> int:
    """Run the node; `argv` is the file to write to, and then the arguments of pi0_node."""
    return pi0_node(argv[1:], timings=WrittenTimings(Path(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
