"""What results call the contenders; see contenders.py and peers.py."""

OURS, TRITON, REFERENCE = "AdamSRT", "AdamSRT, Triton", "AdamSRT, reference"
COMPILED, CAPTURED = "AdamSRT, compiled reference", "AdamSRT, CUDA graph"
BASE, FOREACH, LOOP = "Adam, fused", "Adam, foreach", "Adam, for-loop"
COPY, STREAM = "copy", "stream"  # what the memory can do
ADAMP, GEOOPT, OPTIMI = "AdamP, adamp", "RiemannianAdam, geoopt", "Adam, torch-optimi"
HEAVYBALL, ADAMP_AGAIN = "AdamW, heavyball", "AdamP, pytorch_optimizer"
APEX = "FusedAdam, apex"
PEERS = (ADAMP, GEOOPT, OPTIMI, HEAVYBALL, ADAMP_AGAIN, APEX)


def is_ours(contender: str) -> bool:
    return contender.startswith(OURS)
