"""Wrong couplings: every mistake is named at once, with its value, the requirement and the nearest right name."""

from __future__ import annotations

import pickle

import pytest

from deeprelax.coupling import METHODS, coupling_type, make_coupling
from deeprelax.errors import ConfigError

SINGLE = [name for name, method in METHODS.items() if method.single_replica]


@pytest.mark.parametrize(
    ("name", "fields", "fragments"),
    [
        ("parl", {}, ["Unknown coupling 'parl'", "Did you mean 'parle'?", "entropy_sgd", "diloco"]),
        ("entropysgd", {}, ["'entropysgd'", "Did you mean 'entropy_sgd'?"]),
        ("parle", {"gama": 1}, ["Unknown field 'gama'", "parle", "Did you mean 'gamma'?", "rho"]),
        ("parle", {"inner_lr": 1}, ["Unknown field 'inner_lr'"]),
        ("sgd", {"gamma": 1}, ["Unknown field 'gamma'", "sgd"]),
        ("lookahead", {"slow_learning_rate": 1}, ["Did you mean 'slow_lr'?"]),
        ("parle", {"gamma": -1.0}, ["Invalid gamma=-1.0", "Must be > 0"]),
        ("parle", {"gamma": 0}, ["Invalid gamma=0", "Must be > 0"]),
        ("parle", {"rho": "lin(1,0)"}, ["Invalid rho='lin(1,0)'", "Must be > 0 all along"]),
        ("parle", {"gamma": "exp(0,1)"}, ["'exp(0,1)'", "start=0.0", "lin(...)"]),
        ("parle", {"gamma": "exp(100"}, ["Invalid gamma='exp(100'", "exp(100,1)"]),
        ("parle", {"gamma": "expo(100,1)"}, ["Did you mean 'exp'?"]),
        ("parle", {"gamma": None}, ["Invalid gamma=None", "a number or a schedule"]),
        ("parle", {"gamma": "auto(10)"}, ["Invalid gamma='auto(10)'", "Must not be auto", "rho"]),
        ("parle", {"lr": "auto(10)"}, ["Invalid lr=", "Must not be auto"]),
        ("parle", {"period": "auto(10)"}, ["Invalid period=", "Must not be auto"]),
        ("parle", {"lr": True}, ["Invalid lr=True", "a number or a schedule"]),
        ("parle", {"lr": -0.1}, ["Invalid lr=-0.1", ">= 0 and finite"]),
        ("parle", {"lr": "inf"}, ["Invalid lr='inf'", ">= 0 and finite"]),
        ("parle", {"lr": "nan"}, ["Invalid lr='nan'", "a number"]),
        ("parle", {"period": 0.5}, ["Invalid period=0.5", ">= 1"]),
        ("parle", {"period": "lin(5,0)"}, ["Invalid period='lin(5,0)'", ">= 1"]),
        ("parle", {"replicas": 0}, ["Invalid replicas=0", "1"]),
        ("parle", {"replicas": 2.5}, ["Invalid replicas=2.5", "integer"]),
        ("parle", {"momentum": 1.0}, ["Invalid momentum=1.0", "less than 1"]),
        ("parle", {"outer_momentum": -0.1}, ["Invalid outer_momentum=-0.1", "0"]),
        ("parle", {"averaging": 1.0}, ["Invalid averaging=1.0", "less than 1"]),
        ("parle", {"weight_decay": -1}, ["Invalid weight_decay=-1", "0"]),
        ("parle", {"weight_decay": float("nan")}, ["Invalid weight_decay=nan"]),
        ("parle", {"spring": "soft"}, ["Invalid spring='soft'", "'coupled' or 'decoupled'"]),
        ("parle", {"momentum_policy": "drop"}, ["Invalid momentum_policy='drop'", "'keep' or 'reset'"]),
        ("parle", {"start": "other"}, ["Invalid start='other'", "'independent'"]),
        ("parle", {"batchnorm": "off"}, ["Invalid batchnorm='off'", "'recalibrate'"]),
        ("parle", {"data": "half"}, ["Invalid data='half'", "'overlap'"]),
        ("parle", {"data_fraction": 0}, ["Invalid data_fraction=0", "greater than 0"]),
        ("parle", {"data_fraction": 1.5}, ["Invalid data_fraction=1.5", "1"]),
        ("parle", {"consensus": "fast"}, ["Invalid consensus='fast'", "'slow' or 'averaged'"]),
        ("parle", {"optimizer": "adamx"}, ["Invalid optimizer='adamx'", "Did you mean 'adam", "rmsprop"]),
        ("parle", {"optimizer": "adamw", "optimizer_options": {"beta": 0.9}}, ["optimizer_options", "beta", "adamw"]),
        ("parle", {"optimizer": "adamw", "optimizer_options": {"eps": -1.0}}, ["optimizer_options", "-1.0"]),
        ("sgd", {"period": 5}, ["Invalid period=5", "Must be 1", "local_sgd"]),
        ("easgd", {"elasticity": 0}, ["Invalid elasticity=0", "greater than 0"]),
        ("diloco", {"outer_lr": 0}, ["Invalid outer_lr=0", "> 0"]),
        ("lookahead", {"slow_lr": 1.5}, ["Invalid slow_lr=1.5", "1"]),
        ("hj", {"variant": "newton"}, ["Invalid variant='newton'", "'fixed_point'"]),
        ("hj", {"damping": 1.0}, ["Invalid damping=1.0", "less than 1"]),
        ("rsgd", {"rho": "auto(0)"}, ["Invalid rho='auto(0)'", "growth=0.0"]),
    ],
)
def test_wrong_coupling_is_refused_with_value_requirement_and_nearest_name(
    name: str, fields: dict[str, object], fragments: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_coupling(name, fields)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("name", SINGLE)
def test_single_methods_take_one_replica_and_name_their_coupled_form(name: str) -> None:
    assert make_coupling(name, {}).replicas == 1
    with pytest.raises(ConfigError, match="Invalid replicas=3") as caught:
        make_coupling(name, {"replicas": 3})
    assert "parle" in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    fields = {"gama": 1, "replicas": 0, "rho": "auto(-1)", "lr": -1, "optimizer": "adamx", "momentum": 2}
    with pytest.raises(ConfigError) as caught:
        make_coupling("parle", fields)
    for fragment in ("'gama'", "replicas=0", "rho='auto(-1)'", "lr=-1", "optimizer='adamx'", "momentum=2"):
        assert fragment in str(caught.value)


def test_too_many_replicas_and_another_mistake_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_coupling("lookahead", {"replicas": 3, "slow_lr": 7})
    assert "replicas=3" in str(caught.value)
    assert "slow_lr=7" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("parle", {"gamma": "inf", "rho": "inf"}),
        ("parle", {"lr": 0, "outer_momentum": 0, "averaging": 0}),
        ("parle", {"rho": "auto(1e4)", "period": 1, "replicas": 1}),
        ("sgd", {"period": "1"}),
        ("heat", {"beta": "inf"}),
        ("lookahead", {"slow_lr": 1}),
        ("parle", {"optimizer": "adamw", "optimizer_options": {"betas": [0.9, 0.95], "eps": 1e-6}}),
    ],
)
def test_extreme_but_possible_values_are_accepted(name: str, fields: dict[str, object]) -> None:
    coupling = make_coupling(name, fields)
    assert type(coupling) is coupling_type(name)


def test_changed_copy_is_validated_again_and_the_original_is_frozen() -> None:
    coupling = make_coupling("parle", {"lr": 0.1})
    assert coupling.with_fields(period=7).period.start == 7
    with pytest.raises(ConfigError, match="Invalid period=0"):
        coupling.with_fields(period=0)
    with pytest.raises(ValueError, match="frozen"):
        coupling.replicas = 5  # type: ignore[misc]


def test_error_survives_a_pickle_round_trip() -> None:
    with pytest.raises(ConfigError) as caught:
        make_coupling("parle", {"gama": 1})
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is ConfigError
    assert str(again) == str(caught.value)
