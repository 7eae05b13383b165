"""What results call the contenders; see contenders.py, family.py and peers.py."""

OURS, TRITON, REFERENCE = "AdamSRT", "AdamSRT, Triton", "AdamSRT, reference"
COMPILED, CAPTURED = "AdamSRT, compiled reference", "AdamSRT, CUDA graph"
BASE, FOREACH, LOOP = "Adam, fused", "Adam, foreach", "Adam, for-loop"
BASE_W = "AdamW, fused"  # what the whole family is compared with
COPY, STREAM = "copy", "stream"  # what the memory can do
ADAMP, GEOOPT, OPTIMI = "AdamP, adamp", "RiemannianAdam, geoopt", "Adam, torch-optimi"
HEAVYBALL, ADAMP_AGAIN = "AdamW, heavyball", "AdamP, pytorch_optimizer"
APEX = "FusedAdam, apex"
PEERS = (ADAMP, GEOOPT, OPTIMI, HEAVYBALL, ADAMP_AGAIN, APEX)  # of AdamSRT
SGDP, GEOOPT_SGD, LAMB = "SGDP, adamp", "RiemannianSGD, geoopt", "LAMB, pytorch_optimizer"
HYPERBALL = "AdamH, heavyball"


def is_ours(contender: str) -> bool:
    return contender.startswith(OURS)


def reference_of(member: str) -> str:
    return f"{member}, reference"
