"""The figures of a profile: computing, idle, busy share, shares of the cores, longest kernels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pi0_ros.profile.parser import (
    NO_CORE,
    Kernel,
    OperatorTime,
    Profile,
    StepTimes,
    is_communication,
)

TOP = 15
MOST_DIFFERENCE = 0.05
"""Share by which times of two files may differ; those of torch_npu's own exports agree to 1e-5."""


@dataclass(frozen=True)
class Report:
    """The figures of one profile.

    Attributes:
        total: everything in the profile; None when neither steps nor kernels were recorded.
        steps: per step and device, in the profile's order.
        core_share: core -> its share of the kernels' time, 0 to 1, largest first.
        operators: longest first, without communication.
        kernels: all executions, in the profile's order.
    """

    source: str
    total: StepTimes | None
    steps: tuple[StepTimes, ...]
    core_share: Mapping[str, float]
    operators: tuple[OperatorTime, ...]
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...]

    @property
    def mean(self) -> StepTimes | None:
        """A step on average; the total where there are no steps."""
        return _sum(self.steps, 1 / len(self.steps)) if self.steps else self.total

    @property
    def kernel_count(self) -> int:
        """Executions, without communication."""
        return sum(operator.count for operator in self.operators)


def make_report(profile: Profile) -> Report:
    """Work the figures out.

    The times are those of step_trace_time.csv. Without it they come from the kernels: the total
    from the span between the first start and the last end on each device, so that it includes what
    lies between two steps, and each step from its own kernels only.
    """
    steps, total = profile.steps, _sum(profile.steps)
    if not steps and profile.kernels:
        devices = _grouped(profile.kernels, lambda kernel: (kernel.device, ""))
        total = _sum([_measured(*key, kernels) for key, kernels in devices.items()])
        within = [kernel for kernel in profile.kernels if kernel.step]
        groups = _grouped(within, lambda kernel: (kernel.device, kernel.step)) or devices
        steps = tuple(_measured(*key, kernels) for key, kernels in groups.items())
    operators = _operators(profile)
    return Report(
        source=profile.source,
        total=total if steps else None,
        steps=steps,
        core_share=_core_share(operators),
        operators=operators,
        kernels=profile.kernels,
        warnings=(*profile.warnings, *_doubts(profile, operators)),
    )


