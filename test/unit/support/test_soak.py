"""What the long form of the suite measures and writes."""

from __future__ import annotations

import numpy as np
import pytest
from support.faults import table
from support.faults.robot import STREAMS
from support.faults.soak import SWEEPS, main, seconds_of
from support.faults.trial import Result


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


def test_a_fault_that_there_is_not_is_told(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "5K"])
    assert ended.value.code == 2
    assert "camera sends 4K images" in capsys.readouterr().err


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_a_sample_sees_pictures_at_every_moment_between_two_ticks(camera: str) -> None:
    rate = STREAMS[camera][3]
    moments = np.sort(np.arange(round(SWEEPS * rate)) / rate % 0.1)
    assert np.diff(moments, append=moments[0] + 0.1).max() < 0.005


def test_what_recovers_by_itself_or_never_stopped_needs_no_words() -> None:
    rows = table.markdown([Result("a", recovery=0.1), Result("b", how="", note="grew by nothing")])
    assert "| a |  |  | 0.10 s | 1 of 1 |" in rows
    assert "| b | grew by nothing |  |  | 1 of 1 |" in rows
    assert "(~/reset)" in table.markdown([Result("c", how="~/reset")])
