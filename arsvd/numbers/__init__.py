"""Number formats: how the numbers of a layer are stored."""
