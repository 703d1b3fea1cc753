"""The registry of methods: a name on the command line is the name of the file that holds the method."""

from __future__ import annotations

from collections.abc import Mapping

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.diloco import Diloco
from deeprelax.coupling.eamsgd import Eamsgd
from deeprelax.coupling.easgd import Easgd
from deeprelax.coupling.elastic_sgd import ElasticSgd
from deeprelax.coupling.entropy_sgd import EntropySgd
from deeprelax.coupling.heat import Heat
from deeprelax.coupling.hierarchical_parle import HierarchicalParle
from deeprelax.coupling.hj import Hj
from deeprelax.coupling.local_sgd import LocalSgd
from deeprelax.coupling.lookahead import Lookahead
from deeprelax.coupling.lsgd import Lsgd
from deeprelax.coupling.parle import Parle
from deeprelax.coupling.rsgd import Rsgd
from deeprelax.coupling.sgd import Sgd
from deeprelax.errors import ConfigError, nearest

METHODS: dict[str, type[Coupling]] = {
    method.method(): method
    for method in (
        Sgd, LocalSgd, Easgd, Eamsgd, ElasticSgd, Rsgd, EntropySgd, Hj, Heat, Parle, HierarchicalParle,
        Lsgd, Lookahead, Diloco,
    )
}  # fmt: skip


def coupling_type(name: str) -> type[Coupling]:
    """Return the config class of the method ``name``.

    Raises:
        ConfigError: no such method; the message names the nearest and lists all.
    """
    if name not in METHODS:
        raise ConfigError(f"Unknown coupling {name!r}.{nearest(name, METHODS)} Couplings: {', '.join(METHODS)}.")
    return METHODS[name]


def make_coupling(name: str, fields: Mapping[str, object]) -> Coupling:
    """Return the validated config of the method ``name``.

    Raises:
        ConfigError: the method or one of its fields is unknown or impossible; one line for each.
    """
    return coupling_type(name)(**fields)


def register(method: type[Coupling]) -> type[Coupling]:
    """Add a user's own method under the name of its module; usable as a class decorator."""
    METHODS[method.method()] = method
    return method
