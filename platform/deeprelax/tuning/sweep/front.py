"""The front door of sweeps in Python: :func:`sweep` and :func:`resume_sweep`."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprelax import env
from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, DeepRelaxError
from deeprelax.execution.learned import FILE
from deeprelax.execution.store import environment
from deeprelax.registry import Trainable, find
from deeprelax.replica.checkpoint import write_json
from deeprelax.tuning.space import Scalar, SearchSpace, find_space
from deeprelax.tuning.study import Study, Terms
from deeprelax.tuning.study.grid import grid
from deeprelax.tuning.sweep.admission import own_node, require_room
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.disk import saying_full
from deeprelax.tuning.sweep.display import Board, done_of, parameters_of, shown, written
from deeprelax.tuning.sweep.feasible import Feasible, check_feasible
from deeprelax.tuning.sweep.finale import command_of, importances, run_of, train_on_all
from deeprelax.tuning.sweep.keeping import Keeping, remove_checkpoints, superfluous
from deeprelax.tuning.sweep.largest import Largest, largest
from deeprelax.tuning.sweep.metrics import check_metrics
from deeprelax.tuning.sweep.outcome import ERRORS
from deeprelax.tuning.sweep.packing import Pack, Packing
from deeprelax.tuning.sweep.pausing import run_folder
from deeprelax.tuning.sweep.perturbation import check_movable
from deeprelax.tuning.sweep.pictures import MISSING, draw_pictures
from deeprelax.tuning.sweep.places import Places
from deeprelax.tuning.sweep.placing import Wish, known_wish
from deeprelax.tuning.sweep.result import SweepResult, reasons, write_best, write_summary, write_trials
from deeprelax.tuning.sweep.standing import LEADING, Standing, cost_of

if TYPE_CHECKING:
    from deeprelax.replica.task import Task

    Function = Callable[..., Task]

SWEEPS = Path("runs/sweeps")


def sweep(  # noqa: PLR0913 - all that a driver decides for itself
    trainable: str | Function,
    *,
    space: str | SearchSpace,
    name: str | None = None,
    study: str | None = None,
    config: Mapping[str, object] | None = None,
    timeout: float | None = None,
    pack: Pack = "auto",
    address: str | None = None,
    placement: str = "auto",
    show_progress: bool = True,
    verbose: bool = False,
    **fields: object,
) -> SweepResult:
    """Search for the best coupling on Ray Tune, and train it on all data at the end.

    The same call again joins the study it has made: on another cluster it helps, after an interruption it goes on, and
    of a finished study it returns the result.

    Args:
        trainable: a registered name, ``module:function``, ``file.py:function``, or a function at the top of a file.
        space: a search space, or the name, module or file of one.
        name: of the study and of the folder ``runs/sweeps/NAME``; None derives it from everything that is agreed on.
        study: URL of the study's database; None takes ``DEEPRELAX_STUDY``, or the file ``runs/studies.db``.
        config: fields of the trainable's own config.
        timeout: seconds after which this driver begins no trial and gives the running ones back.
        pack: trials that a process is given at once, as :class:`~deeprelax.tuning.sweep.packing.Packing` says.
        address: of a running Ray cluster; None uses the connected one, or starts one on this machine.
        placement: of the trials this driver trains: ``local`` (all replicas take turns in one process), ``ray`` (a
            worker a replica, with ``run={"cpus_per_replica": …, "gpus_per_replica": …}``) or ``auto`` (where the sweep
            ends sooner, see :func:`deeprelax.tuning.sweep.placing.sooner`). The numbers are the same.
        show_progress: a live table on a terminal, a line a finished trial elsewhere; on standard error.
        verbose: let Ray talk.
        fields: further fields of :class:`~deeprelax.tuning.sweep.config.SweepConfig`, such as ``trials=50, seeds=3,
            minimize=("center/error", "bytes_exchanged"), run={"epochs": 5}``.

    Raises:
        ConfigError: a name, field or value is wrong; nothing has been started.
        AdmissionError: no trial fits the cluster.
        StudyError: the database cannot be used, or its study of this name is another one.

    Example:
        ``result = deeprelax.sweep("digits", space="parle", trials=30); print(result.command)``
    """
    chosen = find(trainable)
    searched = find_space(space) if isinstance(space, str) else space
    agreed = SweepConfig(
        trainable=trainable if isinstance(trainable, str) else chosen.reference().path,
        trainable_config=chosen.configure(config or {}),
        space=space if isinstance(space, str) else space.name,
        **fields,
    )
    first: Sequence[Mapping[str, Scalar]] = searched.published()[: agreed.trials]
    if agreed.sampler == "grid":
        first = grid(searched.suggest)
        agreed = agreed.model_copy(update={"trials": len(first)})
    terms = agreed.terms(searched.describe())
    called = _checked(name) if name is not None else _name_of(terms, chosen, searched)
    task = RunConfig(trainable=agreed.trainable, holdout=agreed.holdout).judged(chosen.build(agreed.trainable_config))
    check_metrics(agreed.metrics, task)
    check_feasible(searched, Feasible(agreed, chosen))
    if agreed.pauses:
        check_movable(searched)
    _check_timeout(timeout)
    packing = Packing(pack, agreed)
    placing = _placing(placement, pack, largest(searched, Feasible(agreed, chosen)))
    _admit(agreed, placing, address)
    with Study.open(called, terms, url=study, first=first) as opened:
        return _sweep(
            _Sweep(chosen, searched, agreed, opened, placing, address, timeout, packing, show_progress, verbose)
        )


def resume_sweep(
    name: str,
    *,
    study: str | None = None,
    timeout: float | None = None,
    pack: Pack = "auto",
    address: str | None = None,
    placement: str = "auto",
    show_progress: bool = True,
    verbose: bool = False,
) -> SweepResult:
    """Go on with a sweep from its study alone, on this or any other machine that has the trainable's code.

    Args:
        name: of the study.
        study: URL of its database; this and what follows is as in :func:`sweep`.
        timeout: seconds.
        pack: trials of a pack, or auto.
        address: of a cluster.
        placement: of the trials.
        show_progress: on standard error.
        verbose: let Ray talk.

    Raises:
        StudyError: there is no such study, or its database cannot be used.
        ConfigError: the study was not made by a sweep, or its trainable or space is not here or is another one.
    """
    _check_timeout(timeout)
    with Study.open(_checked(name), url=study) as opened:
        agreed = SweepConfig.of_study(opened.terms)
        chosen, searched = find(agreed.trainable), find_space(agreed.space)
        if json.loads(json.dumps(searched.describe())) != opened.terms.space:
            raise ConfigError(
                f"Invalid space {agreed.space!r}: it is another one here than in the study {name!r}. Must be the same; "
                "install the version of its package that the study was made with."
            )
        packing = Packing(pack, agreed)
        placing = _placing(placement, pack, largest(searched, Feasible(agreed, chosen)))
        _admit(agreed, placing, address)
        return _sweep(
            _Sweep(chosen, searched, agreed, opened, placing, address, timeout, packing, show_progress, verbose)
        )


@dataclass(frozen=True)
class _Placing:
    """Where this driver is asked to train trials, and the largest of them."""

    wish: Wish
    largest: Largest


def _placing(placement: str, pack: Pack, largest: Largest) -> _Placing:
    wish = known_wish(placement)
    if wish == "ray" and pack not in {"auto", 1}:
        raise ConfigError(f"Invalid pack={pack} with placement='ray'. Must be 1 or auto: a pack shares one process.")
    return _Placing(wish, largest)


@dataclass(frozen=True)
class _Sweep:
    """Everything decided before the first trial."""

    trainable: Trainable
    space: SearchSpace
    agreed: SweepConfig
    study: Study
    placing: _Placing
    address: str | None
    timeout: float | None
    packing: Packing
    show_progress: bool
    verbose: bool

    @property
    def folder(self) -> Path:
        return (SWEEPS / self.study.name).absolute()

    def standing(self) -> Standing:
        return Standing(self.study.trials(), self.agreed.metrics, self.agreed.directions)


def _sweep(what: _Sweep) -> SweepResult:
    with saying_full(what.folder):
        return _searched(what)


def _searched(what: _Sweep) -> SweepResult:
    stopped = False if what.study.finished else _drive(what)
    standing = what.standing()
    write_trials(what.folder, standing.trials, what.agreed.metrics)
    # Drivers that died have left some.
    remove_checkpoints(what.folder / "trials", superfluous(standing, what.agreed.keep_best))
    result = _result(what, standing, stopped=stopped)
    if standing.complete and not stopped:
        result = _pictured(what, standing, result)
    write_summary(result, what.agreed.model_dump(mode="json"))
    return result


def _drive(what: _Sweep) -> bool:
    env.pin(loopback=what.address is None, verbose=what.verbose)
    try:
        from deeprelax.tuning.sweep.driver import Drive, drive
    except ImportError as error:
        raise DeepRelaxError(f"Ray Tune is not installed ({error}). Install deeprelax[ray,tune].") from None
    reference = what.trainable.reference()
    write_json(what.folder / "environment.json", environment())
    ends = None if what.timeout is None else time.monotonic() + what.timeout
    standing = what.standing()
    board = Board(
        metrics=what.agreed.metrics,
        trials=what.agreed.trials,
        done=done_of(what.study.counts()),
        count=what.study.counts,
        best=lambda: _described(what.standing()),
        ends=ends,
    )
    with shown(board, show=what.show_progress) as display:
        return drive(
            Drive(
                config=what.agreed,
                space=what.space,
                feasible=Feasible(what.agreed, what.trainable),
                study=what.study,
                given={
                    "reference": {
                        "path": reference.path, "source_hash": reference.source_hash, "source": reference.source,
                    },
                    "folder": str(what.folder / "trials"),
                    "pauses": what.agreed.pauses,
                    "keeps": what.agreed.keep_best > 0,
                },
                spent=standing.gradients,
                audience=Keeping(display, what.folder / "trials", what.standing, what.agreed.keep_best),
                packing=what.packing,
                ends=ends,
                placement=what.placing.wish,
                largest=what.placing.largest,
                address=what.address,
                verbose=what.verbose,
            )
        )  # fmt: skip


def _result(what: _Sweep, standing: Standing, *, stopped: bool) -> SweepResult:
    best = standing.best
    metrics = what.agreed.metrics
    result = SweepResult(
        name=what.study.name,
        folder=what.folder,
        counts=what.study.counts(),
        stopped_early=reasons(standing.trials, ("pruned",)),
        failures=reasons(standing.trials, ("failed", "diverged")),
        stopped=stopped,
    )
    if best is None:
        return result
    tried = run_of(best)
    if what.placing.wish == "local":
        tried = tried.with_fields(placement="local")
    config = tried.with_fields(holdout=0.0)
    write_best(what.folder, config)
    errors: Mapping[str, float] = cost_of(best).get(ERRORS, {})  # type: ignore[assignment]
    return replace(
        result,
        trial=best.number,
        cloned=best.user_attrs.get("cloned", ()),
        schedule=_schedule_of(what, best.number, tried),
        objectives=dict(zip(metrics, best.values, strict=True)),
        errors={name: errors[name] for name in metrics if name in errors},
        config=config,
        command=command_of(config, what.trainable),
        chosen_by=command_of(tried, what.trainable),
        final=None if stopped else train_on_all(config, what.folder / "best", address=what.address),
        importances=importances(standing),
        front=[trial.number for trial in standing.front] if len(metrics) > 1 else [],
    )


def _schedule_of(what: _Sweep, number: int, tried: RunConfig) -> Path | None:
    """Return the folder of the trial's first run if what it has learned is written there."""
    run = run_folder(what.folder / "trials" / f"{number:05d}", tried.seed)
    return run if what.agreed.pauses and (run / FILE).is_file() else None


