"""Errors cross process borders whole, and say what, why and how to fix it."""

from __future__ import annotations

import inspect
import pickle

import pytest

from deeprelax import errors
from deeprelax.errors import ConfigError, DeepRelaxError, nearest

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, BaseException) and value.__module__ == errors.__name__
]
MESSAGE = "Invalid gamma=-1.0. Must be > 0; use gamma=0.1.\n  second line with ‘γ’"


def test_every_class_was_found() -> None:
    assert {DeepRelaxError, ConfigError} < set(CLASSES)
    assert len(CLASSES) >= 8


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_survives_a_pickle_round_trip(error: type[DeepRelaxError]) -> None:
    returned = pickle.loads(pickle.dumps(error(MESSAGE)))
    assert type(returned) is error
    assert str(returned) == MESSAGE
    assert returned.args == (MESSAGE,)


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_says_when_it_is_raised_and_has_the_common_root(error: type[DeepRelaxError]) -> None:
    assert issubclass(error, DeepRelaxError)
    assert (error.__doc__ or "").strip().endswith(".")


def test_wrong_values_are_value_errors_too() -> None:
    assert [error.__name__ for error in CLASSES if issubclass(error, ValueError)] == ["ConfigError", "UnstableError"]


def test_an_error_raised_from_another_keeps_its_message_across_the_border() -> None:
    with pytest.raises(errors.ExchangeError) as caught:
        raise errors.ExchangeError(MESSAGE) from KeyError("cause")
    assert str(pickle.loads(pickle.dumps(caught.value))) == MESSAGE


@pytest.mark.parametrize(
    ("name", "hint"),
    [("gama", " Did you mean 'gamma'?"), ("gamma", " Did you mean 'gamma'?"), ("zzzz", "")],
)
def test_the_nearest_known_name_is_offered_only_when_it_is_near(name: str, hint: str) -> None:
    assert nearest(name, ["rho", "gamma", "lr"]) == hint
