from cases.rotationaladamw import TURNED

OPTIMIZER = "RotationalSGDM"
CASES = {
    "defaults": {"lr": 3e-2, "weight_decay": 1e-2},
    "typical": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2},
    "large-steps": {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.5},
    "nesterov": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True},
    "momentum-one": {"lr": 1e-2, "momentum": 1.0, "weight_decay": 0.1},
    **{
        name: {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, **hyper}
        for name, hyper in TURNED.items()
    },
    "no-decay": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0},
    "no-decay-nesterov": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": True},
}
