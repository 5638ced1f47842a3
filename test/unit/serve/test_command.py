"""`pi0 serve` as a process: its options, what it says, how it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.waiting import SOON

from pi0_ros.serve import command

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.faults.testbed import JOINTS

from pi0_ros.cli import make_parser
from pi0_ros.node.loading import load_policy
from pi0_ros.node.parameters import read_parameters
from pi0_ros.node.preflight import preflight
from pi0_ros.node.remote import on_server
from pi0_ros.policy.types import Observation
from pi0_ros.serve.key import KeyFileError, read_key

SERVE = (sys.executable, "-m", "pi0_ros.cli", "serve", "--device", "cpu", "--threads", "1")
KEY = "0123456789abcdef"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl, which is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    ask = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ask += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    ask += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(ask, check=True, capture_output=True)
    return cert, key


def test_a_node_gets_over_tls_what_it_would_get_alone(
    start_process: Any, demo_checkpoint: Path, key_file: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    door = ["--api-key-file", key_file, "--tls-cert", cert, "--tls-key", key]
    process = start_process([*SERVE, "--checkpoint", demo_checkpoint, "--port", "0", *door])
    process.wait_for("serving on wss://127.0.0.1:")
    port = process.output.split("serving on wss://127.0.0.1:")[1].split()[0]
    given = {"checkpoint": str(demo_checkpoint), "joints": list(JOINTS), "threads": 1}
    given |= {f"joint.{JOINTS[0]}.scale": 0.5, "instruction": "go"}
    here = read_parameters(given)
    door = {"policy_key_file": str(key_file), "policy_authority": str(cert)}
    there = read_parameters(
        {**given, "checkpoint": "", "policy_url": f"wss://localhost:{port}", **door}
    )
    assert preflight(there, None) == []
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, 256, (48, 64, 3), np.uint8) for n in ("front", "wrist")}
    seen = Observation(images, np.full(6, 0.1), "go", 7)
    remote, local = on_server(there), load_policy(here)
    for _ in range(2):
        ours, theirs = local.infer(seen), remote.infer(seen)
        np.testing.assert_allclose(theirs.positions, ours.positions, rtol=0, atol=2e-6)
        assert theirs.sequence == ours.sequence

    def problems(**changes: Any) -> str:
        return "\n".join(preflight(read_parameters({**vars_of(there), **changes}), None))

    def vars_of(parameters: Any) -> dict[str, Any]:
        return {**given, "checkpoint": "", "policy_url": parameters.policy_url, **door}

    assert "certificate verify failed" in problems(policy_authority="")
    assert "401" in problems(policy_key_file="")
    assert "5 joints are given, the checkpoint has 6" in problems(joints=list(JOINTS[:5]))
    assert "this robot lacks ['wrist']" in problems(cameras=["front"])
    assert "rtc: guided, but" in problems(rtc="guided")
    assert process.end(signal.SIGTERM, SOON) == 0, process.tail
    assert "Traceback" not in process.output, process.tail
    remote.close()


def test_a_checkpoint_that_is_not_there_ends_it(start_process: Any, tmp_path: Path) -> None:
    process = start_process([*SERVE, "--checkpoint", tmp_path / "none"])
    assert process.wait() == 1
    assert "none" in process.output and "Traceback" not in process.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "give --api-key-file"),
        (["--tls-cert", "x"], "go together"),
        (["--delta", "1"], "goes with --action-mode delta"),
        (["--ray-resource", "NPU"], "expected NAME=N"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_parser("pi0 serve", command)
    with pytest.raises(SystemExit):
        command.check(parser, parser.parse_args(["--checkpoint", "x", *options]))
    assert says in capsys.readouterr().err


def test_a_key_is_long_and_nobody_elses(key_file: Path) -> None:
    assert read_key(key_file) == KEY
    key_file.chmod(0o644)
    with pytest.raises(KeyFileError, match="others may read it; chmod 600"):
        read_key(key_file)
    key_file.chmod(0o600)
    key_file.write_text("short")
    with pytest.raises(KeyFileError, match="at least 16"):
        read_key(key_file)
