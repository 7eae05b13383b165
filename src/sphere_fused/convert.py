"""Checkpoints of other optimizers, as checkpoints of this package."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch

from sphere_fused.entry import Entry
from sphere_fused.optim.adamg import AdamG
from sphere_fused.optim.adams import AdamS
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.loading import LOCAL_OPTIONS
from sphere_fused.optim.sgdmrt import SGDMRT
from sphere_fused.segments import inside_segment

# How far apart the numbers of a filter may be that the paper's code keeps equal but for rounding.
CONSTANT = 1e-3
# What groups elsewhere have and ours do not.
FOREIGN_OPTIONS = ("amsgrad", "differentiable", "channel_wise", "rt", "name")


class Saved(NamedTuple):
    """What a checkpoint holds of one parameter."""

    state: dict[str, Any]
    group: dict[str, Any]


Group: TypeAlias = dict[str, Any]
OfGroup: TypeAlias = Callable[[Group], Group]
OfState: TypeAlias = Callable[[Entry, Saved], dict[str, Any]]


def from_adam(state_dict: dict[str, Any], optimizer: SphereOptimizer) -> dict[str, Any]:
    """The checkpoint of a torch.optim.Adam or AdamW, to go on from with AdamS, AdamST or AdamSRT.

        S = the sum of exp_avg_sq over the segment

    because S averages the squared norm of the gradient. `exp_avg` and `step` are taken over, as is
    `exp_avg_sq` where segments have one element. So are lr, betas, eps, weight_decay (decoupled if
    it was AdamW's), maximize and what schedulers keep in groups; everything else stays as
    `optimizer` has it, channel_dims above all. lr means the same to both, the size of a step per
    weight. eps does not: here it is added to the norm of a whole segment, `sqrt(D)` times what
    Adam adds it to, and AdamSRT also adds it to squared norms of weights. An eps much above 1e-8
    is better set anew.

    Parameters are matched by name if both optimizers were made from named parameters, else by
    their order over all groups, which may be other ones here: then two weights of one shape that
    changed places go unnoticed.

    Args:
        state_dict: of Adam or AdamW. Checkpoints of torch before 2.7 do not say which: then
            decoupled_weight_decay stays as `optimizer` has it.
        optimizer: an AdamS, AdamST or AdamSRT; it is not changed.

    Returns:
        What `optimizer.load_state_dict` takes; no tensor is shared with `state_dict`.

    Raises:
        TypeError: if `optimizer` is another one.
        ValueError: if `state_dict` is of another optimizer or other parameters.
        RuntimeError: if the state of a parameter has another shape.

    Warns if Adam was run with amsgrad, which no optimizer here has: its maximum is left out.

    Example:
        >>> opt = sphere_fused.AdamSRT(model.parameters())
        >>> opt.load_state_dict(sphere_fused.from_adam(torch.load("adam.pt"), opt))
    """
    if not isinstance(optimizer, AdamS) or isinstance(optimizer, AdamG):
        raise TypeError(
            f"from_adam starts AdamS, AdamST or AdamSRT, not {type(optimizer).__name__}"
            f"{WHY_NOT_ADAMG if isinstance(optimizer, AdamG) else ''}"
        )
    for group in groups_of(state_dict):
        if "channel_dims" in group:
            raise ValueError(
                "this checkpoint is not of torch.optim.Adam, because its groups have channel_dims: "
                "give one of this package to load_state_dict as it is, and one of the paper's code "
                "to from_paper"
            )
        if "amsgrad" not in group or "betas" not in group:
            raise ValueError(
                f"this checkpoint is not of torch.optim.Adam or AdamW, whose groups have betas and "
                f"amsgrad: this one's have {sorted(group)}"
            )
    if any(group["amsgrad"] for group in groups_of(state_dict)):
        warnings.warn(
            "the checkpoint is of Adam with amsgrad=True, which no optimizer here has: "
            "max_exp_avg_sq is left out, so that steps may become longer",
            stacklevel=2,
        )

    def of_state(entry: Entry, saved: Saved) -> dict[str, Any]:
        state = fitting(entry, saved, "step", "exp_avg", "exp_avg_sq")
        if entry.inside and entry.rule.second_moment == "segment":
            total = state["exp_avg_sq"].sum(entry.inside, keepdim=True, dtype=torch.float64)
            state["exp_avg_sq"] = total.to(entry.state_dtype)
        return state

    return converted(state_dict, optimizer, lambda group: {}, of_state)


def from_paper(state_dict: dict[str, Any], optimizer: SphereOptimizer) -> dict[str, Any]:
    """The checkpoint of an AdamS, AdamSRT or SGDMRT of the code released with the paper.

    That code keeps S in an `exp_avg_sq` as large as the parameter and constant along each segment,
    and its channel_dims and the parameter's shape beside it. All hyperparameters are taken over,
    channel_dims too; how steps are taken (backend, ...) stays as `optimizer` has it. Which of AdamS
    and AdamSRT goes on is what `optimizer` is. Parameters are matched as by `from_adam`.

    Args:
        state_dict: of an optimizer of that code.
        optimizer: an AdamS, AdamST, AdamSRT or SGDMRT; it is not changed.

    Returns:
        What `optimizer.load_state_dict` takes; no tensor is shared with `state_dict`.

    Raises:
        TypeError: if `optimizer` is another one.
        ValueError: if `state_dict` is of another optimizer or other parameters, or its channel_dims
            contradict each other.
        RuntimeError: if the state of a parameter has another shape or `exp_avg_sq` is not constant
            along its segments.

    Roburin et al., arXiv 2006.13382.
    """
    if not isinstance(optimizer, (AdamS, SGDMRT)) or isinstance(optimizer, AdamG):
        raise TypeError(
            f"from_paper continues AdamS, AdamST, AdamSRT or SGDMRT, not "
            f"{type(optimizer).__name__}{WHY_NOT_ADAMG if isinstance(optimizer, AdamG) else ''}"
        )

    if any("backend" in group for group in groups_of(state_dict)):
        raise ValueError("this checkpoint is of this package: give it to load_state_dict as it is")

    def of_group(group: Group) -> Group:
        dims = group.get("channel_dims")
        if dims is None and group.get("channel_wise"):
            dims = (0,)
        return {
            "channel_dims": None if dims is None else tuple(dims),
            "decoupled_weight_decay": False,
            "maximize": False,
        }

    def of_state(entry: Entry, saved: Saved) -> dict[str, Any]:
        keys = ("step", "exp_avg", "exp_avg_sq") if entry.counts_steps else (entry.moment_key,)
        if "channel_dims" not in saved.state or "shape" not in saved.state:
            raise ValueError(
                f"the state of {entry.name} in the checkpoint has no channel_dims and shape, as "
                f"the paper's code keeps them: give a checkpoint of Adam to from_adam, and one of "
                f"this package to load_state_dict as it is"
            )
        check_shape(entry, "parameter", saved.state["shape"])
        state = fitting(entry, saved, *keys)
        dims = of_group(saved.group)["channel_dims"]
        inside = inside_segment(entry.param, dims, entry.name)
        if inside != inside_segment(entry.param, saved.state["channel_dims"], entry.name):
            raise ValueError(
                f"the checkpoint was made with channel_dims={dims} in the group of {entry.name} "
                f"and {saved.state['channel_dims']} in its state: change the one in the group"
            )
        if inside and entry.counts_steps:
            state["exp_avg_sq"] = the_constant(state["exp_avg_sq"], inside, entry.name)
        return state

    return converted(state_dict, optimizer, of_group, of_state)


WHY_NOT_ADAMG = ", whose moments are those of gradients at unit vectors: start it afresh"


def the_constant(values: torch.Tensor, inside: tuple[int, ...], name: str) -> torch.Tensor:
    """One number per segment, of a tensor that repeats it within segments."""
    largest = values.amax(inside, keepdim=True)
    near = torch.isclose(values, largest, rtol=CONSTANT, atol=0.0, equal_nan=True)
    odd = ~near.all(inside, keepdim=True)
    if bool(odd.any()):
        raise RuntimeError(
            f"the state 'exp_avg_sq' of {name} in the checkpoint is not constant along its "
            f"segments, in {int(odd.sum())} of {odd.numel()}: it is not the paper's second moment. "
            f"Give a checkpoint of Adam to from_adam."
        )
    return largest


def groups_of(state_dict: dict[str, Any]) -> list[Group]:
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        is_dict = isinstance(state_dict, dict)
        raise ValueError(
            f"an optimizer's state_dict has 'state' and 'param_groups', and what was given "
            f"{f'has {list(state_dict)}' if is_dict else f'is of {type(state_dict)}'}: give the "
            f"part of the file that is the optimizer's, or what its state_dict() returns"
        )
    groups: list[Group] = state_dict["param_groups"]
    return groups


def check_shape(entry: Entry, what: str, shape: Any) -> None:
    if tuple(shape) != tuple(entry.param.shape):
        raise RuntimeError(
            f"the {what} of {entry.name} has shape {tuple(shape)} in the checkpoint where "
            f"{tuple(entry.param.shape)} is needed: it comes from another model or another order "
            f"of parameters"
        )


def fitting(entry: Entry, saved: Saved, *keys: str) -> dict[str, Any]:
    """Those keys of a saved state, in the precision that states have here."""
    missing = [key for key in keys if key not in saved.state]
    if missing:
        raise ValueError(
            f"the state of {entry.name} in the checkpoint has {sorted(saved.state)} and lacks "
            f"{missing}: it comes from another optimizer"
        )
    state = {key: torch.as_tensor(saved.state[key]) for key in keys}
    for key in keys:
        if key != "step":
            check_shape(entry, f"state '{key}'", state[key].shape)
        dtype = None if key == "step" else entry.state_dtype
        state[key] = state[key].to(dtype=dtype, copy=True)
    return state


def matched(
    state_dict: dict[str, Any], groups: list[Group], entries: list[Entry]
) -> list[list[Saved]]:
    """What the checkpoint holds of every parameter of every group."""
    saved_groups = groups_of(state_dict)
    saved = [
        Saved(state_dict["state"].get(number, {}), group)
        for group in saved_groups
        for number in group["params"]
    ]
    if len(saved) != len(entries):
        raise ValueError(
            f"the checkpoint is of {len(saved)} parameters and the optimizer has {len(entries)}"
        )
    if all("param_names" in group for group in [*groups, *saved_groups]):
        names = [name for group in saved_groups for name in group["param_names"]]
        by_name = dict(zip(names, saved, strict=True))
        wanted = [name for group in groups for name in group["param_names"]]
        unknown = [name for name in wanted if name not in by_name]
        if unknown:
            raise ValueError(
                f"the checkpoint has no parameter '{unknown[0]}', but '{names[0]}' and others: "
                f"remove 'param_names' from its groups to match parameters by their order"
            )
        saved = [by_name[name] for name in wanted]
    rest = iter(saved)
    return [[next(rest) for _ in group["params"]] for group in groups]


def converted(
    state_dict: dict[str, Any], optimizer: SphereOptimizer, of_group: OfGroup, of_state: OfState
) -> dict[str, Any]:
    """A checkpoint of `optimizer` with the states and hyperparameters of another's.

    Args:
        of_group: what else a group of the checkpoint says, beyond what has the same name here.
        of_state: a parameter's state here.
    """
    result = optimizer.state_dict()
    entries = optimizer._entries()
    sources = matched(state_dict, result["param_groups"], entries)
    local = ("params", "param_names", *LOCAL_OPTIONS, *FOREIGN_OPTIONS)
    for index, (group, saved) in enumerate(zip(result["param_groups"], sources, strict=True)):
        hypers = [
            {k: v for k, v in s.group.items() if k not in local} | of_group(s.group) for s in saved
        ]
        differing = [k for h in hypers for k in hypers[0] | h if h.get(k) != hypers[0].get(k)]
        if differing:
            raise ValueError(
                f"parameters of group {index} come from groups of the checkpoint that differ in "
                f"{differing[0]}: give them groups of their own"
            )
        if hypers:
            group.update(hypers[0])
    flat = [s for saved in sources for s in saved]
    result["state"] = {
        number: of_state(entry, saved)
        for number, (entry, saved) in enumerate(zip(entries, flat, strict=True))
        if saved.state and entry.param.numel()
    }
    return result
