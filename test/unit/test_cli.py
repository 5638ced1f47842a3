"""The command `pi0`: its verbs, exit statuses, signals, errors, and what its help imports."""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from types import ModuleType

import pytest
from support import ROOT
from support.waiting import PATIENCE

from pi0_ros import cli, console
from pi0_ros.errors import UserError

HEAVY = (
    "cv2",
    "matplotlib",
    "mujoco",
    "numpy",
    "rclpy",
    "rosbags",
    "torch",
    "tqdm",
    "viser",
    "yaml",
)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Makes `pi0 try` run a function, or raise an exception."""

    def make(action) -> None:
        module = ModuleType("pi0_try")
        module.__doc__ = "pi0 try: try something."

        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("--number", type=int)

        def run(args: argparse.Namespace) -> int:
            if isinstance(action, BaseException):
                raise action
            return action(args)

        module.add_arguments, module.run = add_arguments, run
        monkeypatch.setitem(sys.modules, "pi0_try", module)
        monkeypatch.setitem(cli.VERBS, "try", ("pi0_try", "for a test"))

    return make


@pytest.mark.parametrize("status", [0, 1])
def test_the_status_is_what_the_verb_returns(verb, status: int) -> None:
    verb(lambda args: status + args.number)
    assert cli.main(["try", "--number", "0"]) == status


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("the bag is empty"), 1, "pi0 try: the bag is empty\n"),
        (FileNotFoundError(2, "No such file", "a.bag"), 1, "pi0 try: a.bag: No such file\n"),
        (ConnectionRefusedError("no"), 1, "pi0 try: no\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, "pi0 try: Broken pipe\n"),
        (KeyboardInterrupt(), 130, "pi0 try: interrupted\n"),
        (ModuleNotFoundError(name="rclpy"), 1, f"pi0 try: {console.NEEDS_ROS}\n"),
        (ModuleNotFoundError(name="mujoco"), 1, "pi0 try: needs mujoco, which is not"),
    ],
)
def test_what_the_user_can_mend_is_a_sentence(verb, capsys, error, status: int, text: str) -> None:
    verb(error)
    assert cli.main(["try"]) == status
    assert capsys.readouterr().err.startswith(text)


@pytest.mark.parametrize("error", [ValueError("x"), ModuleNotFoundError(name="pi0_ros.typo")])
def test_a_bug_keeps_its_traceback(verb, error: Exception) -> None:
    verb(error)
    with pytest.raises(type(error)):
        cli.main(["try"])


@pytest.mark.parametrize(
    "arguments", [[], ["no_such_verb"], ["try", "--no-such-option"], ["try", "--number", "x"]]
)
def test_wrong_arguments_are_status_2(verb, capsys, arguments: list[str]) -> None:
    verb(lambda args: 0)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == console.WRONG_ARGUMENTS
    assert "usage: pi0" in capsys.readouterr().err


def test_options_are_not_abbreviated(verb) -> None:
    verb(lambda args: 0)
    with pytest.raises(SystemExit):
        cli.main(["try", "--num", "1"])


def test_arguments_that_contradict_each_other_are_status_2(verb) -> None:
    verb(lambda args: 0)
    sys.modules["pi0_try"].check = lambda parser, args: parser.error("no")
    with pytest.raises(SystemExit) as ended:
        cli.main(["try"])
    assert ended.value.code == console.WRONG_ARGUMENTS


def test_sigterm_ends_like_ctrl_c(verb) -> None:
    before = signal.getsignal(signal.SIGTERM)
    verb(lambda args: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["try"]) == console.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) == before


SLEEPER = """
import signal, sys, time, types
from pi0_ros import cli
# A shell that runs the tests in its background has its children ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
module = types.ModuleType("pi0_try")
module.add_arguments = lambda parser: None
def run(args):
    print("ready", flush=True)
    time.sleep(60)
module.run = run
sys.modules["pi0_try"] = module
cli.VERBS["try"] = ("pi0_try", "")
sys.exit(cli.main(["try"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_with_130_and_one_line(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "pi0 try: interrupted\n")


def test_a_reader_that_leaves_is_no_traceback() -> None:
    printer = SLEEPER.replace("time.sleep(60)", "[print('x' * 80) for _ in range(10_000)]")
    process = subprocess.Popen(
        [sys.executable, "-c", printer], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE) == console.FAILED


def test_the_help_names_every_verb(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in cli.VERBS)


@pytest.mark.parametrize("builder", ["pip", "colcon"])
def test_the_version_says_whether_ros_is_there(builder: str, capsys, monkeypatch) -> None:
    def version(name: str) -> str:
        if builder == "colcon":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    manifest = ElementTree.parse(ROOT / "package.xml").findtext("version")
    expected = manifest if builder == "colcon" else "1.2.3"
    assert capsys.readouterr().out == f"pi0_ros {expected}, without ROS 2\n"


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_imports_no_heavy_module(verb: str) -> None:
    """So it answers at once: 0.1 s on a quiet machine, where NumPy alone would take as long."""
    code = (
        "import sys; from pi0_ros import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        f"finally: print(*(m for m in {HEAVY} if m in sys.modules), file=sys.stderr)"
    )
    arguments = [*filter(None, [verb]), "--help"]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"usage: pi0 {verb or 'VERB'}")
    assert run.stderr.strip() == ""


def test_the_page_of_commands_is_what_the_parsers_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text() == page, "make docs"


def test_help_explains_the_keys_of_json(verb, capsys) -> None:
    verb(lambda args: 0)
    module = sys.modules["pi0_try"]
    module.EPILOG, module.JSON_KEYS = "Try it.", {"a, b": "what was tried", "c" * 30: "more"}
    with pytest.raises(SystemExit):
        cli.main(["try", "--help"])
    shown = capsys.readouterr().out
    assert "Try it.\n\nkeys of --json:\n  a, b " in shown
    assert f"  {'c' * 30}\n" in shown
