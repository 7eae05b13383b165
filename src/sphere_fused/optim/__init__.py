"""The optimizers. RULES lists every rule that is compiled, in the order of its number there."""

from sphere_fused.optim.adamg import AdamG
from sphere_fused.optim.adamp import SGDP, AdamP
from sphere_fused.optim.adams import AdamS
from sphere_fused.optim.adamsrt import AdamSRT
from sphere_fused.optim.adamst import AdamST
from sphere_fused.optim.hyperball import AdamH
from sphere_fused.optim.lamb import LAMB, LARS
from sphere_fused.optim.normadamw import NormAdamW
from sphere_fused.optim.riemannian import RiemannianAdam, RiemannianSGD
from sphere_fused.optim.rotational import RotationalAdamW, RotationalLion, RotationalSGDM
from sphere_fused.optim.sgdmrt import SGDMRT

OPTIMIZERS = (
    *(AdamS, AdamST, AdamSRT, AdamG, SGDMRT),
    *(AdamP, SGDP, AdamH, NormAdamW, RotationalAdamW, RotationalSGDM, RotationalLion),
    *(RiemannianAdam, RiemannianSGD, LAMB, LARS),
)
RULES = tuple({r.key: r for o in OPTIMIZERS for r in (o.classic, o.rule, *o.other_rules)}.values())
