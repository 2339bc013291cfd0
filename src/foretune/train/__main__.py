"""The training process of one run: `python -m foretune.train RUN_DIR [--resume | --probe]`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from foretune.errors import ForetuneError
from foretune.train.here import probe_run, train_run


def main() -> int:
    """Train the run whose `resolved.json` stands in RUN_DIR, or measure steps of it; the exit code is the error's.

    A probe names its error in one line of JSON, for whoever started it.
    """
    parser = argparse.ArgumentParser(prog="python -m foretune.train", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--probe", action="store_true", help="measure a few steps and write probe.json")
    parser.add_argument("--recompute", action="store_true", help="with --probe: activations are computed again")
    args = parser.parse_args()
    try:
        if args.probe:
            probe_run(args.run_dir, recompute=args.recompute)
        else:
            train_run(args.run_dir, resume=args.resume)
    except ForetuneError as error:
        if args.probe:
            print(json.dumps({"error": type(error).__name__, "message": error.what, "fix": error.fix}))
            return error.exit_code
        print(f"error: {error}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
