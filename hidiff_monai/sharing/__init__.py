"""Bundles on their way to others: the model zoo's rules (`check`), the archive (`archive`), the hub (`push`)."""
