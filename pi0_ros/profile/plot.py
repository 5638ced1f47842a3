"""Image of a profile: when each core was busy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_ros.console import percent
from pi0_ros.profile.parser import Kernel, ProfileError
from pi0_ros.profile.report import Report, merge

BINS = 200
MOST_STEPS = 50
# The image is about 1,400 pixels wide: what lies closer than this part of it cannot be told apart.
PIXELS = 3000


def plot_timeline(path: str | Path, report: Report) -> None:
    """Write a PNG: the busy share over time, and below it when each core worked.

    Raises:
        ProfileError: the report has no kernels to draw.
    """
    from matplotlib.figure import Figure

    if not any(kernel.duration for kernel in report.kernels):
        raise ProfileError(f"{report.source}: no kernels with a start, so no timeline to draw")
    lanes = _lanes(report.kernels)
    heights = [1.2, 0.45 * len(lanes) + 0.3]
    figure = Figure(figsize=(14, sum(heights) + 1.2), dpi=100, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    _draw_share(top, report)
    _draw_lanes(bottom, lanes)
    bottom.set_xlabel("ms since the first kernel")
    figure.savefig(path)


def busy_over_time(kernels: Sequence[Kernel], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges [bins + 1] in ms since the first start, and the computing share [bins] between them.

    The share is the mean over devices.
    """
    start, end = min(k.start for k in kernels), max(k.end for k in kernels)
    edges = np.linspace(0, end - start, bins + 1)
    devices = sorted({kernel.device for kernel in kernels})
    share = np.zeros(bins)
    for device in devices:
        spans = merge(
            (kernel.start - start, kernel.end - start)
            for kernel in kernels
            if kernel.device == device and not kernel.communicates
        )
        if spans:
            # ns of computing until each start and end; between them it grows with time or not.
            times = np.array(spans)
            until = np.cumsum(times[:, 1] - times[:, 0])
            done = np.column_stack((until - (times[:, 1] - times[:, 0]), until))
            before = np.interp(edges, times.ravel(), done.ravel())
            share += np.diff(before) / np.diff(edges)
    return edges / 1e6, share / len(devices)


def _lanes(kernels: Sequence[Kernel]) -> dict[str, list[Kernel]]:
    """ "device core" or "core" -> kernels, sorted."""
    devices = {kernel.device for kernel in kernels}
    found: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        core = f"{kernel.device} {kernel.core}" if len(devices) > 1 else kernel.core
        found.setdefault(core, []).append(kernel)
    return dict(sorted(found.items()))


def _draw_share(axes, report: Report) -> None:
    edges, share = busy_over_time(report.kernels, BINS)
    axes.stairs(share * 100, edges, fill=True, color="tab:blue", alpha=0.6)
    axes.set_ylim(0, 100)
    axes.set_ylabel("busy, %")
    axes.set_title(f"{report.source}, busy {percent(report.total.busy_share)}", fontsize=10)
    start = min(kernel.start for kernel in report.kernels)
    first: dict[str, int] = {}
    for kernel in report.kernels:
        if kernel.step:
            first[kernel.step] = min(kernel.start, first.get(kernel.step, kernel.start))
    if 1 < len(first) <= MOST_STEPS:
        for step, begin in first.items():
            axes.axvline((begin - start) / 1e6, color="black", linewidth=0.8)
            axes.text((begin - start) / 1e6, 96, f" {step}", va="top", fontsize=8)


def _draw_lanes(axes, lanes: dict[str, list[Kernel]]) -> None:
    kernels = [kernel for found in lanes.values() for kernel in found]
    start, end = min(k.start for k in kernels), max(k.end for k in kernels)
    names = sorted({kernel.core for kernel in kernels})
    for row, found in enumerate(lanes.values()):
        spans = merge(((k.start, k.end) for k in found), gap=(end - start) // PIXELS)
        bars = [((a - start) / 1e6, (b - a) / 1e6) for a, b in spans]
        colour = f"C{names.index(found[0].core) % 10}"
        if found[0].communicates:
            colour = "tab:grey"
        # The edge is half a pixel on each side: without it what is shorter would not be drawn.
        axes.broken_barh(bars, (row - 0.35, 0.7), color=colour, linewidth=0.7)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
