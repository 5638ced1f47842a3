"""Profiles a policy: torch_npu.profiler on an NPU, torch.profiler on CPU and CUDA.

The NPU's half has never run on an NPU: it follows the signatures of torch_npu 2.13. The reader of
what it writes is tested on files of that profiler.
"""

import argparse
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.console import progress
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.profile.parser import Kernel, Profile, ProfileError, StepTimes, read_profile
from pi0_ros.profile.report import Report, make_report, step_between

DEVICES = ("cpu", "cuda", "npu")
TRACE = "trace.json"
INSTRUCTION = "pick up the red cube and place it in the bowl"
# The name of the ranges that tell one inference from the next.
_INFERENCE = "pi0 inference "


def plausible_observation(cameras: Sequence[str], joints: int) -> Observation:
    """What a robot could see: images [480, 640, 3] with detail, all joints at 0 rad."""
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for name in cameras}
    return Observation(images, np.zeros(joints, np.float32), INSTRUCTION)


def load_to_measure(args: argparse.Namespace, graph: GraphOptions) -> Policy:
    """`Policy.load` for timing only: where a checkpoint does not say what its actions mean, either
    meaning will do, since it makes no difference to the time.

    Args:
        args: of `load_options.add_load_options`, and `checkpoint`.
    """
    checkpoint = read_checkpoint(args.checkpoint)
    return Policy.load(
        args.checkpoint,
        action_mode="absolute" if checkpoint.action_mode is None else None,
        discrete_state_input=True if checkpoint.prompt_state is None else None,
        device=args.device,
        dtype=args.dtype,
        cameras=args.cameras,
        tokenizer=args.tokenizer,
        graph=graph,
        # Any number of given actions takes the same time.
        rtc_max_delay=checkpoint.rtc_max_delay or 1,
    )


def profile_policy(
    policy: Any,
    observation: Observation,
    inferences: int,
    out: str | Path | None = None,
    *,
    device: str,
    warm_up: int = 2,
) -> Report:
    """Run inferences under a profiler and work out where their time went.

    The inferences count in the policy's sequence of chunks. Nobody else may use the policy
    meanwhile.

    Args:
        policy: anything with `infer(observation)`, such as a `pi0_ros.policy.policy.Policy`.
        observation: the same for all inferences.
        inferences: how many are profiled, at least 1; each is a step of the report.
        out: folder that gets the raw data: `*_ascend_pt` on an NPU, `trace.json` (for
            ui.perfetto.dev) elsewhere. An NPU needs one.
        device: where the policy runs: cpu, cuda[:N] or npu[:N].
        warm_up: inferences before those that are profiled.

    Raises:
        ProfileError: there is no profiler for the device, or it left nothing that can be read.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        known = ", ".join(DEVICES)
        raise ProfileError(f"device must be one of {known}, with :N or not; is {device}")
    if out is not None:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
    # One more: both profilers start up during the first step and throw it away.
    bar = progress(total=warm_up + 1 + inferences, desc="inferences", unit="inference")

    def infer() -> ActionChunk:
        chunk = policy.infer(observation)
        bar.update()
        return chunk

    with bar:
        for _ in range(warm_up):
            infer()
        if kind == "npu":
            return _on_npu(infer, inferences, out)
        return _with_torch(infer, inferences, out, kind)


def _on_npu(infer: Callable[[], ActionChunk], inferences: int, out: Path) -> Report:
    """Level1, because Level0 does not say which core a kernel ran on. Never run on an NPU."""
    from torch_npu import profiler

    before = set(out.glob("*_ascend_pt"))
    run = profiler.profile(
        activities=[profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU],
        schedule=profiler.schedule(wait=0, warmup=1, active=inferences, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(str(out)),
        experimental_config=profiler._ExperimentalConfig(
            profiler_level=profiler.ProfilerLevel.Level1,
            aic_metrics=profiler.AiCMetrics.PipeUtilization,
        ),
    )
    run.start()
    try:
        for _ in range(1 + inferences):
            infer()
            run.step()
    finally:
        run.stop()
    # This profiler prints its errors and goes on, so that only its files tell whether it worked.
    written = sorted(set(out.glob("*_ascend_pt")) - before)
    if len(written) != 1:
        raise ProfileError(
            f"{out}: expected one new *_ascend_pt folder, found {len(written)}; torch_npu's "
            "profiler says why in what it printed above"
        )
    return make_report(read_profile(written[0]))


def _with_torch(
    infer: Callable[[], ActionChunk], inferences: int, out: Path | None, kind: str
) -> Report:
    from torch.profiler import ProfilerActivity, profile, record_function, schedule

    activities = [ProfilerActivity.CPU]
    if kind != "cpu":
        activities.append(getattr(ProfilerActivity, kind.upper()))
    steps = schedule(wait=0, warmup=1, active=inferences, repeat=1)
    with profile(activities=activities, schedule=steps) as run:
        for number in range(1 + inferences):
            with record_function(f"{_INFERENCE}{number}"):
                infer()
            run.step()
    if out is not None:
        run.export_chrome_trace(str(out / TRACE))
    source = f"torch.profiler on {kind}" + (f", {out / TRACE}" if out else "")
    return make_report(torch_profile(run.events(), kind, source))


def torch_profile(events: Iterable[Any], kind: str, source: str) -> Profile:
    """The profile in the events of a torch.profiler.profile whose inferences are marked.

    Args:
        events: torch.autograd.profiler_util.FunctionEvent, times in us.
        kind: cpu: operators count, each with the time outside of the operators it calls, and an
            inference is idle while none runs. cuda: kernels count, as on an NPU.

    Raises:
        ProfileError: no inference is marked, or nothing ran within one.
    """
    events = list(events)
    marks = sorted(
        (_ns(event.time_range.start), _ns(event.time_range.end), event.name)
        for event in events
        if event.name.startswith(_INFERENCE) and event.device_type.name == "CPU"
    )
    starts = [start for start, _, _ in marks]
    kernels = []
    for event in events:
        start = _ns(event.time_range.start)
        index = bisect_right(starts, start) - 1
        if index < 0 or start >= marks[index][1] or not _counts(event, kind):
            continue
        duration = _ns(event.time_range.end) - start
        own = _ns(event.self_cpu_time_total) if kind == "cpu" else duration
        step = marks[index][2].removeprefix(_INFERENCE)
        core = event.device_type.name
        device = "" if kind == "cpu" else str(event.device_index)
        kernels.append(Kernel(event.name, event.name, core, start, duration, own, device, step))
    if not kernels:
        raise ProfileError(
            f"{source}: torch.profiler recorded nothing that ran on {kind} during "
            f"{len(marks)} inferences"
        )
    return Profile(source, tuple(kernels), tuple(_torch_steps(marks, kernels)))


def _torch_steps(
    marks: Sequence[tuple[int, int, str]], kernels: Sequence[Kernel]
) -> Iterable[StepTimes]:
    devices = sorted({kernel.device for kernel in kernels})
    for start, end, name in marks:
        step = name.removeprefix(_INFERENCE)
        for device in devices:
            within = [k for k in kernels if k.step == step and k.device == device]
            yield step_between(device, step, within, start, end)


def _counts(event: Any, kind: str) -> bool:
    """Whether an event is work: not a range of ours, and on a GPU a kernel and not a copy."""
    if event.name.startswith(_INFERENCE) or event.device_type.name != kind.upper():
        return False
    if kind == "cpu":
        return True
    copies = event.name.startswith(("Memcpy", "Memset"))
    return not (copies or getattr(event, "is_user_annotation", False))


def _ns(microseconds: float) -> int:
    return round(microseconds * 1000)
