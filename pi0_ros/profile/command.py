"""pi0_profile: where the time of an inference goes, on an NPU as on any other device."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pi0_ros.profile.parser import read_profile
from pi0_ros.profile.plot import plot_timeline, require_matplotlib
from pi0_ros.profile.report import Report, make_report, report_json
from pi0_ros.profile.table import format_comparison, format_report, kernel_changes

EPILOG = """\
busy share = computing / (computing + communication that nothing overlaps + idle)

exit status: 0; 1 when there is no profile to report or something failed; 2 for wrong arguments;
130 after Ctrl-C.
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="pi0_profile",
        description="Where the time goes: computing, idle, busy share, share of each core, longest "
        "kernels. `report` reads what torch_npu.profiler left behind, on any machine; `run` "
        "profiles inferences of a checkpoint here and reports them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    report = _subcommand(commands, "report", "figures of a profile that torch_npu.profiler wrote")
    report.add_argument(
        "profile",
        metavar="DIR",
        type=Path,
        help="*_ascend_pt folder, its ASCEND_PROFILER_OUTPUT, or a folder with one such profile",
    )

    run = _subcommand(commands, "run", "profile inferences of a checkpoint and report them")
    add = run.add_argument
    add("--checkpoint", metavar="DIR", type=Path, required=True, help="pi0 checkpoint directory")
    add("--device", default="cpu", help="cpu, cuda or npu, with :N or not (default: cpu)")
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights (default: float32)",
    )
    add(
        "--inferences",
        metavar="N",
        type=_count(1),
        default=5,
        help="inferences to profile (default: 5)",
    )
    add(
        "--warm-up",
        metavar="N",
        type=_count(0),
        default=3,
        help="inferences before them (default: 3)",
    )
    add(
        "--cameras",
        metavar="NAME",
        nargs="+",
        help="those of the checkpoint that the robot has (default: all)",
    )
    add("--graph", default="auto", help="compiler, as the node's parameter (default: auto)")
    add("--form", default="frame", help="frame or two-graph (default: frame)")
    add("--attention", default="fia", help="on an NPU: fia or pfa (default: fia)")
    add("--tokenizer", metavar="PATH", type=Path, help="where the checkpoint brings none")
    add(
        "--out",
        metavar="DIR",
        type=Path,
        help="folder for the raw data: *_ascend_pt from an NPU (default there: pi0_profile), "
        "trace.json elsewhere (default: not written)",
    )

    for sub, what in ((report, "DIR"), (run, "this run")):
        sub.add_argument(
            "--compare",
            metavar="DIR",
            type=Path,
            help=f"torch_npu profile from before; the comparison goes from it to {what}",
        )
        sub.add_argument("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
        sub.add_argument(
            "--png", metavar="FILE", type=Path, help="also draw the timeline (needs matplotlib)"
        )
    args = parser.parse_args(argv)
    # Found out before minutes of profiling, not after.
    for option in ("json", "png"):
        file = getattr(args, option)
        if file is not None and not file.parent.is_dir():
            parser.error(f"--{option}: the folder {file.parent} does not exist")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        if args.png:
            require_matplotlib()
        before = make_report(read_profile(args.compare)) if args.compare else None
        report = make_report(read_profile(args.profile)) if args.command == "report" else _run(args)
        # The figures first: a picture that cannot be drawn must not cost them.
        print(format_report(report))
        if before is not None:
            print(f"\n{format_comparison(before, report)}")
        if args.json:
            args.json.write_text(json.dumps(comparison_json(report, before), indent=2) + "\n")
        if args.png:
            plot_timeline(args.png, [report] if before is None else [before, report])
    # ImportError: torch_npu on a machine without it. RuntimeError: torch without such a device.
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"pi0_profile: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pi0_profile: interrupted", file=sys.stderr)
        return 130
    return 0


def comparison_json(report: Report, before: Report | None = None) -> dict[str, object]:
    """`report_json` of a report; with an earlier one also

    - before: the earlier report, under the same keys
    - change: per_step: after minus before of computing_ms, communication_ms, free_ms, busy_share;
      kernels: type, core, before_ms, after_ms of the mean step, largest change first
    """
    document = report_json(report)
    if before is None:
        return document
    earlier = report_json(before)
    old, new = earlier["per_step"], document["per_step"]
    change = {
        key: None if old[key] is None or new[key] is None else new[key] - old[key] for key in new
    }
    kernels = kernel_changes(before, report)
    return {**document, "before": earlier, "change": {"per_step": change, "kernels": kernels}}


def _run(args: argparse.Namespace) -> Report:
    # Not on top: `report` needs no torch.
    from pi0_ros.policy.compile import GraphOptions
    from pi0_ros.profile.run import load_to_measure, plausible_observation, profile_policy

    policy = load_to_measure(
        args.checkpoint,
        device=args.device,
        dtype=args.dtype,
        cameras=args.cameras,
        tokenizer=args.tokenizer,
        graph=GraphOptions(args.graph, args.form, None, args.attention),
    )
    observation = plausible_observation(policy.cameras, policy.num_joints)
    out = args.out
    if out is None and policy.device.startswith("npu"):
        out = Path("pi0_profile")
    return profile_policy(
        policy,
        observation,
        args.inferences,
        out,
        device=policy.device,
        warm_up=args.warm_up,
        progress=True,
    )


def _subcommand(commands, name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _count(least: int):
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    parse.__name__ = "number"
    return parse


if __name__ == "__main__":
    sys.exit(main())
