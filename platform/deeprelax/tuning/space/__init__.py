"""Search spaces: what a sweep varies, and what its values mean for a run."""

from deeprelax.tuning.space.branch import Branch
from deeprelax.tuning.space.command import fit_command
from deeprelax.tuning.space.dimension import Choice, Constant, Dimension, Float, Int
from deeprelax.tuning.space.draft import Draft
from deeprelax.tuning.space.find import find_space, space_names
from deeprelax.tuning.space.measure import MEASURES, Measure
from deeprelax.tuning.space.parameter import Condition, Parameter, Range
from deeprelax.tuning.space.random_suggester import RandomSuggester
from deeprelax.tuning.space.schedule import ScheduleDimension
from deeprelax.tuning.space.search_space import SearchSpace, union
from deeprelax.tuning.space.suggester import PointSuggester, Scalar, Suggester

__all__ = [
    "MEASURES",
    "Branch",
    "Choice",
    "Condition",
    "Constant",
    "Dimension",
    "Draft",
    "Float",
    "Int",
    "Measure",
    "Parameter",
    "PointSuggester",
    "RandomSuggester",
    "Range",
    "Scalar",
    "ScheduleDimension",
    "SearchSpace",
    "Suggester",
    "find_space",
    "fit_command",
    "space_names",
    "union",
]
