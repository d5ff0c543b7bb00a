"""The error of a file or program that is refused."""


class RefusedError(ValueError):
    """Something is refused; the message continues a sentence that begins with the name of the file."""
