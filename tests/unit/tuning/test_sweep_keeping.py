"""What stays of checkpoints: one of a trial that is paused, those of the best that have ended, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tuning.populations import training

from deeprelax.tuning.sweep.keeping import remove_checkpoints, superfluous
from deeprelax.tuning.sweep.standing import Standing


def holding(trials: Path) -> set[int]:
    """Return the numbers of the trials that have a complete checkpoint."""
    return {int(path.parents[3].name) for path in trials.glob("*/seed-*/checkpoints/*/manifest.json")}


@pytest.mark.parametrize("best", [0, 1])
def test_the_best_keep_their_last_checkpoint_and_the_others_none(best: int, tmp_path: Path) -> None:
    with training(tmp_path, trials=3, population=3, keep_best=best, run={"epochs": 2}) as found:
        names = found.recruit()
        for name in names:
            found.step(name)
        assert holding(found.folder) == {0, 1, 2}
        assert len(list(found.folder.glob("*/seed-*/checkpoints/*"))) == 3
        found.run(names)
        values = {trial.number: trial.values[0] for trial in found.study.trials() if trial.values}
        assert holding(found.folder) == set(sorted(values, key=lambda n: values[n])[:best])


def test_what_a_dead_driver_has_left_goes_at_the_end(tmp_path: Path) -> None:
    with training(tmp_path, trials=2, population=2, run={"epochs": 2}) as found:
        first, second = found.recruit()
        found.step(first)
        found.step(second)
        found.searcher.population.leave(first)
        found.searcher.open.pop(first).trial.fail("its driver died", kind="preempted")
        assert holding(found.folder) == {0, 1}
        left = superfluous(Standing(found.study.trials(), ("center/loss",), ("minimize",)), 0)
        assert left == [0], "the other one is still trained"
        remove_checkpoints(found.folder, left)
        assert holding(found.folder) == {1}
        assert (found.folder / "00000/seed-0/metrics.jsonl").is_file()
