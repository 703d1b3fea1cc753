"""``deeprelax trainables`` and ``deeprelax couplings``: what there is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import click

from deeprelax.cli.root import main


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
