"""Whether the vectors of a checkpoint are those of a replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from deeprelax.coupling.base import OVERLAPPED, Coupling
from deeprelax.coupling.weights import Weights
from deeprelax.errors import CheckpointError
from deeprelax.replica.line import UNSAID


def refuse_others(
    vectors: Mapping[str, Tensor], weights: Sequence[Weights], coupling: Coupling, *, coded: bool
) -> None:
    """Raise unless the vectors are this method's, on this model.

    Args:
        vectors: of the checkpoint, by name.
        weights: of the replica.
        coupling: its method.
        coded: it sends differences, and so keeps what it has not said.

    Raises:
        CheckpointError: names a vector that is missing, unknown or of another shape.
    """
    names = ("fast", *coupling.vectors, *((UNSAID,) if coded else ()))
    known = {f"{name}.{i}": w.fast.shape for i, w in enumerate(weights) for name in names}
    optional = {f"{name}.{i}": w.fast.shape for i, w in enumerate(weights) for name in ("velocity", OVERLAPPED)}
    for name in sorted(known.keys() | vectors.keys()):
        found, wanted = (None if name not in vectors else vectors[name].shape), (known | optional).get(name)
        if found != wanted:
            raise CheckpointError(
                f"The checkpoint's vector {name!r} has shape {found and tuple(found)}. Must be "
                f"{wanted and tuple(wanted)} for {coupling.method()} on this model; resume with the config of the run "
                "that wrote it."
            )