def merge(intervals: Iterable[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """The union of (start, end) intervals as disjoint ones in order; those at most `gap` apart
    become one. Intervals of no length vanish unless they close a gap.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1] + gap:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if end > start]


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of the union of (start, end) intervals."""
    return sum(end - start for start, end in merge(intervals))


def busy_within(kernels: Sequence[Kernel], start: int, end: int) -> tuple[int, int]:
    """ns between two times that were computing, and ns that only communicated."""
    clipped = [
        (max(kernel.start, start), min(kernel.end, end), kernel.communicates)
        for kernel in kernels
        if kernel.start < end and kernel.end > start
    ]
    computing = covered((a, b) for a, b, communicates in clipped if not communicates)
    return computing, covered((a, b) for a, b, _ in clipped) - computing


def step_between(
    device: str, step: str, kernels: Sequence[Kernel], start: int, end: int
) -> StepTimes:
    """Where the time from `start` to `end` (ns) went."""
    computing, communication = busy_within(kernels, start, end)
    free = end - start - computing - communication
    return StepTimes(device, step, computing / 1e6, communication / 1e6, free / 1e6)


def _measured(device: str, step: str, kernels: Sequence[Kernel]) -> StepTimes:
    start, end = min(k.start for k in kernels), max(k.end for k in kernels)
    return step_between(device, step, kernels, start, end)


def _grouped(kernels, key) -> dict:
    groups = defaultdict(list)
    for kernel in kernels:
        groups[key(kernel)].append(kernel)
    return dict(groups)


def _sum(steps: Sequence[StepTimes], factor: float = 1.0) -> StepTimes:
    parts = ("computing", "communication", "free")
    return StepTimes("", "", *(sum(getattr(s, part) for s in steps) * factor for part in parts))


def _operators(profile: Profile) -> tuple[OperatorTime, ...]:
    """Time by type and core: of the kernels; where they are fewer than op_statistic.csv counts, or
    none, as that has it.
    """
    computing = [kernel for kernel in profile.kernels if not kernel.communicates]
    rows = [OperatorTime(k.type, k.core, 1, k.own) for k in computing]  # ns, added exactly
    unit = 1e6
    if len(computing) < _counted(profile):  # one row per device; here they are one
        rows = [row for row in profile.operators if not is_communication(row.core, row.type)]
        unit = 1
    count: Counter[tuple[str, str]] = Counter()
    time: Counter[tuple[str, str]] = Counter()
    for row in rows:
        count[row.type, row.core] += row.count
        time[row.type, row.core] += row.time
    found = [OperatorTime(*key, count[key], time[key] / unit) for key in count]
    return tuple(sorted(found, key=lambda operator: -operator.time))


def _counted(profile: Profile) -> int:
    """Kernels that op_statistic.csv counts, without communication."""
    rows = profile.operators
    return sum(row.count for row in rows if not is_communication(row.core, row.type))


def _core_share(operators: Sequence[OperatorTime]) -> dict[str, float]:
    time: Counter[str] = Counter()
    for operator in operators:
        time[operator.core] += operator.time
    whole = time.total()
    return {core: value / whole for core, value in time.most_common()} if whole > 0 else {}


def _doubts(profile: Profile, operators: Sequence[OperatorTime]) -> Iterable[str]:
    yield from _contradictions(profile)
    if operators and all(operator.core == NO_CORE for operator in operators):
        yield "no kernel has a core: profile with ProfilerLevel.Level1, not Level0"
    if not operators:
        yield "neither kernels nor operators were recorded: no shares of the cores"
    outside = sum(1 for kernel in profile.kernels if not kernel.step)
    if 0 < outside < len(profile.kernels):
        yield (
            f"{outside} of {len(profile.kernels)} kernels belong to no step (asynchronous ones of "
            "the warm-up); they count in the shares and the longest kernels"
        )


def _contradictions(profile: Profile) -> Iterable[str]:
    """What the files of one export say differently, as after one that was cut off."""
    computing = [kernel for kernel in profile.kernels if not kernel.communicates]
    counted = _counted(profile)
    if computing and counted and counted != len(computing):
        more = counted > len(computing)
        yield (
            f"kernel_details.csv has {len(computing)} kernels, op_statistic.csv counts {counted}: "
            f"one of them is cut off or of another run; shares and counts are those of "
            f"{'op_statistic.csv' if more else 'kernel_details.csv'}. Export again"
        )
    within = [kernel for kernel in computing if kernel.step] or computing
    steps = sum(step.computing for step in profile.steps)
    if within and steps > 0:
        devices = _grouped(within, lambda kernel: kernel.device)
        busy = sum(covered((k.start, k.end) for k in some) for some in devices.values()) / 1e6
        if abs(busy - steps) > MOST_DIFFERENCE * steps:
            yield (
                f"step_trace_time.csv has {steps:.3f} ms of computing, the kernels of "
                f"kernel_details.csv cover {busy:.3f} ms: one of them is cut off or of another "
                "run. Export again"
            )


def kernel_share(report: Report, time: float) -> float | None:
    """Share of the kernels' time, 0 to 1."""
    whole = sum(operator.time for operator in report.operators)
    return time / whole if whole > 0 else None


def report_json(report: Report) -> dict[str, object]:
    """The report under the keys that `pi0 profile --help` explains; what is not known is null."""
    steps = max(len(report.steps), 1)
    return {
        "source": report.source,
        **_times_json(report.total),
        "core_share": dict(report.core_share),
        "per_step": {**_times_json(report.mean), "kernels": report.kernel_count / steps},
        "steps": [
            {"device": step.device, "step": step.step, **_times_json(step)} for step in report.steps
        ],
        "kernels": report.kernel_count,
        "top_kernels": [
            {
                "type": operator.type,
                "core": operator.core,
                "count": operator.count,
                "total_ms": operator.time,
                "mean_us": operator.time / operator.count * 1e3 if operator.count else None,
                "share": kernel_share(report, operator.time),
            }
            for operator in report.operators[:TOP]
        ],
        "warnings": list(report.warnings),
    }


def _times_json(times: StepTimes | None) -> dict[str, float | None]:
    return {
        "computing_ms": times and times.computing,
        "communication_ms": times and times.communication,
        "free_ms": times and times.free,
        "busy_share": times and times.busy_share,
    }
