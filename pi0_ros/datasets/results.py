"""What a data set recorded, in the form of a replay's results, to compare with: `pi0 diff`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pi0_ros.bags.bag import BagError
from pi0_ros.bags.results import Results, TimedChunk
from pi0_ros.datasets.episode import EpisodeRecording


def recorded_results(recording: EpisodeRecording, like: Results) -> Results:
    """The recorded actions that follow each observation of a replay of the same episode.

    Beyond the episode's end its last action holds.

    Raises:
        BagError: the episode has no actions, other joints, or nothing at the replay's times.
    """
    joints = recording.parameters.joint_names
    if not recording.action:
        raise BagError(f"{recording.path}: the data set has no actions to compare with")
    if like.joint_names != joints:
        raise BagError(
            f"{like.path}: its chunks have the joints {', '.join(like.joint_names)}; the"
            f" parameters have {', '.join(joints)}"
        )
    actions = recording.radians(recording.action)
    due = recording.stamps + round(1e9 / recording.data.fps)

    def recorded(timed: TimedChunk) -> TimedChunk:
        chunk = timed.chunk
        steps = np.arange(1, len(chunk.positions) + 1)
        times = chunk.stamp + np.round(steps * (chunk.dt * 1e9)).astype(np.int64)
        columns = [np.interp(times, due, column) for column in actions.T]
        return replace(timed, chunk=replace(chunk, positions=np.column_stack(columns)))

    chunks = [t for t in like.chunks if recording.start <= t.chunk.stamp <= recording.end]
    if not chunks:
        raise BagError(
            f"{like.path} holds no chunk of the times of episode {recording.episode.number} of"
            f" {recording.path}: replay that episode with --deterministic"
        )
    return Results(recording.path, tuple(map(recorded, chunks)), ())
