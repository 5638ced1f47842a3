"""pi0 profile: where the time of an inference goes.

Prints computing, idle and busy time, the share of each core, and the longest kernels. `report`
reads what torch_npu.profiler wrote, in its layouts of 2023 to 2026, on any machine. `run` profiles
inferences of a checkpoint here: with torch_npu.profiler at Level1 on an NPU (never run on one),
with torch.profiler on a CPU and on CUDA.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.profile.load_options import add_load_options, graph_options

if TYPE_CHECKING:
    from pi0_ros.profile.report import Report

JSON_KEYS = {
    "source": "where the profile lies",
    "computing_ms, communication_ms, free_ms": "sums over all steps and devices; communication "
    "that no computing overlaps; free is idle",
    "busy_share": "computing / (computing + communication + free), 0 to 1",
    "core_share": "core (AI_CORE, MIX_AIC, ...; CPU or CUDA) -> its share of the kernels' time",
    "per_step": "the same four figures of the mean step (with run: inference), and `kernels` in it",
    "steps": "for each step and device: `device`, `step`, and the four figures",
    "kernels": "how many ran, without communication",
    "top_kernels": "the 15 longest types: `type`, `core`, `count`, `total_ms`, `mean_us`, `share`",
    "warnings": "sentences: files that are missing, rows left out, Level0",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|report")
    run = console.add_verb(commands, "run", "profile inferences of a checkpoint and report them")
    console.add_checkpoint(run)
    add_load_options(run)
    console.add_number(run, "--inferences", "N", console.count(1), 5, "inferences to profile")
    console.add_number(run, "--warm-up", "N", console.count(), 3, "inferences before them")
    console.add_out(run, "raw data is not kept; on an NPU: profile")

    text = "figures of a profile that torch_npu.profiler wrote"
    report = console.add_verb(commands, "report", text)
    text = "*_ascend_pt folder, its ASCEND_PROFILER_OUTPUT, or a folder above with one profile"
    report.add_argument("profile", metavar="DIR", type=Path, help=text)
    text = "earlier profile, shown beside this one"
    report.add_argument("--compare", metavar="DIR", type=Path, help=text)
    text = "also draw when each core worked (needs matplotlib)"
    for sub in (run, report):
        console.add_json(sub)
        sub.add_argument("--png", metavar="FILE", type=console.output_file, help=text)


def run(args: argparse.Namespace) -> int:
    """Report a profile, or make one and report it."""
    if args.png:
        console.require("matplotlib")
    from pi0_ros.profile.parser import read_profile
    from pi0_ros.profile.report import make_report, report_json
    from pi0_ros.profile.table import format_comparison, format_report

    if args.command == "run":
        report, before = _profile(args), None
    else:
        before = make_report(read_profile(args.compare)) if args.compare else None
        report = make_report(read_profile(args.profile))
    # The figures first: an image that cannot be drawn must not cost them.
    print(format_report(report))
    if before is not None:
        print(f"\n{format_comparison(before, report)}")
    console.write_json(args.json, report_json(report))
    if args.png:
        from pi0_ros.profile.plot import plot_timeline

        plot_timeline(args.png, report)
    return console.DONE


def _profile(args: argparse.Namespace) -> Report:
    from pi0_ros.profile.run import TRACE, load_to_measure, plausible_observation, profile_policy

    out = args.out
    if out is not None:
        console.claim_folder(out, [TRACE], args.overwrite)
    policy = load_to_measure(args, graph_options(args, args.graph, None))
    if out is None and policy.device.startswith("npu"):
        out = Path("profile")
    observation = plausible_observation(policy.cameras, policy.num_joints)
    return profile_policy(
        policy, observation, args.inferences, out, device=policy.device, warm_up=args.warm_up
    )
