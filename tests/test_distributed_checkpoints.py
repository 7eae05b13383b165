"""State dicts and folders of torch.distributed.checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from cases import REPRESENTATIVES
from runs import Run, each_grouping, named, several_groups
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

each = pytest.mark.parametrize("name", REPRESENTATIVES)
flattened = pytest.mark.parametrize("flatten", [False, True], ids=["nested", "flattened"])


@flattened
@each_grouping
@each
def test_distributed_optimizer_state_dicts(
    name: str, groups: Callable[[nn.Sequential], Any], flatten: bool, backend: str
) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    run = Run(name, groups, backend).take(3)
    saved = copy.deepcopy(get_optimizer_state_dict(run.model, run.optimizer, options=options))
    weights = run.weights()
    # torch makes the state of a new optimizer with a step that must change no weight.
    new, stepped = (Run(name, groups, backend, seed=1) for _ in range(2))
    stepped.take(2)
    run.take(3, 6)
    for resumed in (new, stepped):
        resumed.model.load_state_dict(weights)
        own = copy.deepcopy(saved)  # loading shares tensors, as torch's does
        set_optimizer_state_dict(resumed.model, resumed.optimizer, own, options=options)
        resumed.assert_weights(weights)
        resumed.take(3, 6).assert_weights(run.weights())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@flattened
@pytest.mark.parametrize("groups", [named, several_groups], ids=lambda f: f.__name__)
@each
def test_a_run_goes_on_from_a_folder_of_distributed_checkpoint(
    name: str,
    groups: Callable[[nn.Sequential], Any],
    flatten: bool,
    backend: str,
    tmp_path: Path,
) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)

    def of(run: Run) -> dict[str, Any]:
        model, optimizer = get_state_dict(run.model, run.optimizer, options=options)
        return {"model": model, "optimizer": optimizer}

    run = Run(name, groups, backend).take(3)
    dcp.save(of(run), checkpoint_id=tmp_path, no_dist=True)
    resumed = Run(name, groups, backend, seed=1)
    loaded = of(resumed)
    dcp.load(loaded, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(
        resumed.model,
        resumed.optimizer,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
        options=options,
    )
    resumed.assert_weights(run.weights())
    resumed.take(3, 6).assert_weights(run.take(3, 6).weights())
