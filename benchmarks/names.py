"""What results call the contenders; see contenders.py."""

OURS, BASE, FOREACH = "AdamSRT", "Adam, fused", "Adam, foreach"
REFERENCE, COMPILED = "AdamSRT, reference", "AdamSRT, compiled reference"
CAPTURED, COPY = "AdamSRT, CUDA graph", "copy"
TRITON = "AdamSRT, Triton"
