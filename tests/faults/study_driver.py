"""A driver process of a shared study: claims, trains for a moment, says the result, and logs what it was told.

``python study_driver.py NAME LOG TRIALS`` with the database in ``DEEPRELAX_STUDY``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from deeprelax.errors import LeaseError
from deeprelax.tuning.study import Study, Terms, ledger

HEARTBEAT_S = 0.5
GRACE_S = 4.0
TRAINING_S = 0.3


ledger.WINDOW = 6  # so that the queue is refilled while drivers and database die


def agreed(trials: int) -> Terms:
    return Terms(
        metrics=("loss",), directions=("minimize",), space={"name": "line"}, trials=trials, sampler="tpe", seed=1
    )


def loss(x: float) -> float:
    return (x - 0.25) ** 2


def drive(name: str, log: Path, trials: int) -> None:
    def say(event: str, number: int, value: float) -> None:
        with log.open("a") as file:
            file.write(json.dumps([event, number, value]) + "\n")

    with Study.open(name, agreed(trials), heartbeat_s=HEARTBEAT_S, grace_s=GRACE_S) as study:
        while not study.finished:
            study.reclaim()
            trial = study.ask()
            if trial is None:
                time.sleep(0.1)
                continue
            x = trial.suggest.suggest_float("x", 0, 1)
            say("claimed", trial.number, x)
            try:
                for step in range(3):
                    time.sleep(TRAINING_S / 3)
                    trial.report(loss(x) + 1 / (step + 1), step)
                trial.complete([loss(x)])
            except LeaseError:
                say("refused", trial.number, loss(x))
            else:
                say("complete", trial.number, loss(x))


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
