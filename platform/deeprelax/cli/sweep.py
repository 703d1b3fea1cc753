"""``deeprelax sweep``."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from deeprelax.cli.root import assigned, main
from deeprelax.errors import ConfigError, DeepRelaxError

if TYPE_CHECKING:
    from deeprelax.tuning.sweep import SweepResult

_STOPPED = 130
_RUN_OPTIONS = ("epochs", "steps", "batch_size", "seed", "vectorize", "cpus_per_replica", "gpus_per_replica")


@main.command(context_settings={"show_default": True})
@click.argument("trainable", required=False)
@click.option("--space", help="What is searched: a name, module:name or file; see 'deeprelax spaces list'.")
@click.option("--trials", type=int, default=50, help="Trials of all drivers together.")
@click.option("--name", help="Name of the study and of runs/sweeps/NAME.  [default: made from what is agreed on]")
@click.option(
    "--study",
    metavar="URL",
    help="The study's database.  [default: $DEEPRELAX_STUDY, or sqlite:///runs/studies.db]",
)
@click.option("--resume", "resume_name", metavar="NAME", help="Go on with a sweep as its study says.")
@click.option(
    "--minimize", "--metric", multiple=True, metavar="METRIC",
    help="An objective to make small; repeatable.  [default: center/error]",
)  # fmt: skip
@click.option("--maximize", multiple=True, metavar="METRIC", help="An objective to make large; repeatable.")
@click.option("--sampler", default="tpe", help="tpe, gp, cmaes, nsga2, nsga3, random, or grid: every point once.")
@click.option(
    "--scheduler", default="none",
    help="What stops trials early: none, asha, hyperband or median; or pbt: the worst go on as copies of the best.",
)  # fmt: skip
@click.option("--population", type=int, default=8, help="Trials that pbt trains side by side on each driver.")
@click.option("--keep-best", type=int, default=0, help="Best trials whose last checkpoint is kept.")
@click.option("--seeds", type=int, default=1, help="Runs of every trial; its value is their mean.")
@click.option("--holdout", type=float, default=0.2, help="Share of the training data that trials are judged by.")
@click.option(
    "--set", "-s", "assignments", multiple=True, metavar="FIELD=VALUE",
    help="A field of the coupling that every trial has, whatever the space says.",
)  # fmt: skip
@click.option("--replicas", "-n", type=int, help="Short for --set replicas=N.")
@click.option("--config", "-o", "configs", multiple=True, metavar="FIELD=VALUE", help="A field of the trainable.")
@click.option("--epochs", type=float, help="Data passes of each replica.  [default: 10]")
@click.option("--steps", type=int, help="Mini-batch steps of each replica, instead of --epochs.")
@click.option("--batch-size", type=int, help="Samples of a step.  [default: the trainable's]")
@click.option(
    "--vectorize", type=click.Choice(["never", "auto", "always"]),
    help="Compute the replicas of small models together, of a whole pack too; equal to rounding.  [default: never]",
)  # fmt: skip
@click.option("--seed", type=int, help="First seed of every trial.  [default: 0]")
@click.option("--sampler-seed", type=int, default=0, help="Seed of the suggestions.")
@click.option("--timeout", type=float, help="Seconds after which this driver stops.")
@click.option("--max-gradients", type=int, help="Gradients of all trials together after which none begins.")
@click.option(
    "--pack", default="auto", metavar="N",
    help="Trials that a process is given at once; auto: short ones, so many as last about 1.5 seconds.",
)  # fmt: skip
@click.option(
    "--placement",
    default="auto",
    help="Where this driver trains the replicas of a trial: 'local' (they take turns in one process), 'ray' (a worker "
    "each), or 'auto': where the sweep ends sooner. The numbers are the same.",
)
@click.option("--cpus-per-trial", type=float, default=1.0, help="CPUs a trial asks Ray for, with local placement.")
@click.option("--gpus-per-trial", type=float, default=0.0, help="GPUs a trial asks Ray for, with local placement.")
@click.option("--cpus-per-replica", type=float, help="CPUs a worker asks Ray for, with ray placement.  [default: 1]")
@click.option(
    "--gpus-per-replica", type=float,
    help="GPUs likewise; more than 0 places trials on workers.  [default: 1 if there are enough]",
)  # fmt: skip
@click.option("--address", help="Address of a running Ray cluster.  [default: start one on this machine]")
@click.option("--verbose", "-v", is_flag=True, help="Let Ray talk.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object on standard output.")
def sweep(
    trainable: str | None,
    space: str | None,
    name: str | None,
    study: str | None,
    resume_name: str | None,
    assignments: tuple[str, ...],
    replicas: int | None,
    configs: tuple[str, ...],
    timeout: float | None,
    pack: str,
    address: str | None,
    placement: str,
    verbose: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Search for the best coupling of TRAINABLE: a name, module:function or file.py:function.

    \b
    Examples:
      deeprelax sweep digits --space parle --trials 30
      deeprelax sweep digits --space couplings --scheduler asha --seeds 3 --epochs 5
      deeprelax sweep --resume digits-parle-1a2b3c

    The same command again joins the study it has made, on this machine or another. Ctrl-C gives the running trials
    back. Trials are judged by a held-out part of the training data; the best is then trained on all of it and judged on
    the test set.

    A trial is one process in which its replicas take turns, or, with --placement ray, a run on Ray Train as 'deeprelax
    fit' makes it, with a worker a replica: for models that need a GPU or a process each. That takes 15 seconds to
    start, so 'auto' does it only for --gpus-per-replica, or if trials are long and few for the cluster.

    \b
      deeprelax sweep cifar10 --space parle --replicas 3 --gpus-per-replica 1 --address auto
    """
    try:
        from deeprelax.tuning import sweep as tuning
    except ImportError as error:
        raise DeepRelaxError(f"Sweeps need more packages ({error}). Install deeprelax[ray,tune].") from None
    if resume_name is not None:
        _refuse_choices(click.get_current_context())
        result = tuning.resume_sweep(
            resume_name,
            study=study,
            timeout=timeout,
            pack=_pack(pack),
            address=address,
            placement=placement,
            verbose=verbose,
        )
    else:
        run = {key: value for key in _RUN_OPTIONS if (value := options.pop(key)) is not None}
        result = tuning.sweep(
            _given(trainable, "TRAINABLE", "a name from 'deeprelax trainables list'"),
            space=_given(space, "--space", "a name from 'deeprelax spaces list'"),
            name=name,
            study=study,
            config=assigned(configs, "--config"),
            coupling=assigned(assignments, "--set") | ({} if replicas is None else {"replicas": replicas}),
            run=run,
            timeout=timeout,
            pack=_pack(pack),
            address=address,
            placement=placement,
            verbose=verbose,
            **options,  # type: ignore[arg-type]  # the options left are fields of SweepConfig, which checks them
        )
    _finish(result, study, as_json=as_json)


