from cases.adams import CASES

OPTIMIZER = "AdamST"
__all__ = ["CASES", "OPTIMIZER"]
