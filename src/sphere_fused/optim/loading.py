"""Loading a checkpoint into an optimizer: all of it, or an error and nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from sphere_fused.entry import Entry

# How a step is carried out here says nothing about the run that a checkpoint comes from.
LOCAL_OPTIONS = ("foreach", "fused", "backend", "capturable")

# What groups of every version of an optimizer have, or have not.
DISTINCTIVE = (
    *("betas", "momentum", "grad_clip", "momentum_decay", "delta", "tangent", "zero_mean"),
    *("always_adapt", "trust_coefficient"),
)


class LoadsCheckpoints(Optimizer):
    """An optimizer whose state torch's own load_state_dict would round, or not look at."""

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if a number of `group` is none, or out of range."""
        raise NotImplementedError

    def _entries(self) -> list[Entry]:
        raise NotImplementedError

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint.

        Which backend takes the steps stays as it is here, as do hyperparameters that the checkpoint
        does not know, and state keeps the precision it was saved in, where torch.optim would round
        it to the parameter's dtype. Checkpoints of other optimizers: see `from_adam`.

        Raises:
            RuntimeError: if a state does not fit its parameter.
            ValueError, TypeError: for another number of groups or parameters, or hyperparameters
                that the constructor would refuse.
            Nothing has changed then.
        """
        before: dict[str, Any] = {"state": self.state, "param_groups": self.param_groups}
        names = [entry.name for entry in self._entries()]
        loaded: list[dict[str, Any]] = []  # what other people's pre-hooks have made of it

        def settle(_: Optimizer) -> None:
            self._restore_precision(loaded[-1])
            groups = self.param_groups, before["param_groups"], loaded[-1]["param_groups"]
            for group, own, saved in zip(*groups, strict=True):
                for key in DISTINCTIVE:
                    if (key in saved) != (key in self.defaults):
                        raise ValueError(
                            f"the checkpoint is of another optimizer than {type(self).__name__}: "
                            f"only one of them has '{key}'. See from_adam for Adam's."
                        )
                unknown = self.defaults.keys() - saved.keys()
                group.update({k: own[k] for k in own if k in LOCAL_OPTIONS or k in unknown})
                self.check_hyperparameters(group)
            for entry, name in zip(self._entries(), names, strict=True):
                entry.name = name  # and not what the checkpoint calls it
                entry.check_loaded()

        hooks = (
            self.register_load_state_dict_pre_hook(lambda _, d: loaded.append(d)),
            # Ahead of other people's, which then see what a run goes on from.
            self.register_load_state_dict_post_hook(settle, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self.__setstate__(before)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def _restore_precision(self, state_dict: dict[str, Any]) -> None:
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for index, p in zip(indices, params, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, torch.Tensor) and self.state[p][key].dtype != value.dtype:
                    self.state[p][key] = value.to(device=self.state[p][key].device, copy=True)
