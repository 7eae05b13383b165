OPTIMIZER = "NormAdamW"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": 1e-2},
    "large-steps": {"lr": 0.5, "betas": (0.5, 0.7)},
    "tangent": {"lr": 3e-2, "tangent": True, "weight_decay": 0.3},
    "tangent-large-steps": {"lr": 0.5, "betas": (0.5, 0.7), "tangent": True},
    "root-mean-square-1": {"lr": 3e-2, "radius": "sqrt_dim", "weight_decay": 0.1},
    "radius-1": {"lr": 1e-2, "radius": 1.0, "tangent": True},
    "radius-3": {"lr": 3e-2, "radius": 3, "weight_decay": 0.1},
    "whole-tensor": {"lr": 3e-2, "channel_dims": ()},
    "maximize": {"lr": 3e-2, "weight_decay": 0.1, "maximize": True},
    "large-eps": {"lr": 3e-2, "eps": 0.3},
    "no-eps": {"lr": 3e-2, "eps": 0.0},
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0)},
}
