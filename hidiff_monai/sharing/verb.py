"""The verb ``hidiff publish-check``; it imports what it needs when it is called."""

from __future__ import annotations

import sys


def publish_check(bundle: str, zip: str | None = None, push: str | None = None, public: bool = False) -> None:
    """Tries the MONAI model zoo's rules on a bundle, a line each; exits with 1 where one fails or weights are missing.

    Args:
        bundle: the bundle's folder, for example bundles/drive.
        zip: where every rule held, a folder for the archive as the zoo names it.
        push: where every rule held, a repository of the Hugging Face hub, <user or organisation>/<name>.
        public: lets everybody see what is pushed.
    """
    from hidiff_monai.sharing.archive import zip_bundle
    from hidiff_monai.sharing.check import PASSED, check_bundle, format_findings
    from hidiff_monai.sharing.push import push_bundle

    findings = check_bundle(bundle)
    print(format_findings(findings))
    if not all(finding.verdict == PASSED for finding in findings):
        sys.exit(1)
    if zip is not None:
        print("archive:", zip_bundle(bundle, str(zip)))
    if push is not None:
        print("pushed:", push_bundle(bundle, push, private=not public))
