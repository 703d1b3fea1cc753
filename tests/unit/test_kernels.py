"""The fused local step against the textbook lines, in every combination and at every block boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from deeprelax.coupling import kernels
from deeprelax.coupling.kernels import Sgd, nesterov_, sgd_step_, textbook_step_

BLOCK = 8
DTYPES = [torch.float32, torch.float64]
MOMENTA = [(0.0, True), (0.9, False), (0.9, True)]
Vectors = dict[str, Tensor | None]


def vectors(size: int, dtype: torch.dtype, *, sgd: Sgd, anchor: bool, average: bool) -> Vectors:
    generator = torch.Generator().manual_seed(size)
    y, g, v, x, z = (torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(5))
    return {"y": y, "g": g, "v": v if sgd.momentum else None, "x": x if anchor else None, "z": z if average else None}


def copied(given: Vectors) -> Vectors:
    return {name: None if tensor is None else tensor.clone() for name, tensor in given.items()}


def fused(given: Vectors, sgd: Sgd) -> Vectors:
    result = copied(given)
    y, g = result["y"], result["g"]
    assert y is not None
    assert g is not None
    sgd_step_(y, g, sgd, v=result["v"], x=result["x"], z=result["z"])
    return result


def literal(given: Vectors, sgd: Sgd) -> Vectors:
    """Return the textbook step made in float64."""
    result = {name: None if tensor is None else tensor.double().clone() for name, tensor in given.items()}
    y, g = result["y"], result["g"]
    assert y is not None
    assert g is not None
    lr, momentum, weight_decay, stiffness, averaging = (
        torch.tensor(number, dtype=torch.float64)
        for number in (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.stiffness, sgd.averaging)
    )
    vxz = (result["v"], result["x"], result["z"])
    textbook_step_(y, g, *vxz, lr, momentum, weight_decay, stiffness, averaging, sgd.nesterov)
    return result


def assert_same(result: Vectors, expected: Vectors, dtype: torch.dtype) -> None:
    tolerance = 1e-14 if dtype == torch.float64 else 2e-6
    for name, tensor in result.items():
        wanted = expected[name]
        if tensor is None or wanted is None:
            assert tensor is wanted
            continue
        torch.testing.assert_close(tensor.double(), wanted, rtol=tolerance, atol=tolerance, msg=f"{name} differs")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(("anchor", "stiffness"), [(False, 0.0), (True, 0.0), (True, 2.0)])
@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_blocked_step_is_the_textbook_step(
    monkeypatch: pytest.MonkeyPatch,
    momentum: float,
    nesterov: bool,
    anchor: bool,
    stiffness: float,
    average: bool,
    weight_decay: float,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(kernels, "_BLOCK_ELEMENTS", BLOCK)
    sgd = Sgd(
        lr=0.1,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        stiffness=stiffness,
        averaging=0.75 if average else 0.0,
    )
    for size in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3):
        given = vectors(size, dtype, sgd=sgd, anchor=anchor, average=average)
        result = fused(given, sgd)
        assert_same(result, literal(given, sgd), dtype)
        for untouched in ("g", "x"):
            before, after = given[untouched], result[untouched]
            assert (before is None and after is None) or torch.equal(before, after)  # type: ignore[arg-type]


@pytest.mark.parametrize("averaging", [0.0, 0.25, 0.75, 0.99])
def test_average_keeps_the_old_with_weight_alpha(averaging: float) -> None:
    sgd = Sgd(lr=0.1, averaging=averaging)
    given = vectors(5, torch.float64, sgd=sgd, anchor=False, average=True)
    result = fused(given, sgd)
    assert given["z"] is not None
    assert result["y"] is not None
    torch.testing.assert_close(result["z"], averaging * given["z"] + (1 - averaging) * result["y"])


@pytest.mark.parametrize("sgd", [Sgd(lr=0.1), Sgd(lr=0.1, momentum=0.9, nesterov=False), Sgd(lr=0.1, momentum=0.9)])
def test_step_is_that_of_torch_sgd(sgd: Sgd) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(33, generator=generator, dtype=torch.float64))
    y, v = parameter.detach().clone(), torch.zeros(33, dtype=torch.float64)
    nesterov = sgd.nesterov and sgd.momentum > 0
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=sgd.momentum, nesterov=nesterov, weight_decay=0.0)
    for _ in range(4):
        parameter.grad = torch.randn(33, generator=generator, dtype=torch.float64)
        sgd_step_(y, parameter.grad, sgd, v=v if sgd.momentum else None, x=None, z=None)
        optimizer.step()
        torch.testing.assert_close(y, parameter.detach(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_outer_step_is_that_of_torch_sgd(momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(7, generator=generator, dtype=torch.float64))
    x, velocity = parameter.detach().clone(), torch.zeros(7, dtype=torch.float64) if momentum else None
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=momentum, nesterov=momentum > 0)
    for _ in range(4):
        parameter.grad = torch.randn(7, generator=generator, dtype=torch.float64)
        optimizer.step()
        nesterov_(x, parameter.grad.clone(), velocity, 0.7, momentum)
        torch.testing.assert_close(x, parameter.detach(), rtol=1e-14, atol=1e-14)


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch, needs: Callable[[str, str], None]) -> Iterator[None]:
    """Send every length through the compiler."""
    needs("g++", "g++")
    kernels._compiles.cache_clear()
    kernels._compiled.cache_clear()
    monkeypatch.setattr(kernels, "COMPILE_FROM_ELEMENTS", 1)
    assert kernels._compiles("cpu"), "a compiler is installed, but torch.compile does not work with it"
    yield
    kernels._compiled.cache_clear()


# What torch's own compiler warns of while it loads is not ours to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("compiling")
def test_compiled_step_is_the_textbook_step_at_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_blocked_step", None)
    sgd = Sgd(lr=0.1, momentum=0.9, weight_decay=0.01, stiffness=2.0, averaging=0.75)
    # More lengths than torch compiles one function for (8): compiled one by one, the ninth would fail.
    for size in range(100, 110):
        given = vectors(size, torch.float32, sgd=sgd, anchor=True, average=True)
        result = fused(given, sgd)
        assert_same(result, literal(given, sgd), torch.float32)
        assert torch.equal(given["g"], result["g"])  # type: ignore[arg-type]
    for bare in (Sgd(lr=0.1), Sgd(lr=0.1, momentum=0.9, nesterov=False)):
        given = vectors(100, torch.float64, sgd=bare, anchor=False, average=False)
        assert_same(fused(given, bare), literal(given, bare), torch.float64)


def test_machine_without_compiler_takes_the_blocks_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    kernels._compiles.cache_clear()
    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(kernels, "COMPILE_FROM_ELEMENTS", 1)
    sgd = Sgd(lr=0.1, momentum=0.9)
    given = vectors(9, torch.float64, sgd=sgd, anchor=False, average=False)
    with caplog.at_level("WARNING"):
        assert_same(fused(given, sgd), literal(given, sgd), torch.float64)
        fused(given, sgd)
    kernels._compiles.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"], "once, not at every step"
    assert "torch.compile" in caplog.text
