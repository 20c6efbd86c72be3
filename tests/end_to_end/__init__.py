"""A package, because fixtures of that scope end with it."""
