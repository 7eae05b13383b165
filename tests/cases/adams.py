OPTIMIZER = "AdamS"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": 1e-2},
    "large-steps": {"lr": 0.3, "betas": (0.8, 0.9)},
    "decoupled": {"lr": 3e-2, "weight_decay": 0.3, "decoupled_weight_decay": True},
    "maximize": {"lr": 3e-2, "weight_decay": 0.1, "maximize": True},
    "maximize-decoupled": {
        "lr": 3e-2,
        "weight_decay": 0.1,
        "maximize": True,
        "decoupled_weight_decay": True,
    },
    "large-eps": {"lr": 3e-2, "eps": 0.3},
    "no-eps": {"lr": 3e-2, "eps": 0.0},
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0)},
}
