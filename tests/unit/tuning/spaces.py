"""The spaces that come with the package, and small ones to test with."""

from __future__ import annotations

from collections.abc import Mapping

from deeprelax.tuning.space import Constant, Dimension, SearchSpace
from deeprelax_search_spaces.averaging import diloco, local_sgd, lookahead
from deeprelax_search_spaces.couplings import couplings
from deeprelax_search_spaces.elastic import easgd, elastic_sgd, lsgd
from deeprelax_search_spaces.parle import hierarchical_parle, parle
from deeprelax_search_spaces.relaxation import entropy_sgd, heat, hj
from deeprelax_search_spaces.sgd import sgd

BUILT_IN: Mapping[str, SearchSpace] = {
    function.__name__: function()
    for function in (
        sgd, local_sgd, easgd, elastic_sgd, lsgd, entropy_sgd, hj, heat, parle, hierarchical_parle, lookahead, diloco,
        couplings,
    )
}  # fmt: skip


def space(*dimensions: Dimension, method: str = "parle", **fields: object) -> SearchSpace:
    """Return a space of one method around ``dimensions``."""
    return SearchSpace(
        name="small",
        dimensions=(Constant(field="method", value=method), *dimensions),
        summary="A space to test with.",
        source="By hand.",
        **fields,  # type: ignore[arg-type]
    )
