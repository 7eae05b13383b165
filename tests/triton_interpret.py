"""Steps tensors in Triton's interpreter, in the version of Triton that is asked for.

python triton_interpret.py 3.4.0
"""

from __future__ import annotations

import os
import sys
import warnings

os.environ["TRITON_INTERPRET"] = "1"

import triton
from cases import typical
from oracles.tolerance import assert_close_to_oracle
from stepping import make, random, random_grads, take_steps

# Of rows; reversed, of columns. One is longer than what is held.
SHAPES = [(5, 27), (4, 64), (2, 1025), (33,), (34,)]

if __name__ == "__main__":
    assert triton.__version__ == sys.argv[1], triton.__version__
    # NumPy's, of lanes outside of a tensor.
    warnings.filterwarnings("ignore", ".*encountered in", RuntimeWarning)
    for name in ("AdamSRT", "AdamG"):  # between them, all that a rule can ask for
        for channel_dims, order in (((0,), 1), ((-1,), -1)):
            start = [random(*shape[::order], seed=i) for i, shape in enumerate(SHAPES)]
            grads = [random_grads(w.shape, 2, seed=100 * i) for i, w in enumerate(start)]
            params = [w.clone() for w in start]
            hyper = {**typical(name), "channel_dims": channel_dims}
            optimizer = make(name, params, "triton", **hyper)
            take_steps(optimizer, params, list(zip(*grads, strict=True)))
            for w0, of_param, p in zip(start, grads, params, strict=True):
                assert_close_to_oracle(name, w0, of_param, p, optimizer.state[p], **hyper)
