"""One trial: a pack of members, trained, factorised, measured and recovered."""
