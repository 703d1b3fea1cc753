"""The end of a sweep: the best trial as a run on all training data, and what has mattered."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from deeprelax.api import fit
from deeprelax.config import RunConfig
from deeprelax.errors import CheckpointError, ConfigError
from deeprelax.execution.result import RunResult, load_result
from deeprelax.registry import Trainable
from deeprelax.replica.checkpoint import read_json, write_json
from deeprelax.tuning.space import fit_command
from deeprelax.tuning.study.storage import quiet
from deeprelax.tuning.sweep.standing import Standing

FEWEST_FOR_IMPORTANCES = 10
"""Complete trials below which importances would be noise."""

_REQUESTED = "requested.json"  # the run before it was resolved, to know it again
_SKIPPED = ("method", "coupling", "trainable", "trainable_config", "placement", "report")


def run_of(trial: FrozenTrial) -> RunConfig:
    """Return the run that a trial was, with its held-out part."""
    return RunConfig(**trial.user_attrs["run"])


def command_of(config: RunConfig, trainable: Trainable) -> str:
    """Return the run as a shell command; fields that have their defaults are left out."""
    defaults = _defaults(trainable)
    own = {name: value for name, value in config.trainable_config.items() if defaults.get(name) != value}
    fields = config.model_dump(mode="json", exclude_defaults=True)
    return fit_command(
        config.trainable,
        {
            "method": config.method,
            "coupling": config.coupling,
            "trainable_config": own,
            "placement": config.placement,
            **{name: value for name, value in fields.items() if name not in _SKIPPED},
        },
    )


def train_on_all(config: RunConfig, folder: Path, *, address: str | None = None) -> RunResult:
    """Train the configuration on all training data and judge it on the test set; what was made before is taken again.

    Of several drivers that end at the same time on one machine, one trains and the others wait.

    Args:
        config: of the run, without a held-out part; its placement is that of the trials.
        folder: of the run's files.
        address: of the trials' cluster.
    """
    with _alone(folder):
        return _made(config, folder) or _train(config, folder, address)


def importances(standing: Standing) -> Mapping[str, float]:
    """Return what part each parameter has in the first objective, the largest first; nothing for few trials."""
    complete = [trial for trial in standing.complete if trial.params]
    if len(complete) < FEWEST_FOR_IMPORTANCES:
        return {}
    sign = -1.0 if standing.directions[0] == "maximize" else 1.0
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental; and that low values of the target count as good, which is meant
        study = optuna.create_study(directions=list(standing.directions))
        study.add_trials([_plain(trial) for trial in complete])
        try:
            return optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[0])
        except (RuntimeError, ValueError):  # all values are equal
            return {}


def _defaults(trainable: Trainable) -> Mapping[str, object]:
    """Return the trainable's own config as it is by default; empty if it has none."""
    try:
        return trainable.configure({})
    except ConfigError:
        return {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _train(config: RunConfig, folder: Path, address: str | None) -> RunResult:
    shutil.rmtree(folder, ignore_errors=True)
    fields = config.model_dump(exclude={"trainable", "trainable_config", "method", "coupling", "placement", "address"})
    result = fit(
        config.trainable,
        coupling=config.make_coupling(),
        config=config.trainable_config,
        local=config.placement == "local",
        address=address,
        run_dir=folder,
        show_progress=False,
        **fields,
    )
    write_json(folder / _REQUESTED, config.job())
    return result


def _made(config: RunConfig, folder: Path) -> RunResult | None:
    """Return the result in the folder if it is this configuration's."""
    try:
        return load_result(folder) if read_json(folder / _REQUESTED) == config.job() else None
    except CheckpointError:
        return None


def _plain(trial: FrozenTrial) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE, values=trial.values, params=trial.params, distributions=trial.distributions
    )
