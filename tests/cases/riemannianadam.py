OPTIMIZER = "RiemannianAdam"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": 1e-2},
    "large-steps": {"lr": 1.5, "betas": (0.5, 0.7)},
    "whole-tensor": {"lr": 3e-2, "channel_dims": ()},
    "maximize": {"lr": 3e-2, "weight_decay": 0.1, "maximize": True},
    "large-eps": {"lr": 0.1, "eps": 0.3},
    "no-memory": {"lr": 0.1, "betas": (0.0, 0.0)},
}
