"""Profiling on CPU for real; the events of a GPU and the profiler of an NPU are made up."""

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from pi0_ros.profile.parser import KERNELS, OUTPUT, ProfileError
from pi0_ros.profile.report import Report, make_report
from pi0_ros.profile.run import plausible_observation, profile_policy, torch_profile

OBSERVATION = plausible_observation(("front", "wrist"), 6)


class MatmulPolicy:
    """Three operators of known names, and none while it sleeps."""

    def __init__(self, pause: float = 0.0) -> None:
        self.inferences = 0
        self._pause = pause
        self._weight = torch.ones(300, 300)

    def infer(self, observation):
        self.inferences += 1
        for _ in range(3):
            self._weight @ self._weight
        time.sleep(self._pause)


def test_a_plausible_observation_has_what_the_policy_asks_for():
    assert set(OBSERVATION.images) == {"front", "wrist"}
    assert OBSERVATION.images["front"].shape == (480, 640, 3)
    assert OBSERVATION.images["front"].std() > 50
    assert OBSERVATION.state.shape == (6,)
    assert OBSERVATION.instruction


def test_cpu_operators_are_counted_once_each_and_per_inference():
    policy = MatmulPolicy()
    report = profile_policy(policy, OBSERVATION, 2, device="cpu", warm_up=1)
    # One more than asked for: the profiler starts up during it.
    assert policy.inferences == 1 + 1 + 2
    assert [step.step for step in report.steps] == ["1", "2"]
    counts = {operator.type: operator.count for operator in report.operators}
    assert (counts["aten::matmul"], counts["aten::mm"]) == (6, 6)
    assert report.operators[0].type == "aten::mm"
    assert report.core_share == {"CPU": 1.0}
    # aten::mm runs within aten::matmul: added up, their own times are what the union is.
    own = sum(operator.time for operator in report.operators)
    assert own == pytest.approx(report.total.computing, rel=1e-3)


def test_cpu_is_idle_while_no_operator_runs():
    busy = profile_policy(MatmulPolicy(), OBSERVATION, 2, device="cpu", warm_up=0)
    idle = profile_policy(MatmulPolicy(pause=0.2), OBSERVATION, 2, device="cpu", warm_up=0)
    assert idle.mean.free >= 199
    assert idle.total.busy_share < busy.total.busy_share


def test_raw_data_goes_to_the_folder(tmp_path):
    out = tmp_path / "new" / "folder"
    report = profile_policy(MatmulPolicy(), OBSERVATION, 1, out, device="cpu", warm_up=0)
    assert "aten::mm" in (out / "trace.json").read_text()
    assert str(out / "trace.json") in report.source


def test_a_demo_checkpoint(demo_checkpoint: Path):
    from pi0_ros.policy.policy import Policy

    policy = Policy.load(demo_checkpoint)
    report = profile_policy(policy, OBSERVATION, 1, device="cpu", warm_up=0)
    assert 0.2 < report.total.busy_share <= 1
    names = {operator.type for operator in report.operators}
    assert names & {"aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"}
    assert report.kernel_count > 500


def test_a_device_without_a_profiler_is_refused():
    policy = MatmulPolicy()
    with pytest.raises(ProfileError, match="cpu, cuda, npu"):
        profile_policy(policy, OBSERVATION, 1, device="tpu")
    assert policy.inferences == 0


def event(name: str, start: float, end: float, device=DeviceType.CPU, **more) -> FunctionEvent:
    return FunctionEvent(1, name, 0, start, end, device_type=device, **more)


def gpu_report(*kernels: FunctionEvent) -> Report:
    marks = [event("pi0 inference 1", 0, 100), event("pi0 inference 2", 100, 200)]
    host = [event("aten::mm", 1, 90), event("cudaLaunchKernel", 2, 3)]
    return make_report(torch_profile([*marks, *host, *kernels], "cuda", "gpu"))


