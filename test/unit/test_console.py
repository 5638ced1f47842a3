"""What commands share: figures, tables, files, options, signals."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.waiting import PATIENCE

from pi0_ros import console
from pi0_ros.errors import UserError


def test_percentiles_have_names() -> None:
    found = console.percentiles(iter([3.0, 1.0, 2.0]), (50, 95), largest=True)
    assert found == {"p50": 2.0, "p95": pytest.approx(2.9), "max": 3.0}


def test_percentiles_of_nothing_are_unknown() -> None:
    assert console.percentiles([]) == {"p50": None, "p95": None}


def test_percentiles_can_be_written_as_json() -> None:
    json.dumps(console.percentiles(np.arange(3, dtype=np.float32)))


def test_a_table_has_aligned_columns() -> None:
    text = console.table([("a", 1), ("long", None), ("b", 1000)], ("name", "n"), "<>")
    assert text.splitlines() == ["name     n", "a        1", "long     -", "b     1000"]
    assert console.table([]) == ""
    assert console.table([("a",)], (), "<>") == "a"


def test_json_goes_where_asked_and_its_folder_is_made(tmp_path: Path) -> None:
    console.write_json(None, {})
    file = tmp_path / "new" / "figures.json"
    console.write_json(file, {"a": [1]})
    assert json.loads(file.read_text()) == {"a": [1]}


def test_an_output_file_that_cannot_be_written_is_a_wrong_argument(tmp_path: Path) -> None:
    assert console.output_file(str(tmp_path / "a" / "b.json")) == tmp_path / "a" / "b.json"
    assert console.output_file("figures.json") == Path("figures.json")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "b.json"):
        with pytest.raises(argparse.ArgumentTypeError, match=str(path)):
            console.output_file(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_wrong_argument(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(argparse.ArgumentTypeError, match="not writable"):
        console.output_file(str(tmp_path / "new" / "b.json"))


def test_counts() -> None:
    assert console.count(1)("1") == 1
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"at least 1, got {text}"):
            console.count(1)(text)


def test_earlier_results_are_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert console.claim_folder(out, ["bag", "a.png"], overwrite=False) == out
    (out / "bag").mkdir()
    (out / "bag" / "data").write_text("")
    (out / "a.png").write_text("")
    (out / "mine.txt").write_text("")
    with pytest.raises(UserError, match=r"bag exists: .*--overwrite"):
        console.claim_folder(out, ["bag", "a.png"], overwrite=False)
    assert (out / "bag" / "data").exists()
    console.claim_folder(out, ["bag", "a.png"], overwrite=True)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_link_among_the_results_is_removed_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "bag").symlink_to(tmp_path / "elsewhere")
    console.claim_folder(out, ["bag"], overwrite=True)
    assert (tmp_path / "elsewhere").is_dir() and not (out / "bag").exists()


def test_a_dangling_link_counts_as_a_result(tmp_path: Path) -> None:
    (tmp_path / "bag").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="exists"):
        console.claim_folder(tmp_path, ["bag"], overwrite=False)


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.progress(range(3), desc="work")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal() -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    code = "from pi0_ros import console; list(console.progress(range(3), desc='work'))"
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=True, timeout=PATIENCE)
    os.close(slave)
    with open(master, "rb", buffering=0) as terminal:
        shown = b""
        with suppress(OSError):  # EIO: all was read
            while part := terminal.read(1000):
                shown += part
    assert b"work: 100%" in shown


@pytest.mark.parametrize("module", ["rclpy.node", "sensor_msgs.msg", "pi0_ros.msg", "std_srvs"])
def test_what_to_do_without_ros(module: str) -> None:
    assert console.missing(module) == console.NEEDS_ROS


def test_what_to_do_without_other_packages() -> None:
    assert console.missing("viser") == "needs viser, which is not installed: pip install viser"
    assert console.missing("pi0_ros.no_such_module") is None
    assert console.missing("torch") is None


def test_what_is_missing_is_found_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    console.require("json", "xml.dom")
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delitem(sys.modules, "rclpy.node", raising=False)  # another test's import
    for module in ("rclpy", "rclpy.node"):
        with pytest.raises(UserError, match="needs ROS 2"):
            console.require("json", module)


def test_signals_leave_a_mark_and_interrupt_at_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), console.deferred_signals() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
    assert signal.getsignal(signal.SIGTERM) == before
    with console.deferred_signals() as interrupted:
        assert not interrupted()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_is_told_with_the_file() -> None:
    with pytest.raises(OSError, match="/dev/full") as error:
        console.write_json(Path("/dev/full"), {})
    assert error.value.filename == "/dev/full"
