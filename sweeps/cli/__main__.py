"""`python -m sweeps.cli`."""

from arsvd.command import main

main()
