"""Fuzz targets: every reader of a file that somebody else may have written.

For any bytes a reader answers or raises its documented error; it takes at most 5 seconds and 2 GB, runs
nothing and writes nothing outside its place. `contract.py` says what a target is; each file of `targets/`
holds some, and is found by being there. Seeds are written by the product's own writers; `mutation/` changes
them.

Short, deterministic, in `make test`: `test_fuzz.py`. Long, by hand, with an audit hook and a limit on memory:

    python -m tests.fuzz --list
    python -m tests.fuzz idx sweep-front --minutes 10

Inputs that fail are kept in `.fuzz/TARGET/`, with the traceback beside them, and are read again by

    python -m tests.fuzz TARGET --input .fuzz/TARGET/FILE

A fault that was found becomes a named case in the tests of its reader.
"""
