"""What kept a request over HTTP from its server."""

_CAUSES = {
    "NameResolutionError": "its host name is not known",
    "refused": "the connection was refused",
    "timed out": "no answer within {seconds} s",
    "timeout": "no answer within {seconds} s",
    "CERTIFICATE": "its TLS certificate is not trusted",
}


def network_cause(text: str, seconds: float) -> str | None:
    """Name what kept a request from its server, from the chain of causes that urllib3 spells out.

    Args:
        text: the error's text.
        seconds: the request's time-out.

    Returns:
        The cause; None where it is none of the usual ones.
    """
    return next((cause.format(seconds=seconds) for sign, cause in _CAUSES.items() if sign in text), None)
