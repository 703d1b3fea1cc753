"""``deeprelax fit``."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from deeprelax.cli.root import assigned, main
from deeprelax.errors import ConfigError

if TYPE_CHECKING:
    from deeprelax.execution.result import RunResult
    from deeprelax.replica.population import PopulationConfig

_STOPPED = 130


@main.command(context_settings={"show_default": True})
@click.argument("trainable", required=False)
@click.option("--coupling", "-c", default="parle", help="The method; see 'deeprelax couplings list'.")
@click.option("--replicas", "-n", type=int, help="Coupled copies of the weights.  [default: the coupling's]")
@click.option(
    "--set",
    "-s",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of the coupling: --set period=25 --set 'gamma=exp(100,1)'. See 'deeprelax couplings show NAME'.",
)
@click.option(
    "--config",
    "-o",
    "configs",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of the trainable: --config model=cnn. See 'deeprelax trainables show NAME'.",
)
@click.option(
    "--adapt",
    metavar="KNOB,…",
    help="Adapt lr, gamma, rho across the replicas: --adapt lr,gamma. With every=4 (exchanges between two decisions), "
    "spread=2, exploited=0.25, perturbation=1.2 or judge=training in the list, as you like.",
)
@click.option("--epochs", type=float, default=10.0, help="Data passes of each replica.")
@click.option("--steps", type=int, help="Mini-batch steps of each replica, instead of --epochs.")
@click.option("--batch-size", type=int, help="Samples of a step.  [default: the trainable's]")
@click.option("--accumulate", type=int, default=1, help="Parts a batch is computed in, to save memory.")
@click.option("--clip-norm", type=float, help="Largest norm of a gradient.")
@click.option("--precision", default="float32", help="float32, or bf16 for bfloat16 autocast.")
@click.option("--seed", type=int, default=0, help="Seed of everything random.")
@click.option(
    "--local", is_flag=True, help="All replicas take turns in this process, without Ray; the numbers are the same."
)
@click.option(
    "--vectorize",
    default="never",
    metavar="WHEN",
    help="With --local, compute all replicas in one call: 'auto' where it pays, 'always', 'never'. Equal to rounding.",
)
@click.option(
    "--exchange",
    default="auto",
    metavar="WAY",
    help="Messages on Ray go by 'shared_memory', by the 'server' through Ray, or 'auto': memory where it can be.",
)
@click.option("--threads", type=int, help="Torch threads of a replica.  [default: cores // replicas, at least 1]")
@click.option("--report", multiple=True, metavar="WHAT", help="Judge 'replicas' and their 'ensemble' too, at the end.")
@click.option(
    "--flatness",
    default="never",
    metavar="WHEN",
    help="Measure flat/… of the center at the 'end', or at 'every' evaluation.",
)
@click.option(
    "--holdout", type=float, default=0.0, help="Share of the training data to judge by, in the place of the test set."
)
@click.option("--evaluate-every", type=float, default=1.0, help="Data passes between evaluations of the center.")
@click.option(
    "--checkpoint-every", type=float, default=1.0, help="Data passes between checkpoints; 0: only at the end."
)
@click.option("--keep-checkpoints", type=int, default=2, help="Checkpoints to keep.")
@click.option("--address", help="Address of a running Ray cluster.  [default: start one on this machine]")
@click.option("--cpus-per-replica", type=float, default=1.0, help="CPUs a worker asks Ray for.")
@click.option("--gpus-per-replica", type=float, help="GPUs a worker asks Ray for.  [default: 1 if there are enough]")
@click.option("--max-failures", type=int, default=3, help="Lost workers that are replaced before the run gives up.")
@click.option(
    "--min-replicas",
    type=int,
    help="Start with so many replicas and grow to all as the cluster has room.  [default: wait for all]",
)
@click.option("--run-dir", help="Folder of the run's files.  [default: a new one under runs/]")
@click.option(
    "--resume",
    "resume_dir",
    metavar="RUN_DIR",
    help="Continue a run from its newest checkpoint; takes no other choices.",
)
@click.option("--force", is_flag=True, help="Train with springs past their stability bound too.")
@click.option("--verbose", "-v", is_flag=True, help="Let Ray talk.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object on standard output.")
def fit(
    trainable: str | None,
    coupling: str,
    replicas: int | None,
    assignments: tuple[str, ...],
    configs: tuple[str, ...],
    resume_dir: str | None,
    local: bool,
    adapt: str | None,
    run_dir: str | None,
    force: bool,
    verbose: bool,
    as_json: bool,
    **fields: object,
) -> None:
    """Train TRAINABLE: a name, module:function or file.py:function.

    \b
    Examples:
      deeprelax fit digits --coupling parle --replicas 3 --set period=25 --set 'gamma=exp(100,1)'
      deeprelax fit my_task.py:moons --local --epochs 20 --json
      deeprelax fit --resume runs/digits-parle-20260101-120000-ab12

    The center's weights are in RUN_DIR/center.safetensors, a plain state_dict. Ctrl-C saves and stops.
    """
    from deeprelax import api
    from deeprelax.coupling.methods import make_coupling

    if resume_dir is not None:
        _refuse_choices(click.get_current_context())
        result = api.resume(resume_dir, verbose=verbose)
    else:
        if trainable is None:
            raise ConfigError(
                "Missing TRAINABLE. Give a name from 'deeprelax trainables list', such as: deeprelax fit digits"
            )
        chosen = assigned(assignments, "--set") | ({} if replicas is None else {"replicas": replicas})
        result = api.fit(
            trainable,
            coupling=make_coupling(coupling, chosen),
            config=assigned(configs, "--config"),
            local=local,
            population=None if adapt is None else _population(adapt),
            run_dir=run_dir,
            force=force,
            verbose=verbose,
            **fields,  # type: ignore[arg-type]  # the options left are fields of RunConfig, which checks them
        )
    _finish(result, as_json=as_json)


def _population(text: str) -> PopulationConfig:
    """Return the population of a list: its words are knobs, FIELD=VALUE are other fields."""
    from deeprelax.replica.population import PopulationConfig

    words = [word.strip() for word in text.split(",") if word.strip()]
    fields = assigned(tuple(word for word in words if "=" in word), "--adapt")
    return PopulationConfig(**fields, knobs=tuple(word for word in words if "=" not in word))


def _refuse_choices(context: click.Context) -> None:
    """Raise :class:`ConfigError` if anything but the folder and what is shown was given: the run's config decides."""
    free = {"resume_dir", "verbose", "as_json"}
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    wrong = [parameter.human_readable_name for parameter in context.command.params if parameter.name in given - free]
    if wrong:
        raise ConfigError(
            f"Invalid --resume with {', '.join(wrong)}. The run goes on as its config.json says; leave them out."
        )


def _finish(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.summary()))
    else:
        for name, value in result.metrics.items():
            click.echo(f"{name:<22} {value:.6g}")
        click.echo(f"{'gradient evaluations':<22} {result.cost['gradient_evaluations_total']:.0f}")
        click.echo(f"{'exchanged':<22} {result.cost['bytes_exchanged'] / 1e6:.3f} MB")
        for kind, count in result.incidents.items():
            click.echo(f"{kind.replace('_', ' '):<22} {count}")
        click.echo(f"{'seconds':<22} {result.cost['seconds']:.1f}")
        click.echo(f"{'files':<22} {result.run_dir}")
        if result.config.population is not None:
            click.echo(f"{'learned schedule':<22} {shlex.join(['deeprelax', 'schedule', str(result.run_dir)])}")
    if result.stopped:
        again = shlex.join(["deeprelax", "fit", "--resume", str(result.run_dir)])
        click.echo(f"Stopped and saved. Continue with: {again}", err=True)
        sys.exit(_STOPPED)
