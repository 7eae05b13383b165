OPTIMIZER = "LARS"
CASES = {
    "defaults": {},
    "typical": {"momentum": 0.9, "weight_decay": 1e-2, "trust_coefficient": 2e-2},
    "large-steps": {"momentum": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.5},
    "nesterov": {
        "momentum": 0.9,
        "weight_decay": 0.1,
        "trust_coefficient": 2e-2,
        "nesterov": True,
    },
    "dampening": {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
    "dampening-no-momentum": {"lr": 0.1, "dampening": 0.3},
    "no-momentum": {"weight_decay": 0.1, "trust_coefficient": 0.1},
    "no-decay": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "no-decay-adapted": {"momentum": 0.9, "trust_coefficient": 2e-2, "always_adapt": True},
    "maximize": {"momentum": 0.5, "weight_decay": 1.0, "trust_coefficient": 0.1, "maximize": True},
    "large-eps": {"weight_decay": 0.1, "trust_coefficient": 0.1, "eps": 3.0},
    "no-eps": {"weight_decay": 0.1, "trust_coefficient": 0.1, "eps": 0.0},
}
