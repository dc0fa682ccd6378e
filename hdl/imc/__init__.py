"""Periphery of in-memory-computing crossbars."""
