"""The planted-fault suite: `python benchmarks/diagnose.py base | run | observe | fit | score | fix | pack | ...`.

Every command goes on where it stood. In the order of a whole measurement:

    python benchmarks/diagnose.py base --bases DIR                      # the further bases, 20 CPU minutes each
    python benchmarks/diagnose.py run dev --bases DIR --out DEV         # records of the development half
    python benchmarks/diagnose.py run first --bases DIR --out FIRST     # of what was held out in the first round
    python benchmarks/diagnose.py fit DEV FIRST                         # thresholds, on these two alone
    python benchmarks/diagnose.py run heldout --bases DIR --out HELD    # records of the half that nothing was made on
    python benchmarks/diagnose.py score HELD                            # the figures
    python benchmarks/diagnose.py run check --bases DIR --out CHECK     # of a smaller one, for rules mended since
    python benchmarks/diagnose.py run final --bases DIR --out FINAL     # of the last, for the rules as they stand now
    python benchmarks/diagnose.py run language --bases DIR --out LANG   # of one fault that no other half has
    python benchmarks/diagnose.py fix HELD --bases DIR                  # the first cause's patch applied, and rerun
    python benchmarks/diagnose.py pack DEV FIRST HELD CHECK FINAL LANG  # the small file that the tests replay
    python benchmarks/diagnose.py replay                                # the figures again, from that file
    python benchmarks/diagnose.py live                                  # what the badge would have said meanwhile
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    """Dispatch to one of the commands."""
    args = _parser().parse_args()
    args.run(args)


def _parser() -> argparse.ArgumentParser:
    halves = _halves()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    base = commands.add_parser("base", help="pretrain the further bases")
    base.add_argument("--only", default="", help="names, with commas between them")
    base.set_defaults(run=_base)
    run = commands.add_parser("run", help="train, evaluate and observe the runs of one half")
    run.add_argument("half", choices=halves)
    run.add_argument("--out", type=Path, required=True, help="where the records go, a folder a run")
    run.add_argument("--only", default="", help="labels to run, with commas between them")
    run.add_argument("--most", type=int, default=0, help="runs a label; 0 = all")
    run.add_argument("--keep-weights", action="store_true", help="keep what was trained, below --scratch")
    run.set_defaults(run=_run)
    again = commands.add_parser("observe", help="probe kept weights anew, once the probes have changed")
    again.add_argument("half", choices=halves)
    again.add_argument("--out", type=Path, required=True)
    again.set_defaults(run=_observe)
    fit = commands.add_parser("fit", help="search thresholds on development halves")
    fit.add_argument("out", type=Path, nargs="+")
    fit.set_defaults(run=_fit)
    score = commands.add_parser("score", help="confusion matrix and rates of a folder of records")
    score.add_argument("out", type=Path)
    score.add_argument("--details", action="store_true", help="also every run that was judged wrongly")
    score.set_defaults(run=_score)
    fix = commands.add_parser("fix", help="apply the first cause's patch, train again, and compare")
    fix.add_argument("out", type=Path)
    fix.add_argument("--each", type=int, default=5, help="runs a fault")
    fix.add_argument("--only", default="", help="faults, with commas between them; processes may share out the faults")
    fix.set_defaults(run=_fix)
    pack = commands.add_parser("pack", help="write the records that a diagnosis reads into one small file")
    pack.add_argument("out", type=Path, nargs="+", help="folders of records; halves that none is of stay as they are")
    pack.set_defaults(run=_pack)
    replay = commands.add_parser("replay", help="the figures from the packed file")
    replay.add_argument("--details", action="store_true")
    replay.set_defaults(run=_replay)
    live = commands.add_parser("live", help="what the badge of a run under way would have said, from the packed file")
    live.set_defaults(run=_live)
    for command in (base, run, again, fix):
        command.add_argument("--bases", type=Path, required=True, help="where the bases lie")
    for command in (run, again, fix):
        command.add_argument("--scratch", type=Path, default=None, help="working folder; default: beside --out")
    return parser


def _halves() -> tuple[str, ...]:
    from diagnose_suite.halves import HALVES

    return tuple(HALVES)


def _base(args: argparse.Namespace) -> None:
    from diagnose_suite.build import SHAPES, pretrain_base

    for name in SHAPES:
        if not args.only or name in _names(args.only):
            print(pretrain_base(args.bases, name))


def _run(args: argparse.Namespace) -> None:
    """All runs of a half that have left no records yet; several processes may share one folder."""
    from diagnose_suite.cases import cases
    from diagnose_suite.runner import Workplace, run_case

    _one_thread()
    args.out.mkdir(parents=True, exist_ok=True)
    place = Workplace(args.out, args.bases, _scratch(args), args.keep_weights)
    wanted = _names(args.only)
    for case in cases(args.half):
        if (wanted and case.label not in wanted) or (args.most and case.number >= args.most) or place.is_done(case):
            continue
        with _held(args.out / f".{case.name}.lock") as is_mine:
            if not is_mine or place.is_done(case):
                continue
            try:
                told = run_case(case, place)
            except Exception:  # a run that breaks off is named, and the others go on
                (args.out / f"{case.name}.error").write_text(traceback.format_exc(), encoding="utf-8")
                print(f"{case.name}: {traceback.format_exc().splitlines()[-1]}", file=sys.stderr, flush=True)
                continue
            print(f"{case.name} {case.task} {case.method} {told['cpu_seconds']} s", flush=True)


def _names(listed: str) -> set[str]:
    return set(listed.split(",")) - {""}


def _observe(args: argparse.Namespace) -> None:
    """Every run whose weights `run --keep-weights` left, and whose probes are older than this call's beginning."""
    from diagnose_suite.cases import cases
    from diagnose_suite.runner import Workplace, observe_again

    _one_thread()
    began = time.time()
    place = Workplace(args.out, args.bases, _scratch(args), keep_weights=True)
    for case in cases(args.half):
        if not place.is_done(case) or not (place.scratch / case.name).is_dir():
            continue
        with _held(args.out / f".{case.name}.lock") as is_mine:
            file = args.out / case.name / "evidence.json"
            if is_mine and file.is_file() and file.stat().st_mtime < began:
                print(f"{case.name} {observe_again(case, place):.1f} s", flush=True)


