"""`python -m arsvd`."""

from arsvd.command import main

main()
