"""The backends and the choice between them.

A backend is a module with NAME; `unavailable(device)`, the reasons why it cannot run there;
`reasons(entry)`, those why it cannot step that parameter; and `prepare(plan, indices)`, which
returns a function of the groups' hyperparameters that steps those entries of a plan that is ready,
or changes nothing where found_inf is not 0.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from types import ModuleType

from sphere_fused.backends import native, reference, triton
from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.plan import Plan

BACKENDS: dict[str, ModuleType] = {b.NAME: b for b in (native, triton, reference)}
log = logging.getLogger("sphere_fused")


def allowed(backend: str | None, fused: bool | None) -> tuple[str, ...]:
    """The names of the backends that these two arguments of an optimizer leave to choose from."""
    if backend is not None and backend not in BACKENDS:
        known = ", ".join(repr(name) for name in BACKENDS)
        raise ValueError(
            f"unknown backend {backend!r}: the backends are {known}, or None to choose"
        )
    names = tuple(BACKENDS) if backend is None else (backend,)
    if fused is not None:
        names = tuple(name for name in names if (name == reference.NAME) != fused)
    if not names:
        raise ValueError(
            f"fused={fused} contradicts backend={backend!r}: leave one of them at None"
        )
    return names


def select(entry: Entry) -> ModuleType:
    """The first backend that can step `entry`, or the one it asks for.

    Raises RuntimeError with every reason if that is none.
    """
    for name in entry.allowed:
        if not BACKENDS[name].reasons(entry):
            return BACKENDS[name]
    raise RuntimeError(
        f"no backend that was asked for can step {entry.name}:{refusals(entry)}\n"
        "Leave backend and fused at None to let each parameter take the first that can."
    )


def refusals(entry: Entry) -> str:
    """Why each backend that may step `entry` cannot, a line each."""
    return "".join(
        f"\n  {name}: {reason}"
        for name in entry.allowed
        for reason in BACKENDS[name].reasons(entry)
    )


def prepare(plan: Plan) -> list[Callable[[list[GroupHyper]], None]]:
    """What steps `plan`: one function per backend in use."""
    indices: dict[str, list[int]] = {}
    for i, entry in enumerate(plan.entries):
        indices.setdefault(select(entry).NAME, []).append(i)
    for name, members in indices.items():
        log.debug("%s steps %d of %d parameters", name, len(members), len(plan.entries))
    slow = [plan.entries[i] for i in indices.get(reference.NAME, [])]
    slow = [e for e in slow if e.allowed != (reference.NAME,) and not e.param.is_meta]
    if slow:
        warnings.warn(
            f"the reference steps what no compiled backend can, many times slower. "
            f"{slow[0].name}, for one, cannot be stepped by{refusals(slow[0])}\n"
            f"If this is meant, backend='reference' says so.",
            stacklevel=2,
        )
    return [BACKENDS[name].prepare(plan, members) for name, members in indices.items()]
