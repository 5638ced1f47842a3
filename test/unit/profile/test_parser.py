"""The same two steps, written in the layouts of four years, must give the same figures."""

import csv
import io
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from pi0_ros.profile.parser import (
    KERNELS,
    OPERATORS,
    OUTPUT,
    STEPS,
    ProfileError,
    find_output,
    read_profile,
)
from pi0_ros.profile.report import make_report

# As ns it needs 61 bits, as us with three decimals 19 digits; a float64 holds 53 and 15.
BASE = 1_736_408_883_704_643_212
COMMUNICATION = "communication"
# Step, start after BASE and duration in ns, type, core. Gaps of 1 ns tell whether digits are lost.
EVENTS = [
    ("1", 0, 10_000, "MatMulV2", "AI_CORE"),
    ("1", 10_001, 4_000, "RmsNorm", "AI_VECTOR_CORE"),
    ("1", 12_001, 8_000, "FusedInferAttentionScore", "MIX_AIC"),
    ("1", 18_001, 12_000, "hcom_allReduce_", COMMUNICATION),
    ("1", 40_001, 1_000, "Cast", "AI_CPU"),
    ("2", 100_000, 10_000, "MatMulV2", "AI_CORE"),
    ("2", 110_000, 3_000, "ReduceSum", "MIX_AIV"),
    ("2", 115_000, 1_000, "DSAGenBitMask", "DSA_SQE"),
]
CORE_NS = {
    "AI_CORE": 20_000,
    "MIX_AIC": 8_000,
    "AI_VECTOR_CORE": 4_000,
    "MIX_AIV": 3_000,
    "AI_CPU": 1_000,
    "DSA_SQE": 1_000,
}
# Step -> us of computing, of communication that nothing overlaps, idle, from its first start on.
STEP_US = {"1": (21.0, 10.0, 10.001), "2": (14.0, 0.0, 2.0)}


@dataclass(frozen=True)
class Layout:
    kernel_columns: str
    step_columns: str
    communication: str = "HCCL"
    tab: str = ""
    newline: str = "\n"
    encoding: str = "utf-8"


STEP_TIMES = (
    "Computing,Communication(Not Overlapped),Overlapped,Communication,Free,Stage,Bubble,"
    "Communication(Not Overlapped and Exclude Receive)"
)
SHAPES = "Input Shapes,Input Data Types,Input Formats,Output Shapes"
LAYOUTS = {
    "2023, no unit, no steps": Layout(
        f"Name,Type,Accelerator Core,Start Time,Duration(us),Wait Time(us),Block Dim,{SHAPES}",
        f"Step,{STEP_TIMES}",
    ),
    "2023": Layout(
        "Step Id,Model ID,Task ID,Stream ID,Name,Type,Accelerator Core,Start Time(us),"
        f"Duration(us),Wait Time(us),Block Dim,Mix Block Dim,{SHAPES}",
        f"Step,{STEP_TIMES}",
    ),
    "2024": Layout(
        "Step Id,Model ID,Task ID,Stream ID,Name,Type,OP State,Accelerator Core,Start Time(us),"
        f"Duration(us),Wait Time(us),Block Dim,Mix Block Dim,HF32 Eligible,{SHAPES},"
        "aicore_time(us),aic_mac_ratio",
        f"Step,{STEP_TIMES},Preparing",
        tab="\t",
        newline="\r\n",
    ),
    "2025": Layout(
        "Step Id,Device_id,Model ID,Task ID,Stream ID,Name,Type,OP State,Accelerator Core,"
        f"Start Time(us),Duration(us),Wait Time(us),Block Dim,Mix Block Dim,HF32 Eligible,{SHAPES}",
        f"Device_id,Step,{STEP_TIMES},Preparing",
        tab="\t",
    ),
    "2026": Layout(
        "Step Id,Device_id,Name,Type,Accelerator Core,Start Time(us),Duration(us),Wait Time(us),"
        f"Block Num,Mix Block Num,{SHAPES}",
        f"Device_id,Step,{STEP_TIMES},Preparing",
        communication="COMMUNICATION",
        tab="\t",
        encoding="utf-8-sig",
    ),
    "other order": Layout(
        "Duration(us),Accelerator Core,Step ID,Type,Start Time(us),Name",
        f"{STEP_TIMES},Step",
        communication="COMMUNICATION",
    ),
}


