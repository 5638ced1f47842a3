"""The targets of the project for speed, judged by a report; and docs/performance.md."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.overhead.figures import WHERE
from benchmarks.race.race import NEW, OLD, OURS
from benchmarks.race.report import Group, Report, about, text

TARGET_BOUND = 1.15
TARGET_CALLS = 4500


@dataclass(frozen=True)
class Target:
    """One line: what was measured, what was wanted, and why it is not met where it is not."""

    name: str
    figure: str
    wanted: str
    met: bool | None
    why: str = ""

    @property
    def verdict(self) -> str:
        return {True: "met", False: "NOT met", None: "not measured"}[self.met]


def judge(report: Report) -> list[Target]:
    """All targets; those that this run did not measure say so."""
    found = {(g.case.dtype, g.case.prompt): g for g in report.groups}
    long, short = found.get(("bfloat16", 48)), found.get(("bfloat16", 12))
    return [
        *_faster(long, "bfloat16, 48 tokens", 1.25),
        *_faster(short, "bfloat16, 12 tokens", 1.35),
        *_bound(long, "bfloat16"),
        *_faster(found.get(("float32", 48)), "float32, 48 tokens", 2.0),
        *_bound(found.get(("float32", 48)), "float32"),
        *_short_prompt(long, short),
        _int8(report),
        *_compiled(report),
        *_memory(long),
        _load(report),
        *_calls(long),
        *_node(report),
        *_scaling(report),
    ]


def _faster(group: Group | None, name: str, wanted: float) -> Iterator[Target]:
    name = f"{name}: times faster than LeRobot 0.4.4"
    theirs = None if group is None else group.result(NEW)
    if group is None or theirs is None:
        yield Target(name, "", f">= {wanted}", None)
        return
    ratio = theirs.cpu_s / group.results[0].cpu_s
    figure = f"{ratio:.2f} ({group.results[0].cpu_s:.2f} s against {theirs.cpu_s:.2f} s)"
    old = group.result(OLD)
    if old is not None:
        figure += f"; 0.3.3: {old.cpu_s / group.results[0].cpu_s:.2f}"
    why = ""
    if ratio < wanted:
        m = group.machine
        why = (
            f"the products alone, each the fastest way it can be had here, take "
            f"{group.shapes_s:.2f} s, so that {theirs.cpu_s / group.shapes_s:.2f} is the most that"
            f" any code could reach with this arithmetic; torch's own products run at "
            f"{m.torch_gemm / 1e9:.0f} GFLOP/s here and oneDNN's at {m.onednn_gemm / 1e9:.0f}"
        )
        if group.case.dtype == "float32":
            why += " (the target was set on a processor where MKL is half as fast as oneDNN)"
    yield Target(name, figure, f">= {wanted}", ratio >= wanted, why)


def _bound(group: Group | None, dtype: str) -> Iterator[Target]:
    for what, seconds in (
        ("the machine's best rate of products", None if group is None else group.bound_s),
        ("its products alone, at their shapes", None if group is None else group.shapes_s),
    ):
        name = f"{dtype}: times {what}"
        if group is None or seconds is None:
            yield Target(name, "", f"<= {TARGET_BOUND}", None)
            continue
        ratio = group.results[0].cpu_s / seconds
        why = ""
        if ratio > TARGET_BOUND:
            rate = group.shapes_s
            why = (
                f"the same products alone take {rate:.2f} s: at these shapes, with weights that "
                f"come from memory, oneDNN reaches {group.bound_s / rate:.0%} of its best rate"
            )
        yield Target(name, f"{ratio:.2f}", f"<= {TARGET_BOUND}", ratio <= TARGET_BOUND, why)


def _short_prompt(long: Group | None, short: Group | None) -> Iterator[Target]:
    name = "a prompt of 12 tokens costs that of 16 at most"
    if long is None or short is None:
        yield Target(name, "", "tokens paid for <= 16", None)
        return
    saved = long.results[0].stages["prefix"] - short.results[0].stages["prefix"]
    expected = sum(long.shapes.values()) - sum(short.shapes.values())
    yield Target(
        name,
        f"12 without a graph, 16 with one; prefix {saved:.2f} s faster than with 48 "
        f"(products: {expected:.2f} s)",
        "tokens paid for <= 16",
        saved > 0,
    )


def _int8(report: Report) -> Target:
    name, wanted = "int8: times faster than our bfloat16, cosine", ">= 1.6, >= 0.995"
    if report.int8_s is None or not report.groups:
        return Target(name, "", wanted, None, "not built")
    group = report.groups[0]
    ours = group.results[0].cpu_s
    most = ours / (ours - group.shapes_s + report.int8_s)
    why = (
        f"not built: by torch._int_mm, without scaling anything, the products take "
        f"{report.int8_s:.2f} s instead of {group.shapes_s:.2f} s here, so that {most:.2f} is the "
        f"most that this way could gain"
    )
    return Target(name, "", wanted, False, why)


def _compiled(report: Report) -> Iterator[Target]:
    for c in report.compiled:
        ratio = c.eager_s / c.inductor_s
        figure = (
            f"{ratio:.2f} times as fast ({c.inductor_s:.2f} s against {c.eager_s:.2f} s); ready "
            f"after {c.compile_s:.0f} s, {c.again_s:.0f} s from the cache, eager "
            f"{c.eager_ready_s:.0f} s"
        )
        name = f"inductor, {c.size} size, {c.dtype}: `auto` takes what is faster"
        why = f"`auto` takes {c.auto}: inductor has to be a tenth faster"
        faster = "inductor" if ratio > 1 else "eager"
        yield Target(name, figure, "by the numbers", c.auto == faster, why)
    if not report.compiled:
        yield Target("inductor: `auto` takes what is faster", "", "by the numbers", None)


def _memory(group: Group | None) -> Iterator[Target]:
    name = "bfloat16: peak memory / bytes of the weights needed"
    if group is None:
        yield Target(name, "", "< 1.15", None)
        return
    ours = group.results[0]
    ratio = ours.peak_bytes / group.needed_bytes
    theirs = group.result(NEW)
    figure = f"{ratio:.2f} ({ours.peak_bytes / 1e9:.2f} of {group.needed_bytes / 1e9:.2f} GB)"
    if theirs is not None:
        figure += f"; LeRobot 0.4.4: {theirs.peak_bytes / group.needed_bytes:.2f}"
    yield Target(name, figure, "< 1.15", ratio < 1.15, "Python and torch are in it")


def _load(report: Report) -> Target:
    name = "loading: seconds, nothing cached / reading the bytes from disk"
    if report.load is None:
        return Target(name, "", "about 1", None)
    ratio = report.load.ready_s / report.load.read_s
    figure = f"{ratio:.2f} ({report.load.ready_s:.1f} s / {report.load.read_s:.1f} s)"
    why = "joining and packing what is not used as it lies in the file comes on top"
    return Target(name, figure, "<= 1.5", ratio <= 1.5, why)


def _calls(group: Group | None) -> Iterator[Target]:
    name = "operator calls per inference that are no views"
    if group is None:
        yield Target(name, "", f"<= {TARGET_CALLS}", None)
        return
    calls = {r.name: r.aten_calls["non_view"] for r in group.results if r.aten_calls}
    figure = ", ".join(f"{n}: {c}" if n != OURS else str(c) for n, c in calls.items())
    yield Target(name, figure, f"<= {TARGET_CALLS}", calls[OURS] <= TARGET_CALLS)


def _node(report: Report) -> Iterator[Target]:
    name = "two 640 x 480 images to model input, CPU ms"
    if report.image_s is None:
        yield Target(name, "", "<= 3", None)
    else:
        ms = report.image_s * 1e3
        yield Target(name, f"{ms:.2f}", "<= 3", ms <= 3)
    yield from _overhead(report)
    name = "start of `pi0_node` with a tiny checkpoint until active, s"
    if report.start is None:
        yield Target(name, "", "<= 6", None)
    else:
        wall = report.start.wall_s
        why = f"{report.start.cpu_s:.1f} s of CPU time, its end among them"
        yield Target(name, f"{wall:.1f}", "<= 6", wall <= 6, why)


def _overhead(report: Report) -> Iterator[Target]:
    name = "tick to published message less inference, p99"
    if report.overhead is None:
        yield Target(name, "", "<= 5 ms", None, "by `python -m benchmarks.overhead`")
        return
    for run in report.overhead["runs"]:
        where = f"policy {WHERE[run['policy']]}"
        p50, p95, p99 = (run["overhead_ms"][p] for p in ("p50", "p95", "p99"))
        yield Target(
            f"{name}: {run['width']} x {run['height']}, {where}",
            f"{p99:.2f} ms (p50 {p50:.2f}, p95 {p95:.2f})",
            "<= 5 ms",
            p99 <= 5,
            "choosing the observation, decoding, threads, limits and stitching, messages",
        )


def _scaling(report: Report) -> Iterator[Target]:
    if not report.scaling:
        yield Target("no super-linear growth", "", "none", None)
    for name, growth in report.scaling.items():
        figure = (
            f"{growth.slope * 1e3:.1f} ms each, bound {growth.predicted_slope * 1e3:.1f}; last "
            f"slope / mean slope {growth.bend:.2f}, bound {growth.predicted_bend:.2f}"
        )
        yield Target(f"growth with {name}", figure, "not super-linear", not growth.surprises)


def markdown(report: Report, command: str, plot: str | None = None) -> str:
    """docs/performance.md.

    Args:
        plot: where the page finds what `race.plot` drew.
    """
    facts = about()
    lines = [
        "# Performance",
        "",
        f"Written by `{command}` on {facts['date']}: {facts['machine']}, Python "
        f"{facts['python']}, torch {facts['torch']} ({facts['capability']}). Load average at the "
        f"end: {facts['load']}; the benchmark itself is 1 of it, and what is more disturbs it.",
        "",
        "All contestants compute with the same random weights, images, state, tokens, noise and "
        "number of threads, in processes of their own, by turns. Times are process CPU time, the "
        "median of their runs; spread is largest less smallest. LeRobot's time is that of its "
        "`sample_actions` and its preparation of images. Its parameters are not first filled "
        "with random numbers, as its `from_pretrained` does: its load times and memory are better "
        "here than in use. The bound is what the arithmetic that remains without waste takes at "
        "the machine's best rate of products, or the reading of weights at its bandwidth, "
        "whichever is longer.",
        "",
        "Nothing here has run on an NPU or a GPU ([nvidia.md](nvidia.md) says what measures one).",
        "",
        "## Targets",
        "",
        "| | figure | target | | why |",
        "|---|---|---|---|---|",
        *(f"| {t.name} | {t.figure} | {t.wanted} | {t.verdict} | {t.why} |" for t in judge(report)),
        "",
        "## Figures",
        "",
        *([] if plot is None else [f"![CPU seconds by stage]({plot})", ""]),
        "```",
        text(report),
        "```",
    ]
    return "\n".join(lines) + "\n"


def table(targets: Iterable[Target]) -> str:
    """The targets for a terminal."""
    return "\n".join(
        f"{t.verdict:13}{t.name}: {t.figure or '-'} (target {t.wanted})" for t in targets
    )
