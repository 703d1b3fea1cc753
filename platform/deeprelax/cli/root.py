"""The command itself, and what all its subcommands share."""

from __future__ import annotations

import json
import sys

import click

from deeprelax.errors import ConfigError, DeepRelaxError


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
      deeprelax sweep digits --space parle             find the coupling
      deeprelax plan --params 1e9 -n 8 --link 1Gbit:5ms --step 0.4s
      deeprelax couplings list                         what can be trained with
      deeprelax trainables list                        what can be trained
    """


def assigned(words: tuple[str, ...], option: str) -> dict[str, object]:
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
