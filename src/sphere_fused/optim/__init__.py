"""The optimizers. RULES lists every rule that is compiled, in the order of its number there."""

from sphere_fused.optim.adamg import AdamG
from sphere_fused.optim.adamh import AdamH
from sphere_fused.optim.adamp import AdamP
from sphere_fused.optim.adams import AdamS
from sphere_fused.optim.adamsrt import AdamSRT
from sphere_fused.optim.adamst import AdamST
from sphere_fused.optim.hyperball import HYPERBALL
from sphere_fused.optim.lamb import LAMB
from sphere_fused.optim.lars import LARS
from sphere_fused.optim.normadamw import NormAdamW
from sphere_fused.optim.riemannianadam import RiemannianAdam
from sphere_fused.optim.riemanniansgd import RiemannianSGD
from sphere_fused.optim.rotationaladamw import RotationalAdamW
from sphere_fused.optim.rotationallion import RotationalLion
from sphere_fused.optim.rotationalsgdm import RotationalSGDM
from sphere_fused.optim.sgdmrt import SGDMRT
from sphere_fused.optim.sgdp import SGDP

OPTIMIZERS = (
    *(AdamS, AdamST, AdamSRT, AdamG, SGDMRT),
    *(AdamP, SGDP, AdamH, NormAdamW, RotationalAdamW, RotationalSGDM, RotationalLion),
    *(RiemannianAdam, RiemannianSGD, LAMB, LARS),
)
RULES = tuple(
    {
        rule.key: rule
        for rules in (*((o.classic, o.rule, *o.other_rules) for o in OPTIMIZERS), (HYPERBALL,))
        for rule in rules
    }.values()
)
