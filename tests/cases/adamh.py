OPTIMIZER = "AdamH"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99)},
    "large-steps": {"lr": 1.5, "betas": (0.5, 0.7)},
    "filters": {"lr": 3e-2, "channel_dims": (0,)},
    "maximize": {"lr": 3e-2, "maximize": True},
    "large-eps": {"lr": 3e-2, "eps": 0.3},
    "no-eps": {"lr": 3e-2, "eps": 0.0},
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0)},
}