def _scratch(args: argparse.Namespace) -> Path:
    return Path(args.scratch or args.out.with_name(f"{args.out.name}.scratch"))


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether this process got the lock."""
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def _one_thread() -> None:
    import torch

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def _fit(args: argparse.Namespace) -> None:
    from diagnose_suite.fitting import fitted
    from diagnose_suite.pack import read_folder

    print(json.dumps(fitted([run for out in args.out for run in read_folder(out)]), indent=2))


def _score(args: argparse.Namespace) -> None:
    from diagnose_suite.pack import read_folder
    from diagnose_suite.scoring import report, scores

    runs = read_folder(args.out)
    print(report(scores(runs), details=args.details))


def _fix(args: argparse.Namespace) -> None:
    from diagnose_suite.fixes import run_fixes

    _one_thread()
    scratch = args.scratch or args.out.with_name(f"{args.out.name}.fix")
    print(json.dumps(run_fixes(args.out, args.bases, scratch, each=args.each, only=_names(args.only)), indent=2))


def _pack(args: argparse.Namespace) -> None:
    from diagnose_suite.pack import PACKED, pack

    print(f"{pack(args.out, PACKED):,} bytes in {PACKED}")


def _live(args: argparse.Namespace) -> None:
    from diagnose_suite.halves import HALVES
    from diagnose_suite.pack import PACKED, read_packed
    from diagnose_suite.under_way import live_report

    runs = read_packed(PACKED)
    for half in HALVES:
        print(f"--- {half}")
        print(live_report([run for run in runs if run.half == half]))


def _replay(args: argparse.Namespace) -> None:
    from diagnose_suite.pack import PACKED, read_packed
    from diagnose_suite.scoring import report, scores

    runs = read_packed(PACKED)
    for half in dict.fromkeys(run.half for run in runs):
        print(f"--- {half}")
        print(report(scores([run for run in runs if run.half == half]), details=args.details))


if __name__ == "__main__":
    main()
