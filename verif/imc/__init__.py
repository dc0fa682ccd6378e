"""Benches of the in-memory-computing tile."""