def kernel_cells(layout: Layout, event: tuple) -> dict[str, str]:
    step, start, duration, type_, core = event
    us, ns = divmod(BASE + start, 1000)
    communicates = core == COMMUNICATION
    return {
        "Step Id": step,
        "Step ID": step,
        "Device_id": "0",
        "Name": f"aclnn{type_}_{start}",
        "Type": type_,
        "OP State": "N/A" if communicates else "dynamic",
        "Accelerator Core": layout.communication if communicates else core,
        "Start Time": f"{us}.{ns:03d}",
        "Start Time(us)": f"{us}.{ns:03d}{layout.tab}",
        "Duration(us)": f"{duration / 1000:.3f}",
        "Wait Time(us)": "0",
        "Block Dim": "20",
        "Block Num": "20",
        "Task ID": "N/A" if communicates else "7",
        # torch_npu quotes the quotes of msprof.
        "Input Shapes": "N/A" if communicates else '"1,816,2048;2048"',
        "Output Shapes": '"1,816,2048"',
    }


def table(layout: Layout, columns: str, rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    header = columns.split(",")
    writer = csv.DictWriter(text, header, extrasaction="ignore", lineterminator=layout.newline)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(layout.encoding)


def write(folder: Path, layout: Layout, *, steps: bool = True, operators: bool = True) -> Path:
    """An *_ascend_pt folder."""
    output = folder / OUTPUT
    output.mkdir(parents=True)
    rows = [kernel_cells(layout, event) for event in EVENTS]
    (output / KERNELS).write_bytes(table(layout, layout.kernel_columns, rows))
    if steps:
        names = ("Computing", "Communication(Not Overlapped)", "Free")
        rows = [
            {"Step": step, "Device_id": "0", **dict(zip(names, map(repr, times), strict=True))}
            for step, times in STEP_US.items()
        ]
        (output / STEPS).write_bytes(table(layout, layout.step_columns, rows))
    if operators:
        rows = [
            {
                "OP Type": core,
                "Core Type": core,
                "Count": sum(event[-1] == core for event in EVENTS),
                "Total Time(us)": ns / 1000,
            }
            for core, ns in CORE_NS.items()
        ]
        columns = "OP Type,Core Type,Count,Total Time(us),Min Time(us),Ratio(%)"
        (output / OPERATORS).write_bytes(table(layout, columns, rows))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_figures(tmp_path, layout):
    report = make_report(read_profile(write(tmp_path / "host_1_ascend_pt", layout)))
    assert report.total.computing == pytest.approx(0.035, abs=1e-12)
    assert report.total.communication == pytest.approx(0.010, abs=1e-12)
    assert report.total.free == pytest.approx(0.012001, abs=1e-12)
    assert report.total.busy_share == pytest.approx(35 / 57.001)
    assert report.mean.computing == pytest.approx(0.0175)
    assert [step.step for step in report.steps] == ["1", "2"]
    whole = sum(CORE_NS.values())
    assert report.core_share == pytest.approx({core: ns / whole for core, ns in CORE_NS.items()})
    assert list(report.core_share)[:3] == ["AI_CORE", "MIX_AIC", "AI_VECTOR_CORE"]
    assert report.kernel_count == 7
    top = report.operators[0]
    assert (top.type, top.core, top.count) == ("MatMulV2", "AI_CORE", 2)
    assert top.time == pytest.approx(0.020)
    assert report.warnings == ()
    assert report.kernels[1].start == BASE + 10_001


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_without_the_step_file_the_kernels_tell(tmp_path, layout):
    report = make_report(read_profile(write(tmp_path, layout, steps=False)))
    assert report.total.computing == pytest.approx(0.035, abs=1e-12)
    assert report.total.communication == pytest.approx(0.010, abs=1e-12)
    # From the first start to the last end, and so with what lies between the steps.
    assert report.total.free == pytest.approx(0.071, abs=1e-12)
    if "Step" in layout.kernel_columns:
        for step, (name, times) in zip(report.steps, STEP_US.items(), strict=True):
            assert step.step == name
            found = (step.computing * 1e3, step.communication * 1e3, step.free * 1e3)
            assert found == pytest.approx(times, abs=1e-9)
    else:
        assert report.steps == (report.total,)
    assert len(report.warnings) == 1 and STEPS in report.warnings[0]


def step_file(folder: Path, text: str) -> Path:
    (folder / STEPS).write_text(text)
    return folder


def test_the_documents_figures(tmp_path):
    text = "Step,Computing,Communication(Not Overlapped),Free\n,71600.0,0,4580.0\n"
    report = make_report(read_profile(step_file(tmp_path, text)))
    assert report.total.computing == pytest.approx(71.6)
    assert report.total.free == pytest.approx(4.58)
    assert round(report.total.busy_share * 100, 1) == 94.0
    assert report.core_share == {}
    assert any("no shares of the cores" in warning for warning in report.warnings)


def test_devices_are_not_mixed(tmp_path):
    # Two devices at the same time: 10 us of computing on each, not 10 us together.
    (tmp_path / KERNELS).write_text(
        "Device_id,Name,Type,Accelerator Core,Start Time(us),Duration(us)\n"
        "0,a,A,AI_CORE,0,10\n1,a,A,AI_CORE,0,10\n1,b,B,AI_CPU,10,10\n"
    )
    report = make_report(read_profile(tmp_path))
    assert report.total.computing == pytest.approx(0.030)
    assert report.total.free == 0
    assert [(step.device, step.computing) for step in report.steps] == [("0", 0.01), ("1", 0.02)]


def test_level0_has_no_cores_but_communication_is_still_told_apart(tmp_path):
    (tmp_path / KERNELS).write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us)\n"
        "aclnnMatmul_MatMulV2,N/A,N/A,0,10\nhcom_allReduce__1,hcom_allReduce_,N/A,10,30\n"
    )
    report = make_report(read_profile(tmp_path))
    assert report.core_share == {"N/A": 1.0}
    assert report.total.busy_share == pytest.approx(0.25)
    assert report.operators[0].type == "aclnnMatmul_MatMulV2"
    assert any("Level1" in warning for warning in report.warnings)


