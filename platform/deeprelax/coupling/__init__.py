"""How replicas of one network move together: one file a method."""

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
from deeprelax.coupling.methods import METHODS, coupling_type, make_coupling, register
from deeprelax.coupling.parle import Parle
from deeprelax.coupling.rsgd import Rsgd
from deeprelax.coupling.sgd import Sgd

__all__ = [
    "METHODS",
    "Coupling",
    "Diloco",
    "Eamsgd",
    "Easgd",
    "ElasticSgd",
    "EntropySgd",
    "Heat",
    "HierarchicalParle",
    "Hj",
    "LocalSgd",
    "Lookahead",
    "Lsgd",
    "Parle",
    "Rsgd",
    "Sgd",
    "coupling_type",
    "make_coupling",
    "register",
]