def test_on_a_gpu_the_kernels_count_not_the_host_nor_copies_nor_ranges():
    cuda = DeviceType.CUDA
    report = gpu_report(
        event("Memcpy HtoD", 0, 10, cuda),
        event("gemm", 10, 60, cuda),
        event("softmax", 50, 70, cuda),
        event("pi0 inference 1", 5, 95, cuda),
        event("a range of the user", 5, 95, cuda, is_user_annotation=True),
        event("gemm", 120, 130, cuda),
        event("ncclDevKernel_AllReduce", 500, 600, cuda),
    )
    assert report.core_share == {"CUDA": 1.0}
    assert [(step.computing, step.free) for step in report.steps] == [
        (pytest.approx(0.060), pytest.approx(0.040)),
        (pytest.approx(0.010), pytest.approx(0.090)),
    ]
    assert [(o.type, o.count, o.time) for o in report.operators] == [
        ("gemm", 2, pytest.approx(0.060)),
        ("softmax", 1, pytest.approx(0.020)),
    ]


def test_no_kernel_on_the_gpu_is_an_error():
    with pytest.raises(ProfileError, match="nothing that ran on cuda during 2 inferences"):
        gpu_report()


class FakeProfiler:
    """Takes what torch_npu 2.13's profiler takes, by name, and writes one row per recorded step."""

    def __init__(self, writes: bool = True) -> None:
        self.writes = writes
        self.level = self.steps = None
        self.module = ModuleType("torch_npu.profiler")
        self.module.ProfilerActivity = SimpleNamespace(CPU="cpu", NPU="npu")
        self.module.ProfilerLevel = SimpleNamespace(Level1="Level1")
        self.module.AiCMetrics = SimpleNamespace(PipeUtilization="PipeUtilization")
        self.module._ExperimentalConfig = self._config
        self.module.schedule = lambda wait, active, warmup=0, repeat=0: (wait, warmup, active)
        self.module.tensorboard_trace_handler = lambda dir_name: Path(dir_name)
        self.module.profile = self._profile

    def _config(self, *, profiler_level, aic_metrics):
        self.level = (profiler_level, aic_metrics)
        return "configuration"

    def _profile(self, *, activities, schedule, on_trace_ready, experimental_config):
        assert activities == ["cpu", "npu"] and experimental_config == "configuration"
        self.schedule, self.out = schedule, on_trace_ready
        return self

    def start(self) -> None:
        self.steps = 0

    def step(self) -> None:
        self.steps += 1

    def stop(self) -> None:
        if not self.writes:
            return
        output = self.out / f"host_{self.steps}_ascend_pt" / OUTPUT
        output.mkdir(parents=True)
        _, warmup, active = self.schedule
        rows = [f"{k},mm,MatMulV2,AI_CORE,{k * 100},60" for k in range(warmup, self.steps)]
        assert len(rows) == active
        header = "Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us)"
        (output / KERNELS).write_text("\n".join([header, *rows]))


@pytest.fixture
def fake_npu(monkeypatch: pytest.MonkeyPatch) -> FakeProfiler:
    fake = FakeProfiler()
    package = ModuleType("torch_npu")
    package.profiler = fake.module
    monkeypatch.setitem(sys.modules, "torch_npu", package)
    monkeypatch.setitem(sys.modules, "torch_npu.profiler", fake.module)
    return fake


def test_on_an_npu_level1_and_the_report_is_of_the_new_folder(fake_npu, tmp_path):
    (tmp_path / "earlier_ascend_pt" / OUTPUT).mkdir(parents=True)
    policy = MatmulPolicy()
    report = profile_policy(policy, OBSERVATION, 3, tmp_path, device="npu:0", warm_up=2)
    assert policy.inferences == 2 + 1 + 3
    assert fake_npu.level == ("Level1", "PipeUtilization")
    assert [step.step for step in report.steps] == ["1", "2", "3"]
    assert report.total.busy_share == pytest.approx(180 / 260)
    assert report.core_share == {"AI_CORE": 1.0}


def test_an_npu_profiler_that_wrote_nothing_is_an_error(fake_npu, tmp_path):
    fake_npu.writes = False
    with pytest.raises(ProfileError, match="one new"):
        profile_policy(MatmulPolicy(), OBSERVATION, 1, tmp_path, device="npu", warm_up=0)


def test_an_inference_that_fails_stops_the_npu_profiler(fake_npu, tmp_path):
    class Broken:
        def infer(self, observation):
            raise RuntimeError("no")

    fake_npu.writes = False
    stopped = []
    fake_npu.stop = lambda: stopped.append(True)
    with pytest.raises(RuntimeError, match="no"):
        profile_policy(Broken(), OBSERVATION, 1, tmp_path, device="npu", warm_up=0)
    assert stopped == [True]
