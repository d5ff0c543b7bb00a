"""What a model is worth at many ranks: measured one by one or together, scored, assured, timed."""
