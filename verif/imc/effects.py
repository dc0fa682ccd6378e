"""What is not ideal about the macros of benches and of random layers, one effect at a time."""

EFFECTS: dict[str, dict[str, float]] = {
    "ideal": {}, "offset": {"offset": 1.5}, "inl": {"mismatch": 0.05}, "noise": {"read_noise": 0.5, "comparator_noise": 0.5},
    "variation": {"proportional": 0.1, "independent": 0.03}, "ir drop": {"wire": 2e-3},
    "stuck": {"stuck_off": 0.05, "stuck_on": 0.05}, "on/off": {"on_off": 10},
    "drift": {"drift_time": 1e4, "drift": 0.06, "drift_spread": 0.02},
}
