"""The cost of a joint state: the command runs, and every message is taken."""

import pytest

from benchmarks import joint_states


def test_the_command_prints_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(joint_states, "MESSAGES", 20)
    joint_states.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("all 7 joints in one message: ") and first.endswith(" us")
    assert second.startswith("in two messages: ")
