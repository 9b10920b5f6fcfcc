"""The sentence that a user should read, out of what was raised."""

from __future__ import annotations


def find_value_error(error: BaseException | None) -> ValueError | None:
    """The first ValueError in a chain of causes: MONAI wraps what a configuration or a transform raises."""
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__
    return error
