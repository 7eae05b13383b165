"""AdamST: AdamS, then transport of the first moment to the new point (arXiv 2006.13382)."""

from __future__ import annotations

from sphere_fused.optim.adams import AdamS, adams
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Update, sqrt, where


def transport(gram: Gram, y: Landing, u: Update, h: Hyper) -> Update:
    moved = (gram.ww > 0) & (y.yy > 0)
    n = sqrt(gram.ww) * sqrt(y.yy) + h.eps
    b_w = where(moved, -y.xy / n, 0.0)
    b_x = where(moved, y.wy / n, 1.0)
    return Update(s=u.s, a_w=u.a_w, a_x=u.a_x, b_w=b_w, b_x=b_x)


class AdamST(AdamS):
    """AdamS with its first moment transported to the new point; S is not rescaled.

        w' = as AdamS
        m <- (<w,w'> m - <m,w'> w) / (|w| |w'| + eps)

    A segment that is zero before or after the step keeps its m. Arguments, state, shapes and
    errors are those of `AdamS`. Roburin et al., arXiv 2006.13382.
    """

    rule = Rule("adamst", adams, transport)
