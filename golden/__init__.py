"""Integer specification of every block and of whole networks.

Shape letters used throughout: ``T`` timesteps, ``M`` rows (output pixels), ``N`` columns
(output channels), ``K`` inputs of one output, ``C`` channels of a fiber, ``H``/``W`` map size.
"""
