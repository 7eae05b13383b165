"""AdamS: Adam with one second moment per segment (Roburin et al., arXiv 2006.13382)."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, sqrt


def adams(gram: Gram, s: Scalar, h: Hyper) -> Update:
    s = h.beta2 * s + h.gain2 * gram.gg
    a = h.lr * h.sqrt_dim / (h.bc1 * (sqrt(s / h.bc2) + h.eps))
    return Update(s=s, a_w=h.decay, a_x=-a)


class AdamS(AdamFamily):
    """Adam whose second moment is one number per segment, the squared norm of the gradient.

        m <- beta1 m + (1-beta1) g
        S <- beta2 S + (1-beta2) <g,g>
        w <- w - lr sqrt(D) (m/bc1) / (sqrt(S/bc2) + eps)

    `<,>` runs over one segment of D elements, by default one filter or neuron; bc1 and bc2 are
    Adam's bias corrections. Use it, and its relatives, for weights that a normalization layer
    follows: there only their direction matters.

    Args:
        params: parameters or groups, as for every torch.optim optimizer. float32, float64,
            bfloat16 or float16, of any shape and strides; gradients in that dtype or float32.
        lr: learning rate, a number or a one-element tensor. One on the GPU of the parameters is
            read there, when a step runs: no step waits for it.
        betas: decay of the first moment and of S, numbers or one-element tensors. A step waits
            for one that is on a GPU.
        eps: added to the root of S, which is a norm over the whole segment.
        weight_decay: L2 penalty added to the gradient, as in the paper.
        channel_dims: the dimensions that index different segments. `(0,)`, one segment per
            filter; `()`, the whole tensor; `None`, every element its own segment, which is
            torch.optim.Adam. Tensors whose segments have one element, biases and the weights of
            normalization layers among them, are stepped by Adam under every setting.
        decoupled_weight_decay: multiply w by `1 - lr*weight_decay` instead, as AdamW does.
        maximize: ascend.
        capturable: steps may be captured into a CUDA graph, after one outside of it. A replay
            reads an lr that is a tensor on the GPU, numbers stay as captured; the optimizer must
            live as long as the graph. A checkpoint does not change it.
        foreach: accepted for compatibility; nothing here loops over tensors.
        fused: True refuses the reference backend, False asks for it.
        backend: "native", "triton", "reference", or None to take the first that can run.
        own: hyperparameters that the rule of a subclass has of its own; see docs/rules.md.

    State per parameter: `step` (float32, 0-d), `exp_avg` (the shape of the parameter), and
    `exp_avg_sq` (the shape of the parameter with size 1 in the dims inside a segment); float32,
    or float64 for float64 parameters. As in torch, `step` counts to 2**24 and stays there. In
    float32 a gradient whose square over a segment exceeds 3e38 makes S infinite, and the segment
    stays where it is from then on, as weights do in torch's Adam.

    Raises:
        ValueError, TypeError, RuntimeError: for hyperparameters out of range, parameters or
            gradients of a kind that is not supported, tensors that overlap, a dim the tensor
            lacks, or a backend that cannot run; always before anything has been written.

    Example:
        >>> opt = sphere_fused.AdamS(model.parameters(), lr=1e-3)
        >>> loss.backward()
        >>> opt.step()
    """

    rule = Rule("adams", adams)
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        channel_dims: tuple[int, ...] | None = (0,),
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)
