"""How many trials a second a sweep makes, next to plain Ray Tune and plain Optuna, in turns on one cluster.

All contenders of a group make the same number of trials and search at random; all train as long, on as many cores, and
judge the same held-out samples. The times are those of whole calls: the start of the trials' processes is in all of
them, and in a sweep also the tables of a new study and the best run's training on all data. More trials make these
parts smaller, for everybody.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import How, Row

if TYPE_CHECKING:
    from deeprelax.tuning.sweep.packing import Pack

ROUNDS = 3
TUNE = "Ray Tune, reuse_actors"
NO_REUSE = "Ray Tune, a process a trial"
OPTUNA = "Optuna alone, SQLite, one process"
OURS = "deeprelax sweep, trial by trial"
PACKED = "deeprelax sweep, packed"
VECTORIZED = "deeprelax sweep, packed and vectorized"
TRIVIAL_TRIALS = 200
DIGITS_TRIALS = 48
PAR = 1.0
FIVE_TIMES = 0.2

Contender = Callable[[int], None]


def sweep_rows(_: How) -> list[Row]:
    """Return seconds a trial; on Ray, a trial gets a core, and so does a pack."""
    import ray

    from deeprelax import env

    env.pin(loopback=True)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        trivial: Mapping[str, Contender] = {
            TUNE: plain_tune,
            OPTUNA: plain_optuna,
            OURS: partial(trivial_sweep, pack=1),
            PACKED: trivial_sweep,
        }
        digits: Mapping[str, Contender] = {
            TUNE: fits_on_tune,
            NO_REUSE: fits_in_new_processes,
            OURS: partial(digits_sweep, pack=1),
            PACKED: digits_sweep,
            VECTORIZED: partial(digits_sweep, vectorize="always"),
        }
        first = _seconds_of(trivial, TRIVIAL_TRIALS)
        second = _seconds_of(digits, DIGITS_TRIALS)
        nothing = "seconds of a trivial trial (deeprelax makes one step and a run folder)"
        fits = "seconds of a trial: digits MLP, local SGD, 2 replicas, 1 pass; against"
        return [
            *_rows(nothing, first, TUNE, {PACKED: PAR}),
            *_rows(f"{fits} warm processes", second, TUNE, {PACKED: FIVE_TIMES}),
            *_rows(f"{fits} a process a trial, Tune's default", second, NO_REUSE, {PACKED: FIVE_TIMES}),
        ]
    finally:
        ray.shutdown()


def plain_tune(trials: int) -> None:
    """Run a trainable that returns its parameter."""
    _tune(_Trivial, trials, reuse=True)


def fits_on_tune(trials: int) -> None:
    """Run fits in warm processes."""
    _tune(_Fits, trials, reuse=True)


def fits_in_new_processes(trials: int) -> None:
    """Run every fit in a process of its own."""
    _tune(_Fits, trials, reuse=False)


def plain_optuna(trials: int) -> None:
    """Ask and tell a study in a file, in this process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=f"sqlite:///{folder}/studies.db", sampler=sampler)
        study.optimize(lambda trial: trial.suggest_float("lr", 0.01, 0.1), n_trials=trials)


def trivial_sweep(trials: int, *, pack: Pack = "auto") -> None:
    """Sweep over runs of one step."""
    _sweep("potential", trials, pack=pack, run={"steps": 1}, minimize=("center/loss",))


def digits_sweep(trials: int, *, pack: Pack = "auto", vectorize: str = "never") -> None:
    """Sweep over the fits of :func:`fits_on_tune`."""
    _sweep("digits", trials, pack=pack, config=_MLP, run={"epochs": 1, "vectorize": vectorize})


_MLP = {"model": "mlp"}


class _Trivial:
    """What a trial does, if nothing."""

    @staticmethod
    def value(lr: float) -> float:
        return lr


class _Fits:
    """What a trial does: train the digits MLP."""

    @staticmethod
    def value(lr: float) -> float:
        import deeprelax
        from deeprelax.coupling import LocalSgd

        with tempfile.TemporaryDirectory() as folder:
            result = deeprelax.fit(
                "digits", coupling=LocalSgd(replicas=2, lr=lr), config=_MLP, epochs=1, holdout=0.2, threads=1,
                local=True, run_dir=Path(folder) / "run", show_progress=False,
            )  # fmt: skip
        return result.metrics["center/error"]


def _tune(what: type[_Trivial | _Fits], trials: int, *, reuse: bool) -> None:
    from ray import tune

    from deeprelax.tuning.sweep.driver import quiet_tune

    class Plain(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._lr = config["lr"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._lr = new_config["lr"]
            return True

        def step(self) -> dict[str, object]:
            return {"value": what.value(self._lr), "done": True}

    with tempfile.TemporaryDirectory() as folder, quiet_tune(verbose=False):
        results = tune.Tuner(
            tune.with_resources(Plain, {"cpu": 1}),
            param_space={"lr": tune.loguniform(0.01, 0.1)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=reuse),
            run_config=tune.RunConfig(
                storage_path=folder, verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
            ),
        ).fit()
    if results.errors:  # Tune raises nothing, and trials that fail at once would be timed
        raise results.errors[0]


def _sweep(trainable: str, trials: int, **fields: Any) -> None:
    import deeprelax
    from deeprelax.tuning.space import Constant, Float, SearchSpace
    from deeprelax.tuning.sweep import front

    space = SearchSpace(
        name="rate",
        dimensions=(
            Constant(field="method", value="local_sgd"),
            Constant(field="replicas", value=2),
            Float(field="lr", low=0.01, high=0.1, log=True),
        ),
        summary="The rate of local SGD.",
        source="none",
    )
    with tempfile.TemporaryDirectory() as folder:
        front.SWEEPS = Path(folder)
        deeprelax.sweep(
            trainable, space=space, trials=trials, sampler="random", study=f"sqlite:///{folder}/studies.db",
            show_progress=False, **fields,
        )  # fmt: skip


def _seconds_of(contenders: Mapping[str, Contender], trials: int) -> dict[str, tuple[float, ...]]:
    """Return the seconds a trial of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _, (name, run) in itertools.product(range(ROUNDS), contenders.items()):
        seconds[name].append(_seconds(partial(run, trials)) / trials)
    return {name: tuple(own) for name, own in seconds.items()}


def _rows(group: str, seconds: Mapping[str, tuple[float, ...]], against: str, bars: Mapping[str, float]) -> list[Row]:
    return [
        Row(group=group, name=name, seconds=own, base_seconds=seconds[against], against=against, bar=bars.get(name))
        for name, own in seconds.items()
    ]


def _seconds(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
