from cases.adamp import PROJECTED

OPTIMIZER = "SGDP"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "momentum": 0.9, "weight_decay": 1e-2, "delta": 1.5},
    **{name: {**hyper, "momentum": 0.5} for name, hyper in PROJECTED.items()},
    "nesterov": {"lr": 3e-2, "momentum": 0.8, "delta": 1.5, "nesterov": True},
    "nesterov-by-filter": {
        "lr": 3e-2,
        "momentum": 0.8,
        "delta": 1.5,
        "weight_decay": 0.1,
        "nesterov": True,
        "decision": "filter",
    },
    "dampening": {"lr": 3e-2, "momentum": 0.8, "dampening": 0.3, "delta": 6.0},
    "no-momentum": {"lr": 3e-2, "dampening": 0.3, "weight_decay": 0.1, "delta": 6.0},
    "no-momentum-nesterov": {"lr": 3e-2, "nesterov": True, "delta": 1.5},
}
