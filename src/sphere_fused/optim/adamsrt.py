"""AdamSRT: AdamS, then rescaling and transport of the state (Roburin et al., arXiv 2006.13382)."""

from __future__ import annotations

from sphere_fused.optim.adams import AdamS, adams
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Update, where


def rescale_and_transport(gram: Gram, y: Landing, u: Update, h: Hyper) -> Update:
    moved = (gram.ww > 0) & (y.yy > 0)
    n = y.yy + h.eps
    s = where(moved, u.s * (gram.ww / n), u.s)
    b_w = where(moved, -y.xy / n, 0.0)
    b_x = where(moved, y.wy / n, 1.0)
    return Update(s=s, a_w=u.a_w, a_x=u.a_x, b_w=b_w, b_x=b_x)


class AdamSRT(AdamS):
    """AdamS that carries its state along the sphere, so that the path of the directions does not
    depend on how the norms of the weights grow.

        w' = as AdamS,  n = <w',w'>
        S <- S <w,w> / (n + eps)
        m <- (<w,w'> m - <m,w'> w) / (n + eps)

    A segment that is zero before or after the step keeps its S and m. Arguments, state, shapes
    and errors are those of `AdamS`. Roburin et al., arXiv 2006.13382.
    """

    rule = Rule("adamsrt", adams, rescale_and_transport)
