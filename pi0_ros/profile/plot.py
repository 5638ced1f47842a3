"""Picture of a profile: when each core was busy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_ros.profile.parser import Kernel, ProfileError
from pi0_ros.profile.report import Report, merge

BINS = 200
MOST_STEPS = 50
# A picture is about 1,400 pixels wide: what lies closer than this part of it cannot be told apart.
PIXELS = 3000


def require_matplotlib() -> None:
    """Raises ProfileError with what to do when there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ProfileError(
            "a picture needs matplotlib: pip install matplotlib, or apt install python3-matplotlib "
            f"({error})"
        ) from error


def plot_timeline(path: str | Path, reports: Sequence[Report]) -> None:
    """Write a PNG: per report the busy share over time, and below it when each core worked.

    Several reports get the same scale of time, one below the other.

    Raises:
        ProfileError: there is no matplotlib, or a report has no kernels to draw.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for report in reports:
        if not any(kernel.duration for kernel in report.kernels):
            raise ProfileError(f"{report.source}: no kernels with a start, so no timeline to draw")
    lanes = [_lanes(report.kernels) for report in reports]
    heights = [height for found in lanes for height in (1.2, 0.45 * len(found) + 0.3)]
    figure = Figure(figsize=(14, sum(heights) + 1.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    names = sorted({kernel.core for report in reports for kernel in report.kernels})
    colours = {name: f"C{index % 10}" for index, name in enumerate(names)}
    for index, (report, found) in enumerate(zip(reports, lanes, strict=True)):
        _draw(axes[2 * index], axes[2 * index + 1], report, found, colours)
    axes[-1].set_xlabel("ms since the first kernel")
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


def _draw(top, bottom, report: Report, lanes: dict[str, list[Kernel]], colours: dict) -> None:
    start = min(kernel.start for kernel in report.kernels)
    end = max(kernel.end for kernel in report.kernels)
    edges, share = busy_over_time(report.kernels, BINS)
    top.stairs(share * 100, edges, fill=True, color="tab:blue", alpha=0.6)
    top.set_ylim(0, 100)
    top.set_ylabel("busy, %")
    share_of_all = report.total.busy_share if report.total else None
    busy = "" if share_of_all is None else f", busy {share_of_all * 100:.1f} %"
    top.set_title(f"{report.source}{busy}", fontsize=10)
    first = {}
    for kernel in report.kernels:
        if kernel.step:
            first[kernel.step] = min(kernel.start, first.get(kernel.step, kernel.start))
    if 1 < len(first) <= MOST_STEPS:
        for step, begin in first.items():
            top.axvline((begin - start) / 1e6, color="black", linewidth=0.8)
            top.text((begin - start) / 1e6, 96, f" {step}", va="top", fontsize=8)
    for row, kernels in enumerate(lanes.values()):
        spans = merge(((k.start, k.end) for k in kernels), gap=(end - start) // PIXELS)
        bars = [((a - start) / 1e6, (b - a) / 1e6) for a, b in spans]
        colour = "tab:grey" if kernels[0].communicates else colours[kernels[0].core]
        # The edge is half a pixel on each side: without it what is shorter would not be drawn.
        bottom.broken_barh(bars, (row - 0.35, 0.7), color=colour, linewidth=0.7)
    bottom.set_yticks(range(len(lanes)), lanes)
    bottom.set_ylim(len(lanes) - 0.5, -0.5)
    bottom.grid(axis="x", alpha=0.3)
