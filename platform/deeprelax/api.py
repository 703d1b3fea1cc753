"""The front door in Python: :func:`fit`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeprelax.config import RunConfig
from deeprelax.coupling.base import Coupling
from deeprelax.errors import AdmissionError, ConfigError, DeepRelaxError
from deeprelax.execution.entry import make_job
from deeprelax.execution.learned import save_learned
from deeprelax.execution.local import run_locally
from deeprelax.execution.progress import progress
from deeprelax.execution.recorder import Recorder
from deeprelax.execution.result import RunResult
from deeprelax.execution.store import RunStore, remember_code
from deeprelax.registry import Trainable, find
from deeprelax.replica.checkpoint import Checkpoint, newest, write_json
from deeprelax.replica.task import Task

if TYPE_CHECKING:
    Function = Callable[..., Task]

RUNS = Path("runs")


def fit(
    trainable: str | Function,
    *,
    coupling: str | Coupling = "parle",
    replicas: int | tuple[int, int] | None = None,
    config: Mapping[str, object] | None = None,
    local: bool = False,
    run_dir: str | Path | None = None,
    force: bool = False,
    verbose: bool = False,
    show_progress: bool = True,
    **fields: object,
) -> RunResult:
    """Train coupled replicas and return the result.

    Args:
        trainable: a registered name, ``module:function``, ``file.py:function``, or the function itself.
        coupling: a method's name with its default fields, or a configured coupling such as ``Parle(replicas=3)``.
        replicas: instead of the coupling's; ``(2, 8)`` starts with 2 and grows to 8 as the cluster has room.
        config: fields of the trainable's own config.
        local: all replicas take turns in this process; False puts each on a Ray Train worker. The numbers are the same
            (with ``vectorize``, to rounding).
        run_dir: folder of the run's files; None makes one under ``runs/``.
        force: train with springs past their stability bound too.
        verbose: let Ray talk.
        show_progress: a live table on a terminal, a line an evaluation elsewhere; on standard error.
        fields: further fields of :class:`~deeprelax.config.RunConfig`, such as ``epochs=8, seed=1``.

    Raises:
        ConfigError: a name, field or value is wrong; nothing has been started.
        DataError: the trainable's data is missing.
        AdmissionError: the replicas do not fit the cluster.
        DivergedError: the loss stopped being finite.

    Example:
        >>> result = fit("digits", coupling="parle", epochs=1, local=True, run_dir=getfixture("tmp_path") / "run",
        ...              show_progress=False)
        >>> sorted(result.metrics)
        ['center/error', 'center/loss']
    """
    chosen = find(trainable)
    method, coupling_fields = _coupling(coupling)
    reserved = sorted({"trainable", "trainable_config", "method", "placement"} & fields.keys())
    if reserved:
        raise ConfigError(f"Invalid field {reserved[0]!r}. Give trainable, config=, coupling= and local= instead.")
    if replicas is not None:
        fewest, most = replicas if isinstance(replicas, tuple) else (None, replicas)
        coupling_fields = coupling_fields | {"replicas": most}
        fields = {"min_replicas": fewest} | fields
    requested = RunConfig(
        trainable=trainable if isinstance(trainable, str) else _text_of(chosen),
        trainable_config=chosen.configure(config or {}),
        method=method,
        coupling=coupling_fields,
        placement="local" if local else "ray",
        **fields,
    )
    requested.make_coupling()
    task = requested.judged(chosen.build(requested.trainable_config))
    resolved = requested.resolved(task, force=force)
    store = RunStore.create(Path(run_dir) if run_dir else None, resolved, RUNS)
    try:
        return _train(_Run(chosen, task, resolved, store, None, verbose, show_progress))
    except (AdmissionError, ConfigError):
        store.discard()
        raise


def resume(run_dir: str | Path, *, verbose: bool = False, show_progress: bool = True) -> RunResult:
    """Continue a run from its newest checkpoint, bit for bit as if it had not been interrupted (on CPU).

    Args:
        run_dir: the run's folder.
        verbose: let Ray talk.
        show_progress: as in :func:`fit`.

    Raises:
        CheckpointError: there is nothing to resume.
    """
    store, config, saved = RunStore.reopen(Path(run_dir))
    chosen = find(config.trainable)
    task = config.judged(chosen.build(config.trainable_config))
    return _train(_Run(chosen, task, config, store, saved, verbose, show_progress))


@dataclass(frozen=True)
class _Run:
    """Everything decided before the first step."""

    trainable: Trainable
    task: Task
    config: RunConfig
    store: RunStore
    saved: Checkpoint | None
    verbose: bool
    show_progress: bool


def _train(run: _Run) -> RunResult:
    with progress(run.config, show=run.show_progress) as display:
        recorder = Recorder(run.store, run.config, display, run.saved.cost if run.saved else None)
        stopped = _run_placed(run, recorder)
    result = RunResult(
        run_dir=run.store.path,
        config=run.config,
        metrics=_metrics(run.store, recorder),
        cost=recorder.cost(),
        incidents={kind: count for kind, count in recorder.members.incidents.items() if count},
        stopped=stopped,
    )
    last = newest(run.store.checkpoints)
    if last is not None:
        shutil.copyfile(last.path / "center.safetensors", result.center_path)
    if run.config.population is not None:
        save_learned(run.store, run.config)
    write_json(run.store.path / "result.json", result.summary())
    return result


def _run_placed(run: _Run, recorder: Recorder) -> bool:
    if run.config.placement == "local":
        return run_locally(run.task, run.config, run.store.checkpoints, recorder.take)
    try:
        from deeprelax.execution.trainer import run_on_ray
    except ImportError as error:
        raise DeepRelaxError(
            f"Ray is not installed ({error}). Install deeprelax[ray], or train with --local."
        ) from None
    reference = run.trainable.reference()
    remember_code(run.store, reference)
    job = make_job(run.config, reference, run.store.checkpoints)
    return run_on_ray(run.config, job, recorder.take, verbose=run.verbose)


def _metrics(store: RunStore, recorder: Recorder) -> dict[str, float]:
    rows = store.rows("evaluation")
    last = rows[-1] if rows else {}
    metrics = {name: float(str(value)) for name, value in last.items() if name.startswith(("center/", "flat/"))}
    replicas, ensemble = recorder.endings["replica"], recorder.endings["ensemble"]
    errors = [row["error"] for row in replicas if "error" in row]
    if errors:
        metrics |= {"replicas/error_mean": sum(errors) / len(errors), "replicas/error_best": min(errors)}
    if ensemble:
        metrics["ensemble/error"] = ensemble[-1]["error"]
    return metrics


def _text_of(trainable: Trainable) -> str:
    """Return the text by which a run of a function is found again; a notebook's function has only its name."""
    try:
        return trainable.reference().path
    except ConfigError:
        return trainable.name


def _coupling(coupling: str | Coupling) -> tuple[str, dict[str, object]]:
    if isinstance(coupling, Coupling):
        return coupling.method(), coupling.model_dump()
    return coupling, {}
