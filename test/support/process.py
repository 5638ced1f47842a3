"""Processes that tests start: each in a session of its own, with its output in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.waiting import PATIENCE, NotWithin, wait_until

# The ROS wheels of PyPI mark an interpreter that they re-executed; a child must not inherit that.
_DROPPED = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE",)


class Process:
    """A started program. Its modules come from this tree, by the PYTHONPATH of test/conftest.py.

    Attributes:
        log: the file with its output and its errors.
        popen: the subprocess.Popen.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        domain: int | None = None,
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        """Start it.

        Args:
            command: program and arguments.
            log: file to write to; replaced.
            domain: ROS_DOMAIN_ID; None: that of this process.
            environment: further variables.
        """
        self.log = log
        env = {k: v for k, v in os.environ.items() if k not in _DROPPED}
        env |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        if domain is not None:
            env["ROS_DOMAIN_ID"] = str(domain)
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
                env={**env, **environment},
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    @property
    def tail(self) -> str:
        """The end of its output, for a message."""
        return f"the end of {self.log}:\n{self.output[-2000:]}"

    def lives(self) -> bool:
        return self.popen.poll() is None

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()

    def wait_for(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until the output holds the text.

        Raises:
            NotWithin: it does not come, or the process ends without it.
        """

        def there() -> bool:
            lived = self.lives()  # looked at first: what is written last still counts
            if text in self.output:
                return True
            if not lived:
                raise NotWithin(f"{text!r}: the process has ended; {self.tail}")
            return False

        wait_until(there, lambda: f"{text!r}; {self.tail}", patience)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, not its children."""
        self.popen.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end and return the exit status.

        Raises:
            NotWithin: it goes on; it is killed then.
        """
        try:
            return self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NotWithin(f"not within {patience:g} s: the end of it; {self.tail}") from None

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """`send` and `wait`."""
        self.send(number)
        return self.wait(patience)

    def kill(self) -> None:
        """Kill it and what it started, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.popen.stdin.close()

    def figures(self) -> dict[str, float]:
        """What the kernel counts for it: resident memory in MB, threads, open files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {
            "rss_mb": int(fields["VmRSS"].split()[0]) / 1024,
            "threads": int(fields["Threads"]),
            "files": len(os.listdir(f"/proc/{self.pid}/fd")),
        }


def process_lives(pid: int) -> bool:
    """Whether any process has this id and has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def processes_with(*words: str) -> list[str]:
    """Command lines of running processes that hold all these words."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words):
                found.append(line)
    return found
