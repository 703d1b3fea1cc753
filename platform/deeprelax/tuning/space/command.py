"""A suggestion as the command that trains it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

_SECTIONS = {"coupling": "--set", "trainable_config": "--config"}


def fit_command(trainable: str, fields: Mapping[str, object]) -> str:
    """Return ``deeprelax fit …`` for the fields of a run, ready for a shell.

    Args:
        trainable: as given to ``deeprelax fit``.
        fields: as a space suggests them, and other fields of :class:`~deeprelax.config.RunConfig` with plain values;
            None is left out.

    Example:
        >>> fit_command("digits", {"method": "parle", "coupling": {"gamma": "exp(100,1)"}, "epochs": 5})
        "deeprelax fit digits --coupling parle --set 'gamma=exp(100,1)' --epochs 5"
    """
    words = ["deeprelax", "fit", trainable, "--coupling", str(fields["method"])]
    for section, option in _SECTIONS.items():
        values = fields.get(section, {})
        assert isinstance(values, Mapping), section
        for name, value in values.items():
            words += [] if value is None else [option, f"{name}={_text(value)}"]
    for name, value in fields.items():
        if name == "placement":
            words += ["--local"] if value == "local" else []
        elif name not in {"method", "trainable", *_SECTIONS} and value is not None:
            words += [f"--{name.replace('_', '-')}", _text(value)]
    return shlex.join(words)


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, Mapping | list | tuple) else str(value)
