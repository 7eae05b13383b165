"""The optimizers. RULES lists every rule that is compiled, in the order of its number there."""

from sphere_fused.optim.adamg import AdamG
from sphere_fused.optim.adams import AdamS
from sphere_fused.optim.adamsrt import AdamSRT
from sphere_fused.optim.adamst import AdamST
from sphere_fused.optim.sgdmrt import SGDMRT

OPTIMIZERS = (AdamS, AdamST, AdamSRT, AdamG, SGDMRT)
RULES = tuple({r.name: r for o in OPTIMIZERS for r in (o.classic, o.rule)}.values())
