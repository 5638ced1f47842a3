import os
import sys

import pytest
from support.waiting import wait_until

from pi0_ros.ros.process import NodeEnded, NodeProcess

_UP = "import time; print('up', flush=True); time.sleep(600)"
# A shell that runs the tests in its background has its children ignore SIGINT.
HEARS = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {_UP}"
DEAF = (
    "import signal; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)];"
    + _UP
)


def wait_for_output(process: NodeProcess, text: str) -> None:
    wait_until(lambda: text in process.last_output(), f"{text!r} in the output")


def test_the_end_of_the_block_ends_the_process(tmp_path):
    with NodeProcess([sys.executable, "-c", HEARS], tmp_path / "log") as process:
        wait_for_output(process, "up")
        process.check()
        pid = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert process.warnings == []


def test_a_process_that_does_not_listen_is_killed_within_the_bound(tmp_path):
    with NodeProcess([sys.executable, "-c", DEAF], tmp_path / "log") as process:
        wait_for_output(process, "up")
        assert process.stop(limit=0.2) == -9
    assert process.warnings == [
        "the node did not end in 0.2 s after SIGINT",
        "the node did not end in 0.2 s after SIGTERM",
    ]


def test_a_process_that_ended_is_reported_with_its_last_output(tmp_path):
    code = "import sys; [print('line', k) for k in range(100)]; sys.exit('no such checkpoint')"
    with NodeProcess([sys.executable, "-c", code], tmp_path / "log") as process:
        process._process.wait(10)
        with pytest.raises(NodeEnded) as caught:
            process.check()
    text = str(caught.value)
    assert "status 1" in text and "no such checkpoint" in text and "line 99" in text
    assert "line 10\n" not in text
