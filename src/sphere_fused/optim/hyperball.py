"""hyperball_: updates made elsewhere, at a share of the norm (Wen et al., arXiv 2606.16899)."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

import torch

from sphere_fused import backends, functional
from sphere_fused.entry import Entry, check_parameter
from sphere_fused.hyper import GroupHyper, at_hand
from sphere_fused.optim.arguments import channel_dims_of, in_range
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Scalar, Update, sqrt, where
from sphere_fused.segments import inside_segment


def share_of_norm(gram: Gram, s: Scalar, h: Hyper) -> Update:
    size = sqrt(gram.xx)
    return Update(s=s, a_w=1.0, a_x=where(size == 0, 0.0, -h.lr * sqrt(gram.ww) / size))


def back_to_norm(gram: Gram, y: Landing, u: Update, h: Hyper) -> Update:
    # A step that is 0, or would land on 0, leaves w.
    stays = (y.yy == 0) | (u.a_x == 0)
    scale = sqrt(gram.ww) / sqrt(y.yy)
    a_w = where(stays, 1.0, scale * u.a_w)
    return Update(s=u.s, a_w=a_w, a_x=where(stays, 0.0, scale * u.a_x))


HYPERBALL = Rule("hyperball", share_of_norm, land=back_to_norm, second_moment=None)


@torch.no_grad()
def hyperball_(
    params: Iterable[torch.Tensor],
    updates: Iterable[torch.Tensor],
    lr: float | torch.Tensor,
    *,
    channel_dims: tuple[int, ...] | None = (),
    backend: str | None = None,
) -> None:
    """Move weights along updates of another optimizer, Muon say, and back to the norms they have.

        R = |w|;  x = w - lr R u/|u|;  w = R x/|x|

    Args:
        params: weights, which are changed in place: as an optimizer takes them.
        updates: one for each, of its shape, in its dtype or float32; subtracted, as gradients are.
        lr: the length of the step in units of R.
        channel_dims: the dims that tell segments apart; `()`: norms of whole tensors.
        backend: as of an optimizer.

    A segment whose weight or update is zero is left as it is. Nothing is kept between calls, so
    that one takes the host longer than an optimizer's step, some microseconds per tensor.

    Raises:
        ValueError, TypeError, RuntimeError: for tensors that do not fit each other or cannot be
            stepped, before anything is written.

    Example:
        >>> hyperball_(weights, [orthogonalized(p.grad) for p in weights], lr=0.02)

    Wen et al., arXiv 2606.16899.
    """
    params, updates = list(params), list(updates)
    if len(params) != len(updates):
        raise ValueError(f"there are {len(params)} params and {len(updates)} updates: give as many")
    if not isinstance(lr, torch.Tensor) or lr.is_cpu:  # one on a GPU is read there
        in_range(lr, "lr")
    channel_dims = channel_dims_of({"channel_dims": channel_dims})
    entries = []
    for i, (p, update) in enumerate(zip(params, updates, strict=True)):
        name = f"parameter {i} {tuple(p.shape)}"
        check_parameter(p, name)
        if p.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "hyperball_ cannot be captured into a CUDA graph: capture an optimizer's step, as "
                "AdamH's with capturable=True"
            )
        if not isinstance(update, torch.Tensor):
            raise TypeError(f"the update of {name} must be a tensor, not {update!r}")
        if update.dtype not in (p.dtype, torch.float32):
            takes = " or ".join(sorted({str(p.dtype), "torch.float32"}))
            raise TypeError(
                f"the update of {name} is {update.dtype}; a {p.dtype} parameter takes updates in "
                f"{takes}: convert it with .to()"
            )
        if update.shape != p.shape or update.device != p.device:
            raise ValueError(
                f"the update of {name} is {tuple(update.shape)} on {update.device} where the "
                f"parameter is on {p.device}: give one like the parameter"
            )
        entries.append(entry_of(p, update, name, channel_dims, backend))
    hyper = GroupHyper(
        lr=at_hand(lr),
        beta1=0.0,
        gain1=1.0,
        beta2=0.0,
        eps=0.0,
        weight_decay=0.0,
        decoupled=False,
        corrects=False,
    )
    functional.step_once(entries, collections.defaultdict(dict), [hyper])


def entry_of(
    p: torch.Tensor,
    update: torch.Tensor,
    name: str,
    channel_dims: tuple[int, ...] | None,
    backend: str | None,
) -> Entry:
    # Another tensor of the same memory, whose gradient is nobody else's.
    stepped: Any = p.detach()
    if update.dtype != p.dtype:
        stepped.grad_dtype = update.dtype
    stepped.grad = update.detach()
    return Entry(
        name=name,
        param=stepped,
        group=0,
        rule=HYPERBALL,
        inside=inside_segment(p, channel_dims, name),
        elementwise=False,
        allowed=backends.allowed(backend, None),
        moment_key="",
        keeps_moment=False,
        counts_steps=False,
        capturable=False,
        radius=None,
        state={},
    )
