"""``deeprelax schedule``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from deeprelax.cli.root import main

if TYPE_CHECKING:
    from pathlib import Path

    from deeprelax.config import RunConfig
    from deeprelax.execution.learned import LearnedSchedule

_PICTURE = "schedule.svg"
# What only describes, or follows from the rest.
_LEFT_OUT = {"epochs", "threads", "population", "report", "flatness", "address", "keep_checkpoints", "max_failures"}


@main.command(context_settings={"show_default": True})
@click.argument("run_dir")
@click.option("--plots", metavar="DIR", help=f"Draw what was applied into DIR/{_PICTURE}; needs matplotlib.")
@click.option("--json", "as_json", is_flag=True, help="Print schedule.json and the command as one JSON object.")
def schedule(run_dir: str, plots: str | None, as_json: bool) -> None:
    """Print the command that trains with the schedules that were learned in RUN_DIR.

    By the replicas of a run (fit --adapt): all of them then follow the lineage of the winner's settings, to 10 % at
    every step. By a trial of a population (sweep --scheduler pbt): the command repeats its lineage exactly.
    RUN_DIR/schedule.json has what each replica, or trial, applied.

    \b
    Examples:
      deeprelax fit digits --local --adapt lr,gamma --run-dir adapted
      deeprelax schedule adapted --plots pictures
    """
    from pathlib import Path

    from deeprelax import pictures
    from deeprelax.config import RunConfig
    from deeprelax.execution.learned import load_learned
    from deeprelax.replica.checkpoint import read_json

    folder = None if plots is None else pictures.prepare(plots)
    learned = load_learned(Path(run_dir))
    command = replay_command(RunConfig(**read_json(Path(run_dir) / "config.json")), learned)
    if as_json:
        click.echo(json.dumps(asdict(learned) | {"command": command}))
    else:
        click.echo(command)
    if folder is not None:
        click.echo(f"drew {_draw(folder, learned)}", err=True)


def replay_command(config: RunConfig, learned: LearnedSchedule) -> str:
    """Return ``deeprelax fit …`` for the run without its population, with the schedules it learned."""
    from deeprelax.tuning.space import fit_command

    coupling = config.make_coupling()
    usual = type(coupling)().model_dump()
    chosen = {name: value for name, value in coupling.model_dump().items() if value != usual[name]}
    others = {
        name: getattr(config, name)
        for name, field in type(config).model_fields.items()
        if name not in _LEFT_OUT and getattr(config, name) != field.default
    }
    return fit_command(config.trainable, others | {"method": config.method, "coupling": chosen | learned.schedules})


def _draw(folder: Path, learned: LearnedSchedule) -> Path:
    from deeprelax.pictures import save
    from deeprelax.pictures.schedule import draw

    return save(folder / _PICTURE, lambda figure: draw(figure, learned), "deeprelax schedule --plots")
