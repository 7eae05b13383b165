"""Odd tensors, and containers that are replaced behind the optimizer's back."""

from __future__ import annotations

import collections
import gc
import weakref
from typing import Any

import pytest
import torch
from stepping import make, random, run
from torch.testing._internal.two_tensor import TwoTensor

Parameter = torch.nn.Parameter


def test_a_parameter_without_memory_of_its_own_is_refused(backend: str) -> None:
    p = Parameter(TwoTensor(torch.ones(4, 4), torch.ones(4, 4)))
    with pytest.raises(TypeError, match="TwoTensor without memory of its own"):
        make("SGDMRT", [p], backend)


def test_a_gradient_without_memory_of_its_own_is_refused(backend: str) -> None:
    p = Parameter(torch.ones(4, 4))
    optimizer = make("AdamS", [p], backend)
    for first in (True, False):
        p.grad = TwoTensor(torch.ones(4, 4), torch.ones(4, 4))
        with pytest.raises(TypeError, match=r"gradient of .* TwoTensor without memory"):
            optimizer.step()
        if first:
            p.grad = torch.ones(4, 4)
            optimizer.step()
    assert optimizer.state[p]["step"] == 1


def test_overlapping_windows_are_refused(backend: str) -> None:
    with pytest.raises(RuntimeError, match="share memory"):
        make("AdamS", [torch.ones(6).as_strided((3, 2), (1, 1))], backend)


def test_the_buffer_rests_while_momentum_is_0(backend: str) -> None:
    p = random(3, 4, seed=1)
    optimizer = make("SGDMRT", [p], backend, lr=0.01, momentum=0.9)
    p.grad = random(3, 4, seed=2)
    optimizer.step()
    before = optimizer.state[p]["momentum_buffer"].clone()
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step()
    assert torch.equal(optimizer.state[p]["momentum_buffer"], before)


def test_groups_and_state_may_be_replaced(backend: str) -> None:
    p, q = (Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = make("AdamS", [{"params": [p], "lr": 0.0}, {"params": [q]}], backend)
    p.grad, q.grad = torch.ones(2, 2), torch.ones(2, 2)
    optimizer.step()
    moved = q.detach().clone()
    optimizer.param_groups.reverse()
    optimizer.step()
    assert torch.equal(p, torch.ones(2, 2))
    assert not torch.equal(q, moved)
    optimizer.state = collections.defaultdict(dict)
    optimizer.step()
    assert optimizer.state[q]["step"] == 1


def test_params_may_be_a_tuple(backend: str) -> None:
    p = Parameter(torch.ones(2, 2))
    optimizer = make("AdamS", [p], backend)
    optimizer.param_groups[0]["params"] = (p,)
    p.grad = torch.ones(2, 2)
    optimizer.step()
    optimizer.step()
    assert optimizer.state[p]["step"] == 2


@pytest.mark.parametrize("name", ["AdamS", "SGDMRT"])
def test_a_cycle_through_the_optimizer_is_collected(name: str, backend: str) -> None:
    p: Any = Parameter(torch.ones(2, 2))
    optimizer = make(name, [p], backend)
    p.optimizer = optimizer
    p.grad = torch.ones(2, 2)
    optimizer.step()
    seen = weakref.ref(optimizer)
    del p, optimizer
    gc.collect()
    assert seen() is None


def test_a_refused_step_keeps_no_gradient(backend: str) -> None:
    p, q = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    optimizer = make("AdamS", [p, q], backend)
    p.grad, q.grad = torch.ones(2, 2), torch.ones(2, 2)
    optimizer.step()
    q.grad = torch.ones(2, 2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    seen = weakref.ref(p.grad)
    p.grad = None
    assert seen() is None


def test_channel_dims_set_in_a_group_are_checked(backend: str) -> None:
    p = Parameter(torch.ones(2, 2))
    p.grad = torch.ones(2, 2)
    optimizer = make("AdamS", [p], backend)
    optimizer.param_groups[0]["channel_dims"] = 5
    with pytest.raises(TypeError, match="channel_dims must be a tuple of ints or None, not 5"):
        optimizer.step()


def test_a_negated_gradient_keeps_its_sign(backend: str) -> None:
    g = torch.view_as_complex(random(2, 3, 2, seed=1)).conj().imag
    assert g.is_neg()
    p, _ = run("AdamS", torch.ones(2, 3), [g], backend)
    q, _ = run("AdamS", torch.ones(2, 3), [g.resolve_neg().clone()], backend)
    assert torch.equal(p, q)
