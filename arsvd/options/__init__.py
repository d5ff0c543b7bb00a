"""Settings of methods: declared by the methods, read from sweep files and records.

Nothing here needs torch, and neither does a module that declares options.
"""

from arsvd.options.option import REQUIRED, Option

__all__ = ["REQUIRED", "Option"]
