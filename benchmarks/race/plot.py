"""The plot of the benchmark: a bar per contestant, stacked by stage, and the bound as a line."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.race.case import STAGES
from benchmarks.race.report import Group

_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#8c8c8c")


def plot(groups: Sequence[Group], file: Path) -> None:
    """Draw CPU seconds per inference.

    Args:
        groups: the cases, a panel each.
        file: PNG, or another format of matplotlib by its name.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(groups), figsize=(1.5 + 3.6 * len(groups), 3.6), squeeze=False, layout="constrained"
    )
    for axis, group in zip(axes[0], groups, strict=True):
        results = group.results
        names = [result.name.replace(" ", "\n") for result in results]
        bottom = [0.0] * len(results)
        for stage, colour in zip(STAGES, _COLOURS, strict=True):
            heights = [max(0.0, result.stages[stage]) for result in results]
            axis.bar(names, heights, bottom=bottom, color=colour, label=stage, width=0.6)
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
        for index, total in enumerate(bottom):
            axis.text(index, total, f"{total:.2f}", ha="center", va="bottom", fontsize=9)
        axis.axhline(group.bound_s, color="black", linestyle="--", linewidth=1, label="bound")
        axis.set_title(group.title.replace(", ", "\n", 1), fontsize=9)
        axis.set_ylabel("CPU seconds per inference")
        axis.margins(y=0.12)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
