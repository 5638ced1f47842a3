"""What tests of several rooms share."""

from pathlib import Path

import pytest

from pi0_ros.model.config import TINY


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory with a tiny model, random weights and a tokenizer. Do not write to it."""
    from pi0_ros.tools.demo_checkpoint import write_demo_checkpoint

    path = tmp_path_factory.mktemp("demo") / "checkpoint"
    write_demo_checkpoint(path, TINY)
    return path
