"""All rules on one bundle, a line each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hidiff_monai.io.errors import find_value_error
from hidiff_monai.io.quiet import quiet
from hidiff_monai.sharing import network_rules, rules

RULES: dict[str, Callable[[Path], str]] = {
    "files": rules.files_are_there,
    "licence": rules.licence_is_known,
    "metadata": rules.metadata_fit_the_schema,
    "version": rules.version_is_in_the_changelog,
    "keys": rules.keys_have_their_names,
    "paths": rules.paths_are_nobodys,
    "size": rules.files_are_small,
    "network": network_rules.network_fits_the_metadata,
    "weights": network_rules.weights_load,
    "export": network_rules.export_computes_the_same,
}
PASSED, FAILED, MISSING = "ok", "FAILED", "MISSING"


@dataclass(frozen=True)
class Finding:
    """What a rule said.

    Attributes:
        rule: its name.
        verdict: ``"ok"``, ``"FAILED"``, or ``"MISSING"`` where there are no weights to try it on.
        text: what was found; where it failed, what was expected and how to mend it too.
    """

    rule: str
    verdict: str
    text: str


def check_bundle(bundle: str | Path) -> list[Finding]:
    """Tries every rule of the model zoo on a bundle; nothing is written into its folder.

    Args:
        bundle: the bundle's folder.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = Path(bundle).expanduser().absolute()
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; expected a bundle, for example bundles/drive: correct it")
    with quiet(logging.ERROR):  # MONAI sums up what each of its functions was given
        return [_try(name, rule, folder) for name, rule in RULES.items()]


def format_findings(findings: list[Finding]) -> str:
    """A line a rule, and one that counts them."""
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in (PASSED, FAILED, MISSING)}
    lines = [f"{finding.verdict:<8}{finding.rule:<12}{finding.text}" for finding in findings]
    return "\n".join([*lines, ", ".join(f"{number} {verdict}" for verdict, number in counts.items())])


def _try(name: str, rule: Callable[[Path], str], folder: Path) -> Finding:
    try:
        return Finding(name, PASSED, rule(folder))
    except network_rules.MissingWeightsError as error:
        return Finding(name, MISSING, str(error))
    except Exception as error:  # whatever a configuration raises is what is wrong with it
        cause = find_value_error(error)
        sentence = " ".join(str(cause or f"{type(error).__name__}: {error}").split())
        return Finding(name, FAILED, sentence)
