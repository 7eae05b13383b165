OPTIMIZER = "LAMB"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": 0.1},
    "large-steps": {"lr": 0.5, "betas": (0.5, 0.7)},
    "no-decay": {"lr": 3e-2, "weight_decay": 0.0},
    "no-decay-adapted": {"lr": 3e-2, "weight_decay": 0.0, "always_adapt": True},
    "maximize": {"lr": 3e-2, "weight_decay": 1.0, "maximize": True},
    "large-eps": {"lr": 3e-2, "eps": 0.3},
    "no-eps": {"lr": 3e-2, "eps": 0.0},
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0)},
}
