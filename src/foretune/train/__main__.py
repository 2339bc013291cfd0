"""The training process of one run: `python -m foretune.train RUN_DIR [--resume]`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foretune.errors import ForetuneError
from foretune.train.here import train_run


def main() -> int:
    """Train the run whose `resolved.json` stands in RUN_DIR; the exit code is that of the error."""
    parser = argparse.ArgumentParser(prog="python -m foretune.train", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    try:
        train_run(args.run_dir, resume=args.resume)
    except ForetuneError as error:
        print(f"error: {error}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
