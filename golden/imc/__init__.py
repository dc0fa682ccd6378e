"""Golden models of the in-memory-computing tile: geometry, analog macro, and what follows the ADC."""
