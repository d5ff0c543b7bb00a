"""What is wrong with data."""


class DataError(ValueError):
    """Data that is missing, broken or asked for wrongly. The message says what, where, and what mends it."""