def _pictured(what: _Sweep, standing: Standing, result: SweepResult) -> SweepResult:
    feasible = Feasible(what.agreed, what.trainable)
    leading = [feasible.runs(run_of(trial))[0] for trial in standing.leading(LEADING)]
    pictures = draw_pictures(what.folder / "pictures", standing, result.importances, leading)
    return replace(result, pictures=pictures, no_pictures="" if pictures else MISSING)


def _described(standing: Standing) -> str:
    best = standing.best
    if best is None:
        return ""
    values = zip(standing.metrics, best.values, strict=True)
    numbers = "  ".join(f"{name} {written(name, value)}" for name, value in values)
    return f"trial {best.number}  {numbers}  {parameters_of(run_of(best))}"


def _name_of(terms: Terms, trainable: Trainable, space: SearchSpace) -> str:
    """Return a name that is equal for equal sweeps: the same command joins the study it has made."""
    content = json.dumps(terms.to_json(), sort_keys=True).encode()
    return f"{trainable.name}-{space.name}-{hashlib.sha256(content).hexdigest()[:6]}"


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(f"Invalid name {name!r}. Must be letters, digits, '_', '-' and '.': it names a folder too.")
    return name


def _admit(agreed: SweepConfig, placing: _Placing, address: str | None) -> None:
    """Refuse a trial that never fits the cluster which would be started here, before it is."""
    ray = sys.modules.get("ray")
    if address is None and not (ray is not None and ray.is_initialized()):
        node = own_node()
        places = Places(agreed, placing.wish, placing.largest, lambda: [node], lambda: agreed.trials)
        require_room([node], places.asked())


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"Invalid timeout={timeout}. Must be > 0 seconds.")
