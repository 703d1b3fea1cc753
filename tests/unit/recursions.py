"""The methods once more, written from their equations and sharing nothing with the library, on the quadratic test bed.

Each function follows all replicas at once: points of shape (R, P), gradient noise of shape (R, K, P). It returns the
weights after each step (R, K, P) and the center after each exchange (X, P).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.unit.quadratics import HESSIAN, MINIMUM, Quadratic
from torch import Tensor

OfStep = Callable[[int], float]
Turns = Callable[[int], list[int]]
Paths = tuple[Tensor, Tensor]
MakeOptimizer = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def slopes(points: Tensor, noise: Tensor) -> Tensor:
    """Return H (p - c) + noise for every row."""
    return (points - MINIMUM) @ HESSIAN + noise


def parle(
    starts: Tensor,
    noise: Tensor,
    *,
    period: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    gamma: OfStep,
    rho: OfStep,
    averaging: float,
    outer_lr: float,
    outer_momentum: float,
    couple_averages: bool = False,
) -> Paths:
    x, center = starts.clone(), starts.mean(0)
    y, z, v, outer_v = x.clone(), x.clone(), torch.zeros_like(x), torch.zeros_like(x)
    points, centers = [], []
    for k in range(noise.shape[1]):
        force = slopes(y, noise[:, k]) + weight_decay * y + (y - x) / gamma(k)
        v = momentum * v + force
        y = y - lr * (force + momentum * v)
        z = averaging * z + (1 - averaging) * y
        if (k + 1) % period == 0:
            if couple_averages:
                center = z.mean(0)
            outer = (x - z) + (x - center) / rho(k)
            outer_v = outer_momentum * outer_v + outer
            x = x - outer_lr * (outer + outer_momentum * outer_v)
            center = center if couple_averages else x.mean(0)
            y, z = x.clone(), x.clone()
            centers.append(center)
        points.append(y)
    return torch.stack(points, 1), torch.stack(centers)


def deputies(
    starts: Tensor,
    noise: Tensor,
    *,
    groups: int,
    center_every: int,
    period: int,
    lr: float,
    momentum: float,
    gamma: OfStep,
    rho: OfStep,
    averaging: float,
    outer_lr: float,
    outer_momentum: float,
) -> Paths:
    """Hierarchical Parle: groups of equally many workers, each around one deputy."""
    count = len(starts) // groups
    deputy, sheriff = starts.unflatten(0, (groups, count)).mean(1), starts.mean(0)
    around, y, z = starts.clone(), starts.clone(), starts.clone()
    v, outer_v = torch.zeros_like(y), torch.zeros_like(deputy)
    points, centers = [], []
    for k in range(noise.shape[1]):
        force = slopes(y, noise[:, k]) + (y - around) / gamma(k)
        v = momentum * v + force
        y = y - lr * (force + momentum * v)
        z = averaging * z + (1 - averaging) * y
        if (k + 1) % period == 0:
            outer = (deputy - z.unflatten(0, (groups, count)).mean(1)) + (deputy - sheriff) / rho(k)
            outer_v = outer_momentum * outer_v + outer
            deputy = deputy - outer_lr * (outer + outer_momentum * outer_v)
            if (k + 1) % (period * center_every) == 0 or k + 1 == noise.shape[1]:
                sheriff = deputy.mean(0)
            around = deputy.repeat_interleave(count, 0)
            y, z = around.clone(), around.clone()
            centers.append(sheriff)
        points.append(y)
    return torch.stack(points, 1), torch.stack(centers)


def leaders(
    starts: Tensor,
    noise: Tensor,
    *,
    groups: int,
    period: int,
    lr: float,
    momentum: float,
    rho: float,
    group_rho: float,
    chosen: list[int] | None = None,
) -> Paths:
    """Leader SGD in groups of equally many; the leaders of all that are chosen are added to ``chosen``."""
    count = len(starts) // groups
    x, v, losses = starts.clone(), torch.zeros_like(starts), torch.zeros(len(starts), dtype=starts.dtype)
    leader = starts.mean(0)
    own = leader.expand_as(starts)
    points, centers = [], []
    for k in range(noise.shape[1]):
        gap = x - MINIMUM
        losses = losses + 0.5 * ((gap @ HESSIAN) * gap).sum(1) + (noise[:, k] * x).sum(1)
        force = slopes(x, noise[:, k]) + (x - leader) / rho
        if groups > 1:
            force = force + (x - own) / group_rho
        v = momentum * v + force
        x = x - lr * (force + momentum * v)
        if (k + 1) % period == 0:
            best = int(losses.argmin())
            first = losses.unflatten(0, (groups, count)).argmin(1) + count * torch.arange(groups)
            leader, own = x[best], x[first].repeat_interleave(count, 0)
            losses = torch.zeros_like(losses)
            centers.append(leader)
            if chosen is not None:
                chosen.append(best)
        points.append(x)
    return torch.stack(points, 1), torch.stack(centers)


def easgd_by_all_reduce(
    starts: Tensor, noise: Tensor, *, period: int, lr: float, momentum: float, elasticity: float
) -> Paths:
    """Every replica has its own copy of the center and moves it by the sum of all elastic differences, at time t."""
    count = len(starts)
    x, v = starts.clone(), torch.zeros_like(starts)
    copies = starts.mean(0).expand_as(starts)
    points, centers = [], []
    for k in range(noise.shape[1]):
        g = slopes(x, noise[:, k])
        v = momentum * v + g
        step = lr * (g + momentum * v)
        if (k + 1) % period == 0:
            elastic = elasticity / count * (x - copies)
            x, copies = x - step - elastic, copies + elastic.sum(0)
            centers.append(copies[0])
        else:
            x = x - step
        points.append(x)
    return torch.stack(points, 1), torch.stack(centers)


def easgd_asynchronous(
    starts: Tensor, noise: Tensor, *, period: int, lr: float, momentum: float, elasticity: float, turns: Turns
) -> Paths:
    """At an exchange one replica after another pulls the center and is pulled; ``turns`` returns in which order."""
    count = len(starts)
    x, v, center = starts.clone(), torch.zeros_like(starts), starts.mean(0)
    points, centers = [], []
    for k in range(noise.shape[1]):
        g = slopes(x, noise[:, k])
        v = momentum * v + g
        pulled = torch.zeros_like(x)
        if (k + 1) % period == 0:
            for a in turns((k + 1) // period - 1):
                pulled[a] = elasticity / count * (x[a] - center)
                center = center + pulled[a]
                if a == 0:
                    centers.append(center)
        x = x - pulled - lr * (g + momentum * v)
        points.append(x)
    return torch.stack(points, 1), torch.stack(centers)


def elastic_sgd(starts: Tensor, noise: Tensor, *, period: int, lr: float, momentum: float, rho: OfStep) -> Paths:
    x, v, center = starts.clone(), torch.zeros_like(starts), starts.mean(0)
    points, centers = [], []
    for k in range(noise.shape[1]):
        force = slopes(x, noise[:, k]) + (x - center) / rho(k)
        v = momentum * v + force
        x = x - lr * (force + momentum * v)
        if (k + 1) % period == 0:
            center = x.mean(0)
            centers.append(center)
        points.append(x)
    return torch.stack(points, 1), torch.stack(centers)


def averaged_by(starts: Tensor, noise: Tensor, inner: MakeOptimizer, *, period: int, outer: MakeOptimizer) -> Paths:
    """DiLoCo and local SGD: torch optimizers on every replica, a torch optimizer for the center."""
    models = [Quadratic(start) for start in starts]
    inners = [inner(list(model.parameters())) for model in models]
    center = torch.nn.Parameter(starts.mean(0).clone())
    outers = outer([center])
    points, centers = [], []
    for k in range(noise.shape[1]):
        for model, optimizer, one in zip(models, inners, noise[:, k], strict=True):
            optimizer.zero_grad()
            model(one).backward()
            optimizer.step()
        if (k + 1) % period == 0:
            mean = torch.stack([flattened(model) for model in models]).mean(0)
            center.grad = center.detach() - mean
            outers.step()
            for model in models:
                place(model, center.detach())
            centers.append(center.detach().clone())
        points.append(torch.stack([flattened(model) for model in models]))
    return torch.stack(points, 1), torch.stack(centers)


def lookahead(start: Tensor, noise: Tensor, inner: MakeOptimizer, *, period: int, slow_lr: float) -> Paths:
    model, slow = Quadratic(start), start.clone()
    optimizer = inner(list(model.parameters()))
    points, centers = [], []
    for k, one in enumerate(noise):
        optimizer.zero_grad()
        model(one).backward()
        optimizer.step()
        if (k + 1) % period == 0:
            slow = slow + slow_lr * (flattened(model) - slow)
            place(model, slow)
            centers.append(slow)
        points.append(flattened(model))
    return torch.stack(points)[None], torch.stack(centers)


def hj_fixed_point(
    start: Tensor, noise: Tensor, *, period: int, lr: float, momentum: float, gamma: float, damping: float
) -> Paths:
    x, v, p = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    centers = []
    for k, one in enumerate(noise):
        p = slopes(x, one) if k % period == 0 else damping * p + (1 - damping) * slopes(x - gamma * p, one)
        if (k + 1) % period == 0:
            v = momentum * v + p
            x = x - lr * (p + momentum * v)
            centers.append(x)
    return torch.empty(0), torch.stack(centers)


def flattened(model: Quadratic) -> Tensor:
    """Return the parameters as one vector, shape (P,)."""
    return torch.cat([model.matrix.detach().flatten(), model.bias.detach()]).clone()


def place(model: Quadratic, point: Tensor) -> None:
    """Set the parameters, in place."""
    with torch.no_grad():
        model.matrix.copy_(point[:6].reshape(2, 3))
        model.bias.copy_(point[6:])