def _given(value: str | None, what: str, fix: str) -> str:
    if value is None:
        raise ConfigError(f"Missing {what}. Give {fix}, such as: deeprelax sweep digits --space parle")
    return value


def _pack(word: str) -> int | Literal["auto"]:
    if word == "auto":
        return "auto"
    try:
        return int(word)
    except ValueError:
        raise ConfigError(f"Invalid --pack {word!r}. Must be a number of trials, or auto.") from None


def _refuse_choices(context: click.Context) -> None:
    """Raise :class:`ConfigError` if anything was given that the study decides."""
    free = {"resume_name", "study", "timeout", "pack", "address", "placement", "verbose", "as_json"}
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    wrong = [parameter.human_readable_name for parameter in context.command.params if parameter.name in given - free]
    if wrong:
        raise ConfigError(
            f"Invalid --resume with {', '.join(wrong)}. The sweep goes on as its study says; leave them out."
        )


def _finish(result: SweepResult, study: str | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.summary()))
    else:
        for line in _lines(result):
            click.echo(line)
    if result.stopped:
        again = shlex.join(["deeprelax", "sweep", "--resume", result.name])
        # The URL is not repeated: it may hold a password.
        click.echo(f"Stopped. Continue with: {again}{'' if study is None else ' --study URL'}", err=True)
        sys.exit(_STOPPED)


def _lines(result: SweepResult) -> list[str]:
    from deeprelax.tuning.sweep.display import written

    counts = ", ".join(f"{count} {name}" for name, count in result.counts.items() if count and name != "asked")
    lines = [f"{'trials':<22} {counts}"]
    lines += [f"{'  stopped early':<22} {count} × {why}" for why, count in result.stopped_early.items()]
    lines += [f"{'  failed':<22} {count} × {why}" for why, count in result.failures.items()]
    if result.config is None:
        return [*lines, f"{'files':<22} {result.folder}"]
    lines.append(f"{'best trial':<22} {', '.join([str(result.trial), *result.cloned])}")
    for name, value in result.objectives.items():
        error = result.errors.get(name)
        spread = "" if error is None else f" ± {written(name, error)}"
        lines.append(
            f"{'  ' + name:<22} {written(name, value)}{spread}   on held-out training data, by which it was chosen"
        )
    if result.final is not None:
        for name, value in sorted(result.final.metrics.items()):
            lines.append(f"{'  test ' + name:<22} {written(name, value)}   trained on all training data")
    if result.front:
        lines.append(f"{'best in some objective':<22} trials {', '.join(map(str, result.front))}")
    if result.importances:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(result.importances.items())[:6])
        lines.append(f"{'what matters':<22} {shares}")
    if result.schedule is not None:
        shown = shlex.join(["deeprelax", "schedule", str(result.schedule)])
        lines.append(f"{'learned schedule':<22} {shown}")
    if result.cloned:
        lines.append(f"{'':<22} the command below replays the schedule of its lineage from the first step on")
    return [*lines, *_pictures(result), f"{'files':<22} {result.folder}", "", result.command]


def _pictures(result: SweepResult) -> list[str]:
    names = ", ".join(file.stem for file in result.pictures)
    shown = f"{result.pictures[0].parent}: {names}" if result.pictures else result.no_pictures
    return [f"{'pictures':<22} {shown}"] if shown else []
