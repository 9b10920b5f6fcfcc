"""``python -m hidiff_monai`` is ``hidiff``."""

from hidiff_monai.cli import main

main()
