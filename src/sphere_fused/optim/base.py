"""The optimizer that all others are: groups, state, validation and step()."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused import backends, functional
from sphere_fused.check import check
from sphere_fused.entry import Entry, check_parameter
from sphere_fused.hyper import GroupHyper, at_hand
from sphere_fused.optim.arguments import channel_dims_of, in_range
from sphere_fused.optim.loading import LoadsCheckpoints
from sphere_fused.plan import Plan, check_capture
from sphere_fused.rule import Rule
from sphere_fused.segments import Dims, geometry, inside_segment


@torch.no_grad()
def write_all(changes: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for p, value in changes:
        p.copy_(value)


@functools.cache
def own_type(names: tuple[str, ...]) -> Any:
    return collections.namedtuple("Own", names)


class Prepared(NamedTuple):
    """A plan, what steps it, and what of the groups it was made for."""

    plan: Plan
    runs: list[Callable[[list[GroupHyper]], None]]
    structure: list[Any]


class SphereOptimizer(LoadsCheckpoints):
    """An optimizer given by its rule; see `AdamS` for what arguments and state mean.

    A subclass sets the class attributes, checks what it added and says in `hyper` what its
    arguments mean to its rule. Nobody overrides `step`.
    """

    rule: ClassVar[Rule]
    classic: ClassVar[Rule]  # for parameters that are stepped element by element
    other_rules: ClassVar[tuple[Rule, ...]] = ()  # that `rule_in` may choose
    moment_key: ClassVar[str] = "exp_avg"
    counts_steps: ClassVar[bool] = True
    decoupled: ClassVar[bool] = True  # weight decay, where groups do not say
    # GradScaler then leaves gradients scaled and sets the attributes grad_scale and found_inf for
    # the time of a step. They must not exist otherwise: it multiplies with what it finds.
    _step_supports_amp_scaling: ClassVar[bool] = True

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], own: dict[str, float] | None = None
    ) -> None:
        own = own or {}
        self._check_rules(own, list(defaults))
        defaults = {**defaults, **own}
        self._prepared: Prepared | None = None
        self._operands = functional.Operands()
        functional.steppers[id(self)] = self
        # Two threads may step one optimizer: the copies of gradients in a plan are of one step.
        self._one_step = threading.RLock()
        # Weights that must change before the first step; written when every group has passed.
        self._changes: list[tuple[torch.Tensor, torch.Tensor]] | None = []
        super().__init__(params, defaults)
        for mistake in self.probable_mistakes(self._entries()):
            warnings.warn(mistake, stacklevel=self._constructors() + 1)
        changes, self._changes = self._changes, None
        write_all(changes)

    def probable_mistakes(self, entries: list[Entry]) -> list[str]:
        """What to warn of when an optimizer of these parameters is made: it runs, and is hardly
        what was meant."""
        # A single weight may be a head, or one of many with an optimizer of its own.
        weights = [e for e in entries if e.param.dim() > 1]
        if len(weights) < 2 or any(
            g.get("channel_dims", ()) is not None for g in self.param_groups
        ):
            return []
        return [
            f"{type(self).__name__} steps every parameter element by element, as the classic "
            f"optimizer does, because every group has channel_dims=None: leave it at (0,) for "
            f"weights that a normalization layer follows"
        ]

    def _constructors(self) -> int:
        """How many __init__ of this optimizer lie between here and who makes it."""
        frame, count = sys._getframe(1), 0
        while frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is self:
            assert frame.f_back is not None
            frame, count = frame.f_back, count + 1
        return count

    def _check_rules(self, own: dict[str, float], arguments: list[str]) -> None:
        from sphere_fused.optim import RULES  # which are made of this module's subclasses

        for rule in (self.rule, self.classic, *self.other_rules):
            if rule not in RULES:
                check(rule)
            if rule.direction == "adam" and not self.counts_steps:
                raise TypeError(
                    f'{type(self).__name__} does not count steps, which direction="adam" needs: '
                    f"derive it from AdamS"
                )
        for name in own:
            if name not in self.rule.own:
                raise TypeError(
                    f"{type(self).__name__}() has no argument '{name}': it takes "
                    f"{', '.join([*arguments, *self.rule.own])}"
                )
        for name in self.rule.own:
            is_given = name in own or name in arguments
            if not is_given and type(self).own_hyper is SphereOptimizer.own_hyper:
                raise TypeError(
                    f"{type(self).__name__}() needs {name}=..., a hyperparameter of its rule's own"
                )

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        """What the arguments in `group` mean to the rule."""
        raise NotImplementedError

    def keeps_moment(self, group: dict[str, Any]) -> bool:
        """Whether parameters of `group` need a first moment."""
        return True

    def rule_in(self, group: dict[str, Any]) -> Rule:
        """The rule of the segments in `group`."""
        return self.rule

    def inside_segment(self, group: dict[str, Any], p: torch.Tensor, name: str) -> Dims:
        """The dims of `p` that lie inside one segment."""
        return inside_segment(p, channel_dims_of(group), name)

    def is_elementwise(self, group: dict[str, Any], p: torch.Tensor, inside: Dims) -> bool:
        """Whether the classic rule steps `p`."""
        return math.prod(p.shape[d] for d in inside) == 1

    def radius(self, group: dict[str, Any], dim: int) -> float | None:
        """What `keeps_radius` keeps for segments of `dim` elements; None: the norm they have."""
        return None

    def shared_hyper(
        self,
        group: dict[str, Any],
        beta1: float,
        gain1: float,
        beta2: float = 0.0,
        eps: float = 0.0,
    ) -> GroupHyper:
        own = self.own_hyper(group)
        return GroupHyper(
            lr=at_hand(group["lr"]),
            beta1=beta1,
            gain1=gain1,
            beta2=beta2,
            eps=eps,
            weight_decay=float(group.get("weight_decay", 0.0)),
            decoupled=bool(group.get("decoupled_weight_decay", self.decoupled)),
            maximize=bool(group["maximize"]),
            own=own_type(self.rule.own)(*(own[name] for name in self.rule.own)),
        )

    def own_hyper(self, group: dict[str, Any]) -> dict[str, float]:
        """The hyperparameters of the rule's own."""
        return {name: float(group[name]) for name in self.rule.own}

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if a number of `group` is none, or out of range."""
        for name in self.rule.own:
            if not isinstance(group.get(name, 0.0), (int, float)):
                raise TypeError(f"{name} must be a number, not {group[name]!r}")
        for name in ("lr", "weight_decay"):
            in_range(group.get(name, 0.0), name)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as torch.optim does; it is refused whole if anything in it is wrong."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*duplicate parameters")  # an error here
            super().add_param_group(param_group)
        try:
            changes = self._checked_parameters(self.param_groups[-1])
        except BaseException:
            self.param_groups.pop()
            raise
        if self._changes is None:
            write_all(changes)
        else:
            self._changes += changes
        self._prepared = None
        self._operands.hold = False

    def prepared(
        self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str
    ) -> torch.Tensor | None:
        """What `p` must be before the first step, or None to leave it; raises if it cannot be."""
        return None

    def _checked_parameters(self, group: dict[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The parameters of a new group that must be changed, with their new values."""
        backends.allowed(group["backend"], group["fused"])
        self.check_hyperparameters(group)
        index = len(self.param_groups) - 1
        if len({id(p) for p in group["params"]}) != len(group["params"]):
            raise ValueError(f"parameter group {index} lists a parameter twice: list it once")
        changes = []
        for i, p in enumerate(group["params"]):
            name = self._name(index, i)
            check_parameter(p, name)
            entry = self._entry(index, group, p, name)
            entry.geometry = geometry(p, entry.inside)
            backends.select(entry)
            value = (
                self.prepared(group, p.detach(), entry.inside, name)
                if p.numel() and not entry.elementwise
                else None
            )
            if value is not None:
                changes.append((p, value))
        return changes

    def _name(self, group: int, index: int) -> str:
        names = self.param_groups[group].get("param_names")
        shape = tuple(self.param_groups[group]["params"][index].shape)
        if names:
            return f"parameter '{names[index]}' {shape}"
        return f"parameter {index} of group {group} {shape}"

    def _entry(self, index: int, group: dict[str, Any], p: torch.Tensor, name: str) -> Entry:
        inside = self.inside_segment(group, p, name)
        rule = self.rule_in(group)
        elementwise = self.is_elementwise(group, p, inside)
        if elementwise:
            inside, rule = (), self.classic
        return Entry(
            name=name,
            param=p,
            group=index,
            rule=rule,
            inside=inside,
            elementwise=elementwise,
            allowed=backends.allowed(group["backend"], group["fused"]),
            moment_key=self.moment_key,
            keeps_moment=self.keeps_moment(group),
            counts_steps=self.counts_steps,
            capturable=bool(group["capturable"]),
            radius=self.radius(group, math.prod(p.shape[d] for d in inside)),
            state=self.state.get(p, {}),
        )

    def _structure(self) -> list[Any]:
        """What of the groups decides which work a step is, besides the tensors."""
        options = ("channel_dims", "backend", "fused", "capturable")
        # The plan holds the state and the groups it was made for, so that no id is used again.
        groups = [
            (id(g), *(g.get(o) for o in options), self.keeps_moment(g), id(self.rule_in(g)))
            for g in self.param_groups
        ]
        return [id(self.state), *groups]

    def _entries(self) -> list[Entry]:
        return [
            self._entry(g, group, p, self._name(g, i))
            for g, group in enumerate(self.param_groups)
            for i, p in enumerate(group["params"])
        ]

    def _prepare(self) -> Prepared:
        on_gpu = [g for g in self.param_groups if any(p.is_cuda for p in g["params"])]
        if on_gpu and torch.cuda.is_current_stream_capturing():
            check_capture(all(group["capturable"] for group in on_gpu), prepared=False)
        plan = Plan(self._entries(), self.state, self.param_groups)
        return Prepared(plan, backends.prepare(plan), self._structure())

    def _amp_scaling(self) -> tuple[float | torch.Tensor, float | torch.Tensor] | None:
        """grad_scale and found_inf, where there is a GradScaler that has set them."""
        grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if grad_scale is None and found_inf is None:
            return None
        grad_scale = at_hand(1.0 if grad_scale is None else grad_scale)
        if isinstance(grad_scale, float) and not grad_scale > 0.0:
            raise ValueError(f"grad_scale must be above 0, not {grad_scale}")
        return grad_scale, at_hand(0.0 if found_inf is None else found_inf)

    def _run(self, hypers: list[GroupHyper]) -> None:
        prepared = self._prepared
        try:
            if (
                prepared is None
                or prepared.structure != self._structure()
                or not prepared.plan.ready()
            ):
                prepared = self._prepared = self._prepare()
                if not prepared.plan.ready():
                    raise RuntimeError("the parameters changed while their step was prepared")
            for run in prepared.runs:
                run(hypers)
        finally:
            if prepared is not None:
                prepared.plan.release()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Threads that step one optimizer take turns, unless torch.compile has compiled it. An
        interrupt (a signal whose handler raises) leaves every tensor as before the step or as after
        it, where one compiled backend steps all; the reference changes one tensor after the other,
        and may be left between two.

        Args:
            closure: reevaluates the model and returns the loss, which is returned.

        Raises: see the class; before anything has been written.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            from sphere_fused.tracing import make_ready  # only here: it imports the compiler

            stepper, grad_enabled = make_ready(id(self)), torch.is_grad_enabled()
            with torch.no_grad():
                functional.call(self._operands, stepper, grad_enabled)
        else:
            self._step()
        return loss

    def _hypers(self) -> list[GroupHyper] | None:
        """Of every group; None where GradScaler has found that this step must change nothing."""
        scaling = self._amp_scaling()
        hypers = [self.hyper(group) for group in self.param_groups]
        if scaling is not None:
            grad_scale, found_inf = scaling
            if isinstance(found_inf, float) and found_inf != 0.0:
                return None
            hypers = [h._replace(grad_scale=grad_scale, found_inf=found_inf) for h in hypers]
        return hypers

    @contextlib.contextmanager
    def _without_scale_after_errors(self) -> Iterator[None]:
        """GradScaler, which multiplies its next scale with one that is there, comes to take it away
        after a step, but not after an error."""
        try:
            yield
        except BaseException:
            for name in ("grad_scale", "found_inf"):
                self.__dict__.pop(name, None)
            raise

    @torch.no_grad()
    def _step(self) -> None:
        """Take a step that is not being traced."""
        with self._without_scale_after_errors(), self._one_step:
            hypers = self._hypers()
            if hypers is not None:
                self._run(hypers)

    def make_ready(self) -> None:
        """Make state and operands, which torch.compile will read; see tracing.py."""
        with contextlib.suppress(Exception):  # the step itself will raise it
            if self._hypers() is not None:
                self._prepared = self._prepare()
        params = [p for group in self.param_groups for p in group["params"]]
        self._operands = functional.Operands([(p, self.state.get(p, {})) for p in params], True)

    def step_given(self, given: functional.Tensors, which: list[int]) -> None:
        """Carry out functional.step_: step those tensors, or those that they are copies of."""
        operands = self._operands
        own = operands.tensors(which)
        ids = [id(t) for t in itertools.chain(*own)]
        are_own = ids == [id(t) for t in itertools.chain(*given)]
        if are_own and which == operands.with_gradient():
            self._step()
        else:
            with self._without_scale_after_errors():
                self._step_copies(given, own, ids)
        for p, state in (operands.pairs[i] for i in which):
            operands.hold &= self.state.get(p) is state

    def _step_copies(
        self, given: functional.Tensors, own: functional.Tensors, ids: list[int]
    ) -> None:
        hypers, entries = self._hypers(), self._entries()
        if [id(e.param) for e in entries] != [id(p) for p, _ in self._operands.pairs]:
            self._operands.hold = False
            raise RuntimeError(
                "the parameters in param_groups were changed by hand since step() was compiled: "
                "call it again, or use add_param_group"
            )
        # Which refuses what copies would hide.
        bare = [dataclasses.replace(e, param=e.param.detach()) for e in entries]
        Plan(bare, {e.param: e.state for e in bare}, [])
        if hypers is not None:
            copies = dict(zip(ids, itertools.chain(*given), strict=True))
            grads = {id(p): g for p, g in zip(own.params, given.grads, strict=True)}
            functional.step_copies(entries, self.state, copies, grads, hypers)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch's addition; a group would save it
        self.__dict__.setdefault("_one_step", threading.RLock())
        self._changes = None
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
        self._prepared = None
        self._operands = functional.Operands()
        functional.steppers[id(self)] = self
