"""The node as a process of its own: started, watched and ended within a bound."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pi0_ros.errors import UserError


class NodeError(UserError, RuntimeError):
    """A node that was started or asked did not do what it should; the text tells what."""


class NodeEnded(NodeError):
    """The process of a node ended too early."""


class NodeProcess:
    """Runs the node from the start of a `with` block to its end; its output goes to a file.

    The process gets a session of its own, so that a Ctrl-C in the terminal reaches it only through
    `stop`.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = list(command)
        self._log = log
        self._process: subprocess.Popen[bytes]  # within the block
        self.warnings: list[str] = []

    def __enter__(self) -> "NodeProcess":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises NodeEnded, with the node's last output, if the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise NodeEnded(
                f"the node ended with status {status} ({' '.join(self._command)}).\n"
                f"Its last output ({self._log}):\n{self.last_output()}"
            )

    def last_output(self, lines: int = 20) -> str:
        """The last lines that the node wrote, indented."""
        with self._log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - 16384))
            text = log.read().decode(errors="replace")
        tail = text.splitlines()[-lines:]
        return "\n".join(f"  {line}" for line in tail) or "  (none)"

    def stop(self, limit: float = 5.0) -> int:
        """Ends the process: SIGINT, after `limit` seconds SIGTERM, after as many again SIGKILL.

        Returns its exit status, negative for a signal.
        """
        process = self._process
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                if process.poll() is not None:
                    break
                process.send_signal(number)
                try:
                    process.wait(limit)
                except subprocess.TimeoutExpired:
                    self.warnings.append(f"the node did not end in {limit:g} s after {number.name}")
        finally:
            if process.poll() is None:
                process.kill()
        return process.wait()
