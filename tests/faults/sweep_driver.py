"""A driver with a Ray instance of its own that takes part in one sweep after the other, until its input ends.

``python sweep_driver.py RAY_FOLDER TRIALS``: each line of standard input is the URL of a database; when the sweep on it
has ended, standard output gets its summary as one line of JSON. Standard error has a line a trial.
"""

from __future__ import annotations

import json
import logging
import sys

import deeprelax
from deeprelax.env import pin
from deeprelax.tuning.study import Study, ledger

NAME = "night"
HEARTBEAT_S = 0.5
GRACE_S = 4.0
STARTS = 4

ledger.WINDOW = 6  # so that the queue is refilled while drivers and database die


def start(folder: str) -> None:
    pin(loopback=True)
    import ray

    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=80_000_000,
                _temp_dir=folder,
            )
        except Exception as error:
            # Ray gives itself 30 s to start, which is too little while other programs have the cores.
            if not left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return


def drive(folder: str, trials: int) -> None:
    start(folder)
    vars(Study)["open"].__func__.__kwdefaults__.update(heartbeat_s=HEARTBEAT_S, grace_s=GRACE_S)
    for line in sys.stdin:
        result = deeprelax.sweep(
            "potential",
            space="local_sgd",
            name=NAME,
            trials=trials,
            config={"noise": 1.0},
            run={"epochs": 12, "seed": 1},
            study=line.strip(),
        )
        sys.stdout.write(json.dumps(result.summary()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    drive(sys.argv[1], int(sys.argv[2]))
