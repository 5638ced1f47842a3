"""Asks pip whether torch and torch_npu resolve as docs/ascend.md says: `python test/npu/pairs.py`.

For each release, platform and Python of a ROS distribution, with `--dry-run`: nothing is installed.
Give releases of torch_npu to ask for those only. torch's build for CPU comes from its own index;
where that cannot be reached only the wheel of torch_npu is looked for, which the table says.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile

INDEX = "https://download.pytorch.org/whl/cpu"
RELEASES = (
    *("2.14.0", "2.13.0", "2.12.0.post2", "2.11.0.post2", "2.10.0.post6", "2.9.0.post8"),
    *("2.10.0", "2.9.0.post2", "2.8.0.post4", "2.7.1.post4"),
    *("2.9.0", "2.8.0.post2", "2.7.1.post2", "2.6.0.post5"),
)
PYTHONS = {"3.10": "Humble", "3.12": "Jazzy, Kilted", "3.14": "Lyrical"}
PLATFORMS = ("x86_64", "aarch64")
# Tags that a wheel may have for a glibc of 2.35, that of the oldest (Ubuntu 22.04).
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")


def resolves(*requirements: str, platform: str, python: str) -> bool:
    """Whether pip finds wheels that fit each other for another platform and Python."""
    tags = itertools.chain.from_iterable(("--platform", f"{tag}_{platform}") for tag in GLIBC)
    options = ("--only-binary", ":all:", "--python-version", python, *tags, *requirements)
    with tempfile.TemporaryDirectory() as folder:
        where = ("--dry-run", "--ignore-installed", "--target", folder)
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *where]
        return subprocess.run([*command, *options], capture_output=True).returncode == 0


def answer(release: str, platform: str, python: str, index: bool) -> str:
    """A cell of the table."""
    target = {"platform": platform, "python": python}
    if not resolves("--no-deps", f"torch_npu=={release}", **target):
        return "no wheel"
    if not index:
        return "wheel"
    pair = (f"torch=={release.partition('.post')[0]}", f"torch_npu=={release}")
    return "resolves" if resolves("--extra-index-url", INDEX, *pair, **target) else "conflict"


def main() -> None:
    """Print the table."""
    index = resolves("--no-deps", "--index-url", INDEX, "torch", platform="x86_64", python="3.12")
    if not index:
        print(f"{INDEX} cannot be reached: wheels of torch_npu only", file=sys.stderr)
    heads = (f"{python} ({ros})" for python, ros in PYTHONS.items())
    print(f"| torch_npu | platform | {' | '.join(heads)} |")
    print("|---|---|" + "---|" * len(PYTHONS))
    for release, platform in itertools.product(sys.argv[1:] or RELEASES, PLATFORMS):
        cells = (answer(release, platform, python, index) for python in PYTHONS)
        print(f"| {release} | {platform} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
