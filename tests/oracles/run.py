"""All optimizers, transcribed line by line from their definitions, and runs of them.

Nothing here is fast or clever, and nothing is shared with the code under test: after every step the
new point is formed first and every inner product is then taken from the vectors themselves. In
float64 this is the oracle; in float32, with the weight rounded to its storage dtype after every
step, it is the straightforward transcription whose error the backends are measured by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import core, fixed_radius, layerwise, projected, riemannian, rotational
from .rows import REQUIRED, Construct, Hyper, Oracle, Rows, State, Step, as_it_is, rows_of

ORACLES: dict[str, Oracle] = {
    **core.ORACLES,
    **projected.ORACLES,
    **fixed_radius.ORACLES,
    **rotational.ORACLES,
    **riemannian.ORACLES,
    **layerwise.ORACLES,
}
DEFAULTS: dict[str, Hyper] = {name: oracle.defaults for name, oracle in ORACLES.items()}


class Trajectory(NamedTuple):
    """Where a run ended: the weight and the optimizer's state, in the shapes the optimizer uses."""

    w: Tensor
    state: State


class Prepared(NamedTuple):
    """What steps a tensor, in rows, with every hyperparameter given."""

    rows: Rows
    construct: Construct
    step: Step
    h: Hyper


def prepare(name: str, shape: Sequence[int], **hyper: Any) -> Prepared:
    oracle = ORACLES[name]
    unknown = set(hyper) - set(oracle.defaults)
    if unknown:
        raise TypeError(f"{name} has no hyperparameter {', '.join(sorted(unknown))}")
    h = {**oracle.defaults, **hyper}
    missing = [key for key, value in h.items() if value is REQUIRED]
    if missing:
        raise TypeError(f"{name} needs {', '.join(missing)}")
    h["lr"] = float(h["lr"])
    rows = rows_of(shape, h.get("channel_dims", oracle.channel_dims))
    if oracle.is_classic(shape, rows, h):
        return Prepared(rows, as_it_is, oracle.classic, h)
    return Prepared(rows, oracle.construct, oracle.step, h)


def trajectory(
    name: str,
    w0: Tensor,
    grads: Sequence[Tensor | None],
    *,
    dtype: torch.dtype = torch.float64,
    store: torch.dtype | None = None,
    **hyper: Any,
) -> Trajectory:
    """Run the optimizer called `name` from `w0`, one step per gradient.

    Args:
        name: the public class.
        w0: the weight before construction; any shape, strides and dtype. It is not changed.
        grads: one per step, in the shape of `w0`; None is a step that leaves the tensor out.
        dtype: of all arithmetic and of the state.
        store: the dtype that the weight is rounded to after construction and after every step.
        hyper: as the class takes them; its defaults for the rest.
    """
    rows, construct, step, h = prepare(name, tuple(w0.shape), **hyper)
    if not w0.numel():
        return Trajectory(w0.detach().to(dtype), {})

    def stored(t: Tensor) -> Tensor:
        return t if store is None else t.to(store).to(dtype)

    w = stored(construct(rows.split(w0.detach().to(dtype)), h))
    state: State = {}
    t = 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = rows.split(g.detach().to(dtype))
        w, state = step(w, -g if h["maximize"] else g, state, t, h)
        w = stored(w)
    return Trajectory(rows.join(w), {key: rows.join(value) for key, value in state.items()})
