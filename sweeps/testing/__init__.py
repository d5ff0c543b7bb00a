"""Contracts of what the search is made of, as `arsvd.testing` has them of the numerics."""
