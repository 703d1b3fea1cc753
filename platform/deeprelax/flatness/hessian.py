"""Sharpness: the largest eigenvalue and the trace of the Hessian, from Hessian-vector products alone.

Shapes: P = trained parameters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deeprelax.errors import DivergedError
from deeprelax.flatness.estimate import Estimate
from deeprelax.flatness.landscape import Landscape

_SMALL = 32
_TOLERANCE = 1e-3


def top_eigenvalue(landscape: Landscape, generator: torch.Generator) -> float:
    """Return the largest (most positive) eigenvalue of D^2 f(x).

    Implicitly restarted Lanczos (ARPACK through scipy) to a relative tolerance of 1e-3, about 20 to 60 products. The
    result is a Ritz value, so it lies below the true one, by at most the tolerance where Lanczos has found the right
    eigenvector; float32 losses add noise of about 1e-6 of it. Up to 32 parameters the Hessian is written out. Memory:
    20 float64 vectors of P on the CPU.

    Args:
        landscape: f and x.
        generator: of the starting vector, on the CPU.

    Raises:
        DivergedError: a product is not finite.
    """
    point = landscape.point
    start = torch.randn(len(point), generator=generator, dtype=torch.float64)
    if len(point) <= _SMALL:
        rows = torch.stack([landscape.hessian_times(unit) for unit in torch.eye(len(point)).to(point)])
        return float(torch.linalg.eigvalsh((rows + rows.T).double() / 2)[-1])
    first = landscape.hessian_times(start.to(point))
    if not first.isfinite().all():
        raise DivergedError("The curvature of the training loss is not finite at these weights.")
    if not first.any():
        return 0.0  # ARPACK refuses a starting vector in the null space

    return _lanczos(landscape, start)


def _lanczos(landscape: Landscape, start: Tensor) -> float:
    # Imported here so that training without this measurement does not load it.
    from scipy.sparse.linalg import LinearOperator, eigsh  # type: ignore[import-untyped]

    point = landscape.point

    def times(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        product = landscape.hessian_times(torch.from_numpy(vector.ravel()).to(point))
        return np.asarray(product.double().cpu())

    operator = LinearOperator((len(point), len(point)), matvec=times, dtype=np.float64)
    return float(eigsh(operator, k=1, which="LA", v0=start.numpy(), tol=_TOLERANCE, return_eigenvectors=False)[0])


def trace(landscape: Landscape, probes: int, generator: torch.Generator) -> Estimate:
    """Return tr D^2 f(x) by Hutchinson's estimator, the mean of v' D^2 f(x) v over random signs v.

    Without bias; the variance of one probe is 2 (|H|_F^2 - sum_i H_ii^2), so a diagonal Hessian has none.

    Args:
        landscape: f and x.
        probes: number of v, >= 2.
        generator: of the signs, on the CPU.

    Reference: Hutchinson 1990.
    """
    draws = [_probe(landscape, generator) for _ in range(probes)]
    return Estimate.of_mean(torch.stack(draws))


def _probe(landscape: Landscape, generator: torch.Generator) -> Tensor:
    bits = torch.randint(2, landscape.point.shape, generator=generator)
    signs = (2 * bits - 1).to(landscape.point)
    return torch.dot(signs.double(), landscape.hessian_times(signs).double())
