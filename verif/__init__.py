"""Benches, the simulated system, and the comparison with golden."""
