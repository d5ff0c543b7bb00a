"""Contracts: what every method of a kind promises, as functions that a test calls with each method.

A function raises `AssertionError` where a promise is not kept. What is registered is tested by that alone.
"""
