"""Loading the policy as the parameters say."""

from pathlib import Path

import pytest
from node_harness import configure

pytest.importorskip("torch")


def test_the_home_directory_in_the_checkpoint_and_the_tokenizer(
    demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pi0_ros.node.contract import load_policy
    from pi0_ros.policy.prompt import TokenizerError

    monkeypatch.setenv("HOME", str(demo_checkpoint.parent))
    here = f"~/{demo_checkpoint.name}"
    joints = [f"joint{number}" for number in range(6)]
    parameters = {"checkpoint": here, "joints": joints, "graph": "eager"}
    policy = load_policy(configure(**parameters, tokenizer=here))
    assert policy.horizon == 50
    with pytest.raises(TokenizerError, match=f"{demo_checkpoint.parent}/elsewhere"):
        load_policy(configure(**parameters, tokenizer="~/elsewhere"))
