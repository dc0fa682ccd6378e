"""Yosys flows and their reports."""
