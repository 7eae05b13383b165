OPTIMIZER = "RiemannianSGD"
CASES = {
    "defaults": {"lr": 3e-2},
    "typical": {"lr": 3e-2, "momentum": 0.9, "weight_decay": 1e-2},
    "large-steps": {"lr": 0.3, "momentum": 0.9},
    "nesterov": {"lr": 3e-2, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "dampening": {"lr": 3e-2, "momentum": 0.8, "dampening": 0.3},
    "dampening-no-momentum": {"lr": 3e-2, "dampening": 0.3, "weight_decay": 0.1},
    "momentum-one": {"lr": 1e-2, "momentum": 1.0, "dampening": 0.5},
    "whole-tensor": {"lr": 1e-2, "momentum": 0.9, "channel_dims": ()},
    "maximize": {"lr": 3e-2, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
}
