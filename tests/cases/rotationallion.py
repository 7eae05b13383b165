from cases.rotationaladamw import TURNED

OPTIMIZER = "RotationalLion"
CASES = {
    "defaults": {"weight_decay": 0.1},
    "typical": {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1},
    "large-steps": {"lr": 0.5, "betas": (0.5, 0.7), "weight_decay": 0.5},
    **{name: {"lr": 1e-2, "weight_decay": 0.1, **hyper} for name, hyper in TURNED.items()},
    "no-decay": {"lr": 1e-2, "weight_decay": 0.0},
    "no-memory": {"lr": 1e-2, "betas": (0.0, 0.0), "weight_decay": 0.1},
}
