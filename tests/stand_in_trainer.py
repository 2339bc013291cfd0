"""A training process without training: `stand_in_trainer.py RUN_DIR BEHAVIOUR start|resume`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from foretune.records.events import EventLog, read_events
from foretune.records.run import locked_run

sys.path.insert(0, str(Path(__file__).parent))
NUM_STEPS = 8
stopping = []


def main(run_dir: Path, behaviour: str, how: str) -> int:
    """`finish` trains to the end, `slow` until it is told to stop, `diverge` fails by name, `die` without a word,
    `stubborn` does not listen."""
    from stand_ins import training_record

    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    done = max([event["step"] for event in read_events(run_dir) if event["kind"] == "step"], default=0)
    with locked_run(run_dir), EventLog(run_dir) as log:
        log.add("train_start", step=done, planned_steps=NUM_STEPS, resumed=how == "resume")
        if behaviour == "die":
            print("the last words", flush=True)
            return 9
        for step in range(done + 1, NUM_STEPS + 1):
            log.add("step", step=step, loss=3.0 / step, tokens=100, seconds=0.01, learning_rate=1e-3, grad_norm=1.0)
            if behaviour == "diverge" and step == 3:
                log.add("failed", error="TrainingDiverged", message="the loss is NaN at step 3", fix="lower the rate")
                return 3
            while step == 4 and (behaviour == "stubborn" or (behaviour == "slow" and how == "start" and not stopping)):
                time.sleep(0.01)
            if stopping:
                log.add("checkpoint", step=step, path="checkpoints", seconds=0.01)
                log.add("train_end", reason="stopped", step=step)
                return 0
        training_record(run_dir.name).write(run_dir)
        log.add("train_end", reason="finished", step=NUM_STEPS)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
