"""The error for unusable data."""


class DataError(ValueError):
    """Data is missing, broken or requested wrongly. The message says what, where, and how to fix it."""
