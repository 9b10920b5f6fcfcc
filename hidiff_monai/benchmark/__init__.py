"""``hidiff benchmark``: what packing is worth, measured side by side in one process; see `run` and `command`."""
