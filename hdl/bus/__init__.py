"""AXI, registers, FIFOs and RAM."""
