"""What SpikeSim (arXiv:2210.12899) charges in its code at commit c2627bc (imc 2.1): energies in pJ, areas in um^2, 65 nm.

A PE cycle reads 9 crossbars of 64x64, whose 8 ADCs convert 8 columns each; 8 PEs are a tile.
"""

SOURCE = "SpikeSim (authors' code, imc 2.1)"
HERTZ = 250e6
# One of each: an RRAM crossbar for a column of each ADC, a conversion, its multiplexer.
CROSSBAR, CONVERSION, SWITCH = 1.76423, 2.03084, 0.094245
# A PE cycle: H-tree, tile buffer, temporary buffer, subtractor, memory fetch, neuron.
TREE, TILE_BUFFER, TEMPORARY, SUBTRACTOR, FETCH, NEURON = 19.64 * 8, 397.0, 0.2 * 8, 1.15e-6, 4.64, 1.274 * 4
# An RRAM and an SRAM crossbar, an ADC, its multiplexer, a subtractor, a temporary buffer, the H-tree of a tile, a bit of SRAM.
CROSSBAR_AREA, SRAM_AREA, ADC_AREA, MUX_AREA, SUBTRACTOR_AREA, TEMPORARY_AREA, TREE_AREA, BIT_AREA = (
    26.2144, 671.089, 693.633, 45.9, 13411.41, 484.6, 216830.0 * 2, 0.7391)
TAPS, SIDE, MUX, PES, ADC_BITS = 9, 64, 8, 8, 4
TILE_BUFFER_BITS = 64 * 128