def test_operators_stand_in_for_missing_kernels(tmp_path):
    output = write(tmp_path, LAYOUTS["2025"]) / OUTPUT
    (output / KERNELS).unlink()
    report = make_report(read_profile(tmp_path))
    whole = sum(CORE_NS.values())
    assert report.core_share == pytest.approx({core: ns / whole for core, ns in CORE_NS.items()})
    assert report.total.computing == pytest.approx(0.035)
    (output / STEPS).write_text("")
    assert make_report(read_profile(tmp_path)).total is None


@pytest.mark.parametrize("content", ["", "Step,Computing,Communication(Not Overlapped),Free\n"])
def test_an_empty_step_file_is_as_good_as_none(tmp_path, content):
    output = write(tmp_path, LAYOUTS["2025"], steps=False) / OUTPUT
    step_file(output, content)
    report = make_report(read_profile(tmp_path))
    assert report.total.free == pytest.approx(0.071)
    assert len(report.warnings) == 1


def test_kernels_outside_of_steps_and_cut_off_rows_are_said(tmp_path):
    (tmp_path / KERNELS).write_text(
        "Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us)\n"
        ",w,W,AI_CORE,0,10\n1,a,A,AI_CORE,20,10\n1,b,B,AI_CORE,30,N/A\n1,c,C,AI"
    )
    report = make_report(read_profile(tmp_path))
    assert report.total.computing == pytest.approx(0.020)
    assert [step.computing for step in report.steps] == [0.01]
    assert any("2 of 4 rows" in warning for warning in report.warnings)
    assert any("1 of 2 kernels belong to no step" in warning for warning in report.warnings)


def test_a_field_longer_than_the_csv_module_allows(tmp_path):
    limit = csv.field_size_limit()
    shapes = ";".join(["1024,1024"] * 30_000)
    (tmp_path / KERNELS).write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us),Input Shapes\n"
        f'a,A,AI_CORE,0,10,"""{shapes}"""\nb,B,AI_CORE,10,10,\n'
    )
    assert len(read_profile(tmp_path).kernels) == 2
    assert csv.field_size_limit() == limit


