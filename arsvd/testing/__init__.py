"""Contracts that every method of a kind has to keep, for its own tests and those of other packages.

Each module has `CHECKS`, functions named by what they promise. They raise `AssertionError` where a method
breaks its promise. The tests of this project run them over the registries, so that a new method needs no test
file for what all methods of its kind promise.
"""
