# Gradients of the suite have cosines with the weights of about 1/sqrt(D): with a delta of 6 all
# filters are below delta/sqrt(D), with 1.5 some are, and often the whole tensor, with 1e-3 none.
PROJECTED = {
    "every-filter": {"lr": 3e-2, "delta": 6.0, "weight_decay": 0.3},
    "some-filters": {"lr": 3e-2, "delta": 1.5, "weight_decay": 0.3, "wd_ratio": 0.5},
    "nothing": {"lr": 3e-2, "delta": 1e-3, "weight_decay": 0.3},
    "delta-0": {"lr": 3e-2, "delta": 0.0, "weight_decay": 0.3},
    "by-filter": {"lr": 3e-2, "delta": 1.5, "weight_decay": 0.3, "decision": "filter"},
    "by-filter-all": {"lr": 3e-2, "delta": 1e3, "weight_decay": 0.3, "decision": "filter"},
    "maximize": {"lr": 3e-2, "delta": 1.5, "weight_decay": 0.1, "maximize": True},
    "large-steps": {"lr": 0.5, "delta": 6.0},
    "large-eps": {"lr": 3e-2, "delta": 6.0, "eps": 0.3},
}
OPTIMIZER = "AdamP"
CASES = {
    "defaults": {},
    "typical": {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": 1e-2, "delta": 1.5},
    **PROJECTED,
    "nesterov": {"lr": 3e-2, "betas": (0.8, 0.9), "delta": 1.5, "nesterov": True},
    "nesterov-by-filter": {
        "lr": 3e-2,
        "betas": (0.8, 0.9),
        "delta": 1.5,
        "weight_decay": 0.1,
        "nesterov": True,
        "decision": "filter",
    },
    "no-memory": {"lr": 3e-2, "betas": (0.0, 0.0), "delta": 1.5},
    "no-eps": {"lr": 3e-2, "eps": 0.0, "delta": 6.0},
}
