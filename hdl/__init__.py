"""Amaranth components: one block per file, same stem as its golden twin."""
