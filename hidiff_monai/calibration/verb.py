"""The verb ``hidiff calibrate``."""

from __future__ import annotations


def calibrate(evaluation_dir: str, output: str | None = None) -> None:
    """Finds the temperature at which a model's probabilities are as sure as they are right, on validation cases.

    Args:
        evaluation_dir: what the evaluate workflow wrote with --section validation; that of test cases is refused.
        output: the file that is written; temperature.json in that folder where it is left out.
    """
    from hidiff_monai.calibration.fit import calibrate_evaluation, format_calibration

    print(format_calibration(calibrate_evaluation(evaluation_dir, output)))
