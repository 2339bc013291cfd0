"""The training process of one run: `python -m foretune.train RUN_DIR [--resume]`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foretune.config import JobConfig
from foretune.errors import ForetuneError
from foretune.records.run import ResolvedRecord
from foretune.train.train import train


def main() -> int:
    """Train the run whose `resolved.json` stands in RUN_DIR; the exit code is that of the error."""
    parser = argparse.ArgumentParser(prog="python -m foretune.train", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    try:
        resolved = ResolvedRecord.read(args.run_dir)
        job = JobConfig.model_validate_json(_as_json(resolved))
        train(job, run_dir=args.run_dir, runs_dir=args.run_dir.parent, folder=Path(resolved.folder), resume=args.resume)
    except ForetuneError as error:
        print(f"error: {error}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _as_json(resolved: ResolvedRecord) -> str:
    import json

    return json.dumps(resolved.job)


if __name__ == "__main__":
    sys.exit(main())
