"""The plot of the graph report: where the kernels and the bytes of an inference are."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.graph_report.cost import NO_KERNEL, Summary


def plot(summary: Summary, file: Path) -> None:
    """Draw kernels and bytes, each by operator and by part of the model, into a PNG file."""
    kernels = {k: n for k, n in summary.by_type.items() if k not in NO_KERNEL}
    panels = (
        (f"{summary.kernel_nodes} kernel nodes, by operator", kernels, 1.0, "nodes"),
        ("megabytes read and written, by operator", summary.bytes, 1e6, "MB"),
        ("kernel nodes, by part", summary.by_part, 1.0, "nodes"),
        ("megabytes, by part", summary.part_bytes, 1e6, "MB"),
    )
    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(3, 1)).flatten()
    for axis, (title, values, unit, label) in zip(axes, panels, strict=True):
        names = [name for name, value in values.items() if value][::-1]
        bars = axis.barh(names, [values[name] / unit for name in names])
        axis.bar_label(bars, fmt="{:,.1f}" if unit > 1 else "{:,.0f}", padding=3, fontsize=8)
        axis.set_title(title)
        axis.set_xlabel(label)
        axis.margins(x=0.15)
        axis.tick_params(axis="y", labelsize=8)
    figure.savefig(file, dpi=110)
