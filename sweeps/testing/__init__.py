"""Contracts of the parts of a search, as `arsvd.testing` has them for the numerics."""
