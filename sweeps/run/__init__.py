"""A sweep from its file to its end: prepared, run by Ray Tune, interrupted, resumed, finished."""
