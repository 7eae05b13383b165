OPTIMIZER = "AdamG"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.8, 0.95), "weight_decay": 1e-2},
    "large-steps": {"lr": 1.5, "betas": (0.5, 0.7)},
    "decoupled": {"weight_decay": 0.3, "decoupled_weight_decay": True},
    "maximize": {"weight_decay": 0.1, "maximize": True},
    "large-eps": {"lr": 0.1, "eps": 0.3},
    "no-memory": {"lr": 0.1, "betas": (0.0, 0.0)},
    # Gradients of the suite have norms from 3 to 20: some, all and none are clipped.
    "clip": {"lr": 0.1, "grad_clip": 5.0},
    "clip-all": {"lr": 0.1, "grad_clip": 1e-3, "weight_decay": 0.1},
    "clip-none": {"lr": 0.1, "grad_clip": 1e3},
}
