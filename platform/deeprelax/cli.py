"""The command line. Heavy imports wait until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from deeprelax.errors import ConfigError, DeepRelaxError

if TYPE_CHECKING:
    from deeprelax.execution.result import RunResult

_STOPPED = 130


class _Main(click.Group):
    """Prints our own errors as one message and exits with code 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DeepRelaxError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="deeprelax", prog_name="deeprelax")
def main() -> None:
    """Train neural networks as coupled replicas that exchange only the mean of their weights.

    \b
    First steps:
      deeprelax fit digits --local                     Parle with 3 replicas in this process
      deeprelax fit digits --coupling sgd              the baseline, on Ray
      deeprelax couplings list                         what can be trained with
      deeprelax trainables list                        what can be trained
    """


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
@click.option("--threads", type=int, help="Torch threads of a replica.  [default: cores // replicas, at least 1]")
@click.option("--report", multiple=True, metavar="WHAT", help="Judge 'replicas' and their 'ensemble' too, at the end.")
@click.option("--evaluate-every", type=float, default=1.0, help="Data passes between evaluations of the center.")
@click.option(
    "--checkpoint-every", type=float, default=1.0, help="Data passes between checkpoints; 0: only at the end."
)
@click.option("--keep-checkpoints", type=int, default=2, help="Checkpoints to keep.")
@click.option("--address", help="Address of a running Ray cluster.  [default: start one on this machine]")
@click.option("--cpus-per-replica", type=float, default=1.0, help="CPUs a worker asks Ray for.")
@click.option("--gpus-per-replica", type=float, help="GPUs a worker asks Ray for.  [default: 1 if there are enough]")
@click.option("--max-failures", type=int, default=3, help="Lost workers that are replaced before the run gives up.")
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
        chosen = _assigned(assignments, "--set") | ({} if replicas is None else {"replicas": replicas})
        result = api.fit(
            trainable,
            coupling=make_coupling(coupling, chosen),
            config=_assigned(configs, "--config"),
            local=local,
            run_dir=run_dir,
            force=force,
            verbose=verbose,
            **fields,  # type: ignore[arg-type]  # the options left are fields of RunConfig, which checks them
        )
    _finish(result, as_json=as_json)


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
        click.echo(f"{'seconds':<22} {result.cost['seconds']:.1f}")
        click.echo(f"{'files':<22} {result.run_dir}")
    if result.stopped:
        again = shlex.join(["deeprelax", "fit", "--resume", str(result.run_dir)])
        click.echo(f"Stopped and saved. Continue with: {again}", err=True)
        sys.exit(_STOPPED)


def _assigned(words: tuple[str, ...], option: str) -> dict[str, object]:
    """Return the fields of repeated FIELD=VALUE options; a value that is a JSON list or object is read as such."""
    fields: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"Invalid {option} {word!r}. Must be FIELD=VALUE, such as {option} period=25.")
        fields[name.strip()] = _value(value.strip(), f"{option} {word}")
    return fields


def _value(text: str, where: str) -> object:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"Invalid {where}. Must be JSON: {error}.") from None


@main.command(context_settings={"show_default": True})
@click.option(
    "--only", multiple=True, metavar="ROW", help="A row of the table, such as T7; repeatable.  [default: all]"
)
@click.option("--seed", type=int, default=0, help="Seed of everything drawn at random.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as one JSON object on standard output.")
def verify(only: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Check the theory behind the couplings against closed forms and quadratures in low dimension.

    Exits with code 1 if a claim fails.
    """
    from deeprelax import verify as checks

    verdicts = checks.verify(seed, only or None)
    summary = checks.report(verdicts)
    click.echo(json.dumps(summary) if as_json else f"{summary['passed']} hold, {summary['failed']} fail")
    if summary["failed"]:
        sys.exit(1)


@main.group()
def trainables() -> None:
    """List and describe what can be trained."""


@trainables.command("list")
def list_trainables() -> None:
    """List the trainables by name."""
    from deeprelax import registry

    for name in registry.names():
        click.echo(f"{name:<16} {registry.find(name).summary}")


@trainables.command("show")
@click.argument("name")
def show_trainable(name: str) -> None:
    """Show what a trainable is and the fields of its config."""
    from deeprelax import registry
    from deeprelax.schema import describe

    chosen = registry.find(name)
    _show(chosen.name, chosen.function.__doc__, describe(chosen.schema))


@main.group()
def couplings() -> None:
    """List and describe the methods."""


@couplings.command("list")
def list_couplings() -> None:
    """List the couplings by name."""
    from deeprelax.coupling import METHODS

    for name, method in METHODS.items():
        click.echo(f"{name:<16} {(method.__doc__ or '').splitlines()[0]}")


@couplings.command("show")
@click.argument("name")
def show_coupling(name: str) -> None:
    """Show a coupling's equations and its fields with their defaults."""
    from deeprelax.coupling import Coupling, coupling_type

    method = coupling_type(name)
    _show(name, method.__doc__, {field: str(value) for field, value in method().model_dump().items()})
    common = inspect.getdoc(Coupling) or ""
    click.echo(f"\nFields common to all couplings:\n{common.partition('Args:')[2].partition('Raises:')[0].rstrip()}")


def _show(name: str, text: str | None, fields: Mapping[str, str]) -> None:
    click.echo(f"{name}\n\n{inspect.cleandoc(text or '')}\n\nFields and defaults:")
    for field, default in fields.items():
        click.echo(f"  {field:<18} {default}")
