from cases.adams import CASES

OPTIMIZER = "AdamSRT"
__all__ = ["CASES", "OPTIMIZER"]
