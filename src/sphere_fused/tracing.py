"""What is done when torch.compile traces a step. To import this is to import the compiler."""

import torch

from sphere_fused.functional import steppers


@torch.compiler.assume_constant_result
def make_ready(stepper: int) -> int:
    """Runs as it is when a step is traced, and not in the compiled steps."""
    steppers[stepper].make_ready()
    return stepper
