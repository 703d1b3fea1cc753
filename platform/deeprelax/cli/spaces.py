"""``deeprelax spaces``: what a sweep may vary, and what its suggestions look like as runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deeprelax.cli.root import main

if TYPE_CHECKING:
    from deeprelax.tuning.space import SearchSpace


@main.group()
def spaces() -> None:
    """List, describe and sample search spaces."""


@spaces.command("list")
def list_spaces() -> None:
    """List the search spaces by name."""
    from deeprelax.tuning.space import find_space, space_names

    for name in space_names():
        click.echo(f"{name:<16} {find_space(name).summary}")


@spaces.command("show")
@click.argument("space")
@click.option("--json", "as_json", is_flag=True, help="Print the space as one JSON object on standard output.")
def show_space(space: str, as_json: bool) -> None:
    """Show the parameters of SPACE with bounds, conditions and sources.

    SPACE is a name from 'deeprelax spaces list', module:function or file.py:function (the function takes nothing and
    returns a deeprelax.tuning.space.SearchSpace), or a YAML file like this one:

    \b
    name: mine
    summary: Parle with a tightening inner spring, or DiLoCo.
    source: by hand, around arXiv:1707.00424
    dimensions:
      method:
        branch:                              # one of these groups; the name is the field's value
          parle:
            lr: {schedule: [constant, cosine], start: [0.01, 0.3], change: 0}
            period: {int: [5, 50], log: true}
            gamma:
              schedule: [constant, exponential]
              measure: kappa_in              # start and change are those of lr*period/gamma
              start: [0.001, 0.5]
              change: [1, 30]                # last / first, over the whole span
              spans: {fraction: [0.3, 1]}    # of the run; also steps, passes, exchanges
            averaging: {choice: [0, 0.75], source: the paper's and none}
          diloco:
            lr: cos(0.1,0)                   # a plain value is held
            outer_lr: {float: [0.1, 1], log: true}
      trainable_config.channels: {int: [8, 64], step: 8}
      batch_size: 64
    published:                               # complete points, tried first; may be left out
      - {method: diloco, diloco.outer_lr: 0.7, trainable_config.channels: 16}

    Shapes: constant linear exponential cosine piecewise (one drop) auto (takes growth: [low, high]).
    Measures: kappa_in or radius for gamma, kappa_out for rho, noise_ratio for beta, forgetting (1 - m) for a
    momentum m, effective for lr, outer_effective for outer_lr (the rate / (1 - m)).
    """
    from deeprelax.tuning.space import find_space

    found = find_space(space)
    if as_json:
        click.echo(json.dumps(found.describe()))
    else:
        _show(found)


@spaces.command("sample", context_settings={"show_default": True})
@click.argument("space")
@click.option("-n", "count", type=click.IntRange(min=1), default=5, help="How many suggestions.")
@click.option("--seed", type=int, default=0, help="Of the random suggestions.")
@click.option("--trainable", default="digits", help="What would be trained; it decides what is unstable.")
@click.option("--json", "as_json", is_flag=True, help="Print the samples as one JSON object on standard output.")
def sample_space(space: str, count: int, seed: int, trainable: str, as_json: bool) -> None:
    """Draw random suggestions of SPACE and print the commands that train them; nothing is trained."""
    from deeprelax.tuning.space import RandomSuggester, find_space

    found = find_space(space)
    random = RandomSuggester(seed)
    samples = []
    for _ in range(count):
        random.params = {}
        samples.append(_judged(found, trainable, found.suggest(random)) | {"params": random.params})
    if as_json:
        click.echo(json.dumps({"space": found.name, "samples": samples}))
        return
    for sample in samples:
        click.echo(sample["command"])
        if sample["unstable"]:
            click.echo(f"  # not trained: {sample['unstable']}")


def _judged(space: SearchSpace, trainable: str, fields: dict[str, object]) -> dict[str, object]:
    from deeprelax import registry
    from deeprelax.tuning.space import fit_command

    chosen = registry.find(trainable)
    config = fields.get("trainable_config", {})
    assert isinstance(config, dict)
    task = chosen.build(chosen.configure(config))
    return {
        "command": fit_command(trainable, fields),
        "fields": fields,
        "unstable": space.violation(fields, task),
    }


def _show(space: SearchSpace) -> None:
    from deeprelax.tuning.space import Constant, fit_command

    click.echo(f"{space.name}\n\n{space.summary}\nSource: {space.source}\n")
    parameters = space.parameters()
    width = max(len(parameter.name) for parameter in parameters) + 2
    bounds = max(len(parameter.bounds()) for parameter in parameters) + 2
    for parameter in parameters:
        notes = [parameter.meaning, f"if {parameter.condition()}" if parameter.conditions else ""]
        line = f"{parameter.name:<{width}}{parameter.bounds():<{bounds}}{'; '.join(filter(None, notes))}"
        click.echo(line.rstrip())
    held = [f"{item.field}={item.value}" for item in space.dimensions if isinstance(item, Constant)]
    if held:
        click.echo(f"\nHeld: {', '.join(held)}")
    sources = {parameter.source: parameter.field for parameter in reversed(parameters) if parameter.source}
    click.echo("\nSources of the bounds:")
    for source, field in reversed(sources.items()):
        click.echo(f"  {field}: {source}")
    if space.points:
        click.echo("\nTried first:")
    for point in space.published():
        click.echo(f"  {fit_command('TRAINABLE', space.at(point))}")
