"""The error of a file or program that is not read."""


class RefusedError(ValueError):
    """Something is not read; the message continues a sentence that begins with the name of the file."""
