"""Profiles as text: one as tables, two as a comparison of their mean steps."""

from collections.abc import Sequence

from pi0_ros.profile.parser import StepTimes
from pi0_ros.profile.report import TOP, Report

MOST_STEPS = 12
LEAST_CHANGE = 0.0005  # ms: what the table can show


def format_report(report: Report) -> str:
    """The report as tables for people."""
    count = max(len(report.steps), 1)
    rows: list[Sequence[str]] = [("", "mean step", f"all {count}") if count > 1 else ("", "")]
    columns = [report.mean, report.total] if count > 1 else [report.total]
    rows.append(("computing", *(_ms(t and t.computing) for t in columns)))
    if report.total and report.total.communication:
        rows.append(
            ("communication, not overlapped", *(_ms(t.communication) for t in columns if t))
        )
    rows.append(("idle", *(_ms(t and t.free) for t in columns)))
    rows.append(("busy share", *(_percent(t and t.busy_share) for t in columns)))
    kernels = [report.kernel_count / count, report.kernel_count][-len(columns) :]
    rows.append(("kernels", *(f"{k:.0f}" for k in kernels)))
    parts = [report.source, _align(rows)]
    if report.core_share:
        shares = [(core, _percent(share)) for core, share in report.core_share.items()]
        parts.append(_align([("share of the kernels' time", ""), *shares]))
    if report.operators:
        parts.append(_align(_top_rows(report, count), left=2))
    if len(report.steps) > 1:
        parts.append(_align(_step_rows(report.steps)))
    parts += [f"warning: {text}" for text in report.warnings]
    return "\n\n".join(parts)


def format_comparison(before: Report, after: Report) -> str:
    """Two reports beside each other, per step: figures, cores, kernels that changed most."""
    a, b = before.mean, after.mean
    rows: list[Sequence[str]] = [("mean step", "before", "after", "change")]
    for name, attribute in (("computing", "computing"), ("idle", "free")):
        x, y = (getattr(times, attribute) if times else None for times in (a, b))
        rows.append((name, _ms(x), _ms(y), _change(x, y)))
    shares = [("busy share", a and a.busy_share, b and b.busy_share)]
    for core in dict.fromkeys([*after.core_share, *before.core_share]):
        shares.append((core, before.core_share.get(core, 0.0), after.core_share.get(core, 0.0)))
    for name, x, y in shares:
        known = x is not None and y is not None
        points = f"{(y - x) * 100:+.1f} points" if known else "-"
        rows.append((name, _percent(x), _percent(y), points))
    counts = [r.kernel_count / max(len(r.steps), 1) for r in (before, after)]
    rows.append(("kernels", *(f"{k:.0f}" for k in counts), f"{counts[1] - counts[0]:+.0f}"))
    kernels: list[Sequence[str]] = [("kernel type", "core", "before", "after", "change")]
    for change in kernel_changes(before, after)[:TOP]:
        x, y = change["before_ms"], change["after_ms"]
        if abs(y - x) >= LEAST_CHANGE:
            kernels.append((change["type"], change["core"], _ms(x), _ms(y), f"{y - x:+.3f} ms"))
    if len(kernels) == 1:
        kernels.append(("no type changed", "", "", "", ""))
    title = f"before: {before.source}\nafter:  {after.source}"
    return "\n\n".join([title, _align(rows), _align(kernels, left=2)])


def kernel_changes(before: Report, after: Report) -> list[dict]:
    """Per type and core: before_ms and after_ms of the mean step; largest change first."""
    times: dict[tuple[str, str], list[float]] = {}
    for side, report in enumerate((before, after)):
        for operator in report.operators:
            pair = times.setdefault((operator.type, operator.core), [0.0, 0.0])
            pair[side] += operator.time / max(len(report.steps), 1)
    changes = [
        {"type": type_, "core": core, "before_ms": x, "after_ms": y}
        for (type_, core), (x, y) in times.items()
    ]
    return sorted(changes, key=lambda c: -abs(c["after_ms"] - c["before_ms"]))


def _top_rows(report: Report, steps: int) -> list[Sequence[str]]:
    whole = sum(operator.time for operator in report.operators)
    per = " / step" if steps > 1 else ""
    rows: list[Sequence[str]] = [("longest kernels", "core", f"count{per}", f"ms{per}", "share")]
    for operator in report.operators[:TOP]:
        count, time = operator.count / steps, operator.time / steps
        share = operator.time / whole if whole > 0 else None
        rows.append((operator.type, operator.core, f"{count:g}", f"{time:.3f}", _percent(share)))
    rest = report.operators[TOP:]
    if rest:
        count, time = (sum(x) / steps for x in zip(*((o.count, o.time) for o in rest), strict=True))
        share = time * steps / whole if whole > 0 else None
        name = f"{len(rest)} more types"
        rows.append((name, "", f"{count:g}", f"{time:.3f}", _percent(share)))
    return rows


def _step_rows(steps: Sequence[StepTimes]) -> list[Sequence[str]]:
    devices = len({step.device for step in steps}) > 1
    rows: list[Sequence[str]] = [("step", "computing", "idle", "busy share")]
    for step in steps[:MOST_STEPS]:
        name = f"{step.step or '-'}, device {step.device}" if devices else step.step or "-"
        rows.append((name, _ms(step.computing), _ms(step.free), _percent(step.busy_share)))
    if len(steps) > MOST_STEPS:
        rows.append((f"{len(steps) - MOST_STEPS} more", "", "", ""))
    return rows


def _align(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two blanks apart; the first `left` flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(line for line in lines if line)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} ms"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "-"
    relative = f" ({(after / before - 1) * 100:+.1f} %)" if before > 0 else ""
    return f"{after - before:+.3f} ms{relative}"
