"""How good a model is at many ranks: measured one by one or together, scored, assured, timed."""
