"""Cycle models: ours and those of published accelerators."""
