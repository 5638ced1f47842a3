"""Profiles as text: one as tables, two as a short comparison of their mean steps."""

from collections.abc import Sequence

from pi0_ros.console import milliseconds, percent, table
from pi0_ros.profile.parser import StepTimes
from pi0_ros.profile.report import TOP, Report, kernel_share

MOST_STEPS = 12


def format_report(report: Report) -> str:
    """The report as tables for people."""
    count = max(len(report.steps), 1)
    columns = [report.mean, report.total] if count > 1 else [report.total]
    rows = [("computing", *(milliseconds(t and t.computing) for t in columns))]
    if report.total and report.total.communication:
        bare = (milliseconds(t and t.communication) for t in columns)
        rows.append(("communication, not overlapped", *bare))
    rows.append(("idle", *(milliseconds(t and t.free) for t in columns)))
    rows.append(("busy share", *(percent(t and t.busy_share) for t in columns)))
    kernels = [report.kernel_count / count, report.kernel_count][-len(columns) :]
    rows.append(("kernels", *(f"{number:.0f}" for number in kernels)))
    headers = ("", "mean step", f"all {count}") if count > 1 else ()
    parts = [report.source, table(rows, headers, "<>>")]
    if report.core_share:
        shares = [(core, percent(share)) for core, share in report.core_share.items()]
        parts.append(table(shares, ("share of the kernels' time", ""), "<>"))
    if report.operators:
        parts.append(_longest_kernels(report, count))
    if len(report.steps) > 1:
        parts.append(_steps(report.steps))
    parts += [f"warning: {text}" for text in report.warnings]
    return "\n\n".join(parts)


def format_comparison(before: Report, after: Report) -> str:
    """The mean steps of two reports beside each other."""
    a, b = before.mean, after.mean
    rows = []
    for name, attribute in (("computing", "computing"), ("idle", "free")):
        x, y = (getattr(times, attribute) if times else None for times in (a, b))
        change = f"{y - x:+.3f} ms" if x is not None and y is not None else "-"
        rows.append((name, milliseconds(x), milliseconds(y), change))
    x, y = (times.busy_share if times else None for times in (a, b))
    points = f"{(y - x) * 100:+.1f} points" if x is not None and y is not None else "-"
    rows.append(("busy share", percent(x), percent(y), points))
    x, y = (report.kernel_count / max(len(report.steps), 1) for report in (before, after))
    rows.append(("kernels", f"{x:.0f}", f"{y:.0f}", f"{y - x:+.0f}"))
    title = f"before: {before.source}\nafter:  {after.source}"
    return f"{title}\n\n" + table(rows, ("mean step", "before", "after", "change"), "<>>>")


def _longest_kernels(report: Report, steps: int) -> str:
    def row(type_: str, core: str, count: float, time: float) -> tuple[str, ...]:
        share = percent(kernel_share(report, time))
        return type_, core, f"{count / steps:g}", f"{time / steps:.3f}", share

    rows = [row(o.type, o.core, o.count, o.time) for o in report.operators[:TOP]]
    rest = report.operators[TOP:]
    if rest:
        count, time = sum(o.count for o in rest), sum(o.time for o in rest)
        rows.append(row(f"{len(rest)} more types", "", count, time))
    per = " / step" if steps > 1 else ""
    return table(rows, ("longest kernels", "core", f"count{per}", f"ms{per}", "share"), "<<>>>")


def _steps(steps: Sequence[StepTimes]) -> str:
    devices = len({step.device for step in steps}) > 1
    rows = [
        (
            f"{step.step or '-'}, device {step.device}" if devices else step.step or "-",
            milliseconds(step.computing),
            milliseconds(step.free),
            percent(step.busy_share),
        )
        for step in steps[:MOST_STEPS]
    ]
    if len(steps) > MOST_STEPS:
        rows.append((f"{len(steps) - MOST_STEPS} more", "", "", ""))
    return table(rows, ("step", "computing", "idle", "busy share"), "<>>>")
