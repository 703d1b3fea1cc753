"""The method itself as a choice."""

from __future__ import annotations

from deeprelax.tuning.space import SearchSpace, union
from deeprelax_search_spaces.averaging import diloco, local_sgd, lookahead
from deeprelax_search_spaces.elastic import easgd, elastic_sgd, lsgd
from deeprelax_search_spaces.parle import hierarchical_parle, parle
from deeprelax_search_spaces.relaxation import entropy_sgd, heat, hj
from deeprelax_search_spaces.sgd import sgd


def couplings() -> SearchSpace:
    """Return the space that first chooses the family, then searches its own space."""
    families = (
        sgd, local_sgd, easgd, elastic_sgd, lsgd, entropy_sgd, hj, heat, parle, hierarchical_parle, lookahead, diloco,
    )  # fmt: skip
    return union(
        "couplings",
        [family() for family in families],
        summary="All families: which coupling, and then its own space.",
        source="The union of the other spaces, each with its own source.",
    )
