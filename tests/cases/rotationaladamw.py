# The keywords that every rotational optimizer takes.
TURNED = {
    "not-centred": {"zero_mean": False},
    "another-average": {"update_norm_decay_factor": 0.5, "rotational_eps": 0.3},
    "no-average": {"update_norm_decay_factor": 0.0, "rotational_eps": 0.0},
    "whole-tensor": {"channel_dims": ()},
    "maximize": {"maximize": True},
}
OPTIMIZER = "RotationalAdamW"
CASES = {
    "defaults": {},
    # With a small eps the first u is a row of signs; where all agree, nothing but roundings is left
    # of it when it is centred, and these are then brought to length 1.
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "eps": 1e-2, "weight_decay": 0.1},
    "large-steps": {"lr": 0.5, "betas": (0.5, 0.7), "weight_decay": 0.5},
    **{
        name: {"lr": 3e-2, "eps": 1e-2, "weight_decay": 0.1, **hyper}
        for name, hyper in TURNED.items()
    },
    "no-decay": {"lr": 3e-2, "weight_decay": 0.0},
    "large-eps": {"lr": 3e-2, "eps": 0.3},
    "no-eps": {"lr": 3e-2, "eps": 0.0},
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0)},
}