HEADER = "Name,Type,Accelerator Core,Start Time(us),Duration(us)\n"


@pytest.mark.parametrize(
    ("file", "text", "parts"),
    [
        (KERNELS, "Name,Type,Start Time(us)\na,A,1\n", ["'Accelerator Core'", "'Duration(us)'"]),
        (KERNELS, "Name,Type,Start Time(us)\na,A,1\n", ["found 'Name', 'Type', 'Start Time(us)'"]),
        (KERNELS, HEADER + "a,A,AI_CORE,0,1\na,A,AI_CORE,1,fast\n", ["line 3", "'fast'"]),
        (KERNELS, HEADER + "a,A,AI_CORE,nan,1\n", ["line 2", "'Start Time(us)'", "a number"]),
        (KERNELS, HEADER + "a,A,AI_CORE,0,-1\n", ["a positive duration", "'-1'"]),
        (STEPS, "Step,Computing,Free\n1,2,3\n", ["'Communication(Not Overlapped)'", "'Free'"]),
        (OPERATORS, "OP Type,Core Type\nA,AI_CORE\n", ["'Count'", "'Total Time(us)'"]),
        (KERNELS, HEADER, ["hold no rows"]),
        (KERNELS, "", ["hold no rows"]),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(tmp_path, file, text, parts):
    (tmp_path / file).write_text(text)
    with pytest.raises(ProfileError) as error:
        read_profile(tmp_path)
    for part in [file, *parts]:
        assert part in str(error.value)


def test_any_folder_that_leads_to_one_profile_will_do(tmp_path):
    profile = write(tmp_path / "runs" / "host_1_ascend_pt", LAYOUTS["2024"])
    output = profile / OUTPUT
    assert find_output(tmp_path) == find_output(profile) == find_output(output) == output
    assert find_output(output / KERNELS) == output
    plain = tmp_path / "plain" / "copied"
    plain.mkdir(parents=True)
    step_file(plain, "Step,Computing,Communication(Not Overlapped),Free\n,1,0,1\n")
    assert find_output(tmp_path / "plain") == plain


def test_several_profiles_are_listed(tmp_path):
    for name in ("a_ascend_pt", "b_ascend_pt"):
        write(tmp_path / name, LAYOUTS["2024"])
    with pytest.raises(ProfileError) as error:
        find_output(tmp_path)
    assert "2 profiles" in str(error.value)
    assert str(tmp_path / "a_ascend_pt" / OUTPUT) in str(error.value)
    assert str(tmp_path / "b_ascend_pt" / OUTPUT) in str(error.value)


def test_what_is_no_profile(tmp_path):
    with pytest.raises(ProfileError, match="nothing of this name"):
        find_output(tmp_path / "nowhere")
    (tmp_path / "some.csv").write_text("a")
    with pytest.raises(ProfileError, match="a file"):
        find_output(tmp_path / "some.csv")
    with pytest.raises(ProfileError, match="here or below"):
        find_output(tmp_path)
    (tmp_path / "host_1_ascend_pt" / "PROF_1").mkdir(parents=True)
    with pytest.raises(ProfileError, match="analyse"):
        find_output(tmp_path)


def test_rows_may_come_in_any_order(tmp_path):
    output = write(tmp_path, LAYOUTS["2025"], steps=False) / OUTPUT
    header, *rows = (output / KERNELS).read_text().splitlines(keepends=True)
    random.Random(3).shuffle(rows)
    (output / KERNELS).write_text("".join([header, *rows]))
    assert make_report(read_profile(tmp_path)).total.free == pytest.approx(0.071, abs=1e-12)


EXPORTS = {
    "run_ascend_pt/ASCEND_PROFILER_OUTPUT/ascend_pytorch_profiler_0.db": "as a database",
    "PROF_1/mindstudio_profiler_output/op_summary_20260101.csv": "a summary of msprof",
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_that_are_not_read_are_named(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("x")
    with pytest.raises(ProfileError) as error:
        find_output(tmp_path)
    assert file.name in str(error.value) and EXPORTS[name] in str(error.value)
    assert "pi0 profile run" in str(error.value)
