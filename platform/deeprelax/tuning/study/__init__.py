"""The durable record of a sweep in a database, shared by any number of drivers on any number of clusters."""

from deeprelax.tuning.study.database import Listed
from deeprelax.tuning.study.grid import grid
from deeprelax.tuning.study.listing import list_studies
from deeprelax.tuning.study.outbox import together
from deeprelax.tuning.study.study import Study
from deeprelax.tuning.study.terms import Terms
from deeprelax.tuning.study.trial import Trial

__all__ = ["Listed", "Study", "Terms", "Trial", "grid", "list_studies", "together"]
