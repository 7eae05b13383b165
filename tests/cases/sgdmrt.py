OPTIMIZER = "SGDMRT"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "momentum": 0.9, "weight_decay": 1e-2},
    "large-steps": {"lr": 0.3, "momentum": 0.9},
    "dampening": {"lr": 0.1, "momentum": 0.8, "dampening": 0.3},
    "dampening-no-momentum": {"dampening": 0.3},
    "decoupled": {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.3,
        "decoupled_weight_decay": True,
    },
    "maximize": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
    "decay-no-momentum": {"weight_decay": 0.3},
    "momentum-one": {"lr": 1e-2, "momentum": 1.0, "dampening": 0.5},
}
