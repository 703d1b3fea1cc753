"""Spectral radii of the linear recursions that the methods become on a quadratic loss.

Each function builds the iteration matrix from the update equations, with no algebra done by hand, and returns the
largest modulus of its eigenvalues: below 1 the method is stable, above it diverges. The closed-form bounds that the
search spaces use are held against these.

Shapes: every argument is a tensor of the same shape (...); so is the result.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _radius(matrix: Tensor) -> Tensor:
    radius: Tensor = torch.linalg.eigvals(matrix).abs().amax(-1)
    return radius


def _symmetric_radius(matrix: Tensor) -> Tensor:
    # The general solver can fail to converge on the repeated eigenvalues that equal replicas have; this one cannot.
    radius: Tensor = torch.linalg.eigvalsh(matrix).abs().amax(-1)
    return radius


def spectral_radius_nesterov(lr_curvature: Tensor, momentum: Tensor) -> Tensor:
    """Return the radius of Nesterov descent in the torch convention.

    ``v' = m v + h y;  y' = y - lr (h y + m v')``, in the state (y, lr v).

    Args:
        lr_curvature: lr h.
        momentum: m.
    """
    h, m = torch.broadcast_tensors(lr_curvature, momentum)
    return _radius(_matrix([[1 - h - m * h, -m * m], [h, m]]))


def spectral_radius_easgd(lr_curvature: Tensor, elasticity: Tensor, replicas: int) -> Tensor:
    """Return the radius of synchronous EASGD with ``replicas`` replicas and the center.

    ``x^a' = x^a - lr h x^a - alpha (x^a - c);  c' = (1 - n alpha) c + alpha sum_a x^a``, all from the old values.

    Args:
        lr_curvature: lr h.
        elasticity: alpha.
        replicas: n >= 1.
    """
    h, alpha = torch.broadcast_tensors(lr_curvature, elasticity)
    zero = torch.zeros_like(h)
    rows = [
        [1 - h - alpha if column == row else zero for column in range(replicas)] + [alpha] for row in range(replicas)
    ]
    return _symmetric_radius(_matrix([*rows, [alpha] * replicas + [1 - replicas * alpha]]))


def spectral_radius_damped(gamma_curvature: Tensor, averaging: Tensor) -> Tensor:
    """Return the radius of the damped fixed point of the HJ method: ``p' = alpha p + (1 - alpha) h (x - gamma p)``.

    Args:
        gamma_curvature: gamma h.
        averaging: alpha in [0, 1), the weight of the old value.
    """
    return _radius(_matrix([[averaging - (1 - averaging) * gamma_curvature]]))


def spectral_radius_inner(hessian: Tensor, gamma: Tensor, inner_lr: Tensor) -> Tensor:
    """Return the radius of the noiseless inner chain ``y' = y - lr (H y + y / gamma)``.

    Args:
        hessian: H, symmetric, shape (..., d, d).
        gamma: smoothing time, shape (...).
        inner_lr: lr, shape (...).
    """
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
    spring = identity / gamma[..., None, None]
    return _symmetric_radius(identity - inner_lr[..., None, None] * (hessian + spring))
