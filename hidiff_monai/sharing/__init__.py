"""Bundles on their way to others: the model zoo's rules, the archive, the hub."""

from hidiff_monai.sharing.archive import zip_bundle
from hidiff_monai.sharing.check import PASSED, Finding, check_bundle, format_findings
from hidiff_monai.sharing.push import push_bundle

__all__ = ["PASSED", "Finding", "check_bundle", "format_findings", "push_bundle", "zip_bundle"]
