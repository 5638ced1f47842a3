"""Time of the check for collisions: `python -m benchmarks.collision [--shape box] [--margin 0.01]`.

Random chunks of 50 steps of 20 ms for a synthetic arm of seven joints, or for `--urdf` with
`--joints`: each joint goes smoothly by up to `--radians` from a random pose. Prints milliseconds
per chunk of the process's own time, so that other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.seven_joints import JOINTS, seven_joint_urdf
from pi0_ros import console
from pi0_ros.collision.check import CollisionCheck
from pi0_ros.motion.spline import Motion

POINTS, DT = 50, 0.02


def random_motion(generator: np.random.Generator, joints: int, radians: float) -> Motion:
    """At rest at both ends."""
    begin = generator.uniform(-0.7, 0.7, joints)
    way = generator.uniform(-radians, radians, joints)
    share = np.linspace(0.0, 1.0, POINTS)[:, None]
    positions = begin + way * share**2 * (3 - 2 * share)
    velocities = way * 6 * share * (1 - share) / (DT * (POINTS - 1))
    times = round(DT * 1e9) * np.arange(POINTS, dtype=np.int64)
    return Motion(times, positions, velocities)


def measure(check: CollisionCheck, joints: int, chunks: int, radians: float) -> dict[str, float]:
    """Milliseconds and samples per chunk, and the share of chunks that hit something."""
    generator = np.random.default_rng(0)
    seconds, samples, hits = [], [], 0
    for _ in range(chunks):
        motion = random_motion(generator, joints, radians)
        begun = time.thread_time()
        hits += check(motion) is not None
        seconds.append(time.thread_time() - begun)
        samples.append(len(check.sample_times(motion)[0]))
    return {
        "pairs": len(check.pairs),
        "samples_median": float(np.median(samples)),
        "ms_median": 1e3 * float(np.median(seconds)),
        "ms_p99": 1e3 * float(np.percentile(seconds, 99)),
        "rejected_share": hits / chunks,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="box", help="of the synthetic arm: box or cylinder")
    parser.add_argument("--urdf", type=Path, help="another robot")
    parser.add_argument("--joints", nargs="+", default=list(JOINTS), help="of --urdf")
    parser.add_argument("--srdf", type=Path, help="of --urdf")
    parser.add_argument("--margin", type=float, default=0.01, help="metres")
    parser.add_argument("--radians", type=float, default=0.5, help="a joint's way at most")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        urdf = args.urdf
        if urdf is None:
            urdf = Path(folder, "seven.urdf")
            urdf.write_text(seven_joint_urdf(args.shape))
        box = (-3.0, -3.0, -3.0, 3.0, 3.0, 3.0)
        check = CollisionCheck(urdf, args.joints, srdf=args.srdf, margin=args.margin, box=box)
    figures = measure(check, len(args.joints), args.chunks, args.radians)
    print(console.table((name, f"{value:.3g}") for name, value in figures.items()))
    console.write_json(args.json, figures)


if __name__ == "__main__":
    main()
