"""The fields of a run while a space fills them in."""

from __future__ import annotations

from deeprelax.coupling.methods import coupling_type
from deeprelax.errors import ConfigError
from deeprelax.schedules import Schedule, as_schedule

RUN_FIELDS = ("method", "epochs", "steps", "batch_size", "accumulate", "clip_norm", "precision")
"""Fields of a run itself that a space may set; every other name is a field of the coupling."""
TRAINABLE_PREFIX = "trainable_config."
_DIGITS = 6


class Draft:
    """Collects values under the fields they belong to.

    Attributes:
        fields: as :class:`~deeprelax.config.RunConfig` takes them.
    """

    def __init__(self) -> None:
        self.fields: dict[str, object] = {"coupling": {}}

    def put(self, field: str, value: object) -> None:
        """Set ``field``: a name of :data:`RUN_FIELDS`, ``trainable_config.NAME``, or a field of the coupling.

        Further dots lead into a field that is a mapping: ``optimizer_options.weight_decay``.
        """
        inside = field in RUN_FIELDS or field.startswith(TRAINABLE_PREFIX)
        *path, name = field.split(".") if inside else ["coupling", *field.split(".")]
        section = self.fields
        for step in path:
            inner = section.setdefault(step, {})
            assert isinstance(inner, dict), field
            section = inner
        section[name] = value

    def level(self, field: str) -> float:
        """Return the first value of a field of the coupling, set or default; what a dimensionless number refers to.

        Raises:
            ConfigError: it has no value yet, or none before the run (``auto``).
        """
        coupling = self.fields["coupling"]
        assert isinstance(coupling, dict)
        value = coupling[field] if field in coupling else self._default(field)
        values = as_schedule(value).values if isinstance(value, Schedule | int | float | str) else ()
        if not values:
            raise ConfigError(f"Missing {field}. A dimensionless number needs it: put its dimension first.")
        return values[0]

    def has(self, field: str) -> bool:
        """Return whether the method has ``field``."""
        return field in coupling_type(self._method).model_fields

    @property
    def _method(self) -> str:
        return str(self.fields.get("method"))

    def _default(self, field: str) -> object:
        known = coupling_type(self._method).model_fields
        return known[field].get_default() if field in known else None


def shorten(value: float) -> float:
    """Return ``value`` with six significant digits: what is printed as a command is exactly what is trained."""
    return float(f"{value:.{_DIGITS}g}")
