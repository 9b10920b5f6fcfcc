"""Splits that a seed decides, the same on every machine, with whatever belongs together on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

NUM_FOLDS = 5


def draw_order(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that the seed decides: by the SHA-256 of "seed:name".

    No random generator is involved, so the order is the same everywhere and for ever, and a name that is missing from a
    partial download leaves the others in their order.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def draw_split(units: Mapping[str, str], num_held_out: int, seed: int) -> dict[str, str]:
    """Section of each id: test and validation take whole units in drawn order, the others train.

    Args:
        units: what an id belongs to (a patient, a video sequence) and must not be parted from, by id.
        num_held_out: ids wanted in test, and in validation. A unit that would exceed it is passed over, so both can
            stay a little smaller where units are large.
        seed: of the order.
    """
    members: dict[str, list[str]] = {}
    for case_id, unit in units.items():
        members.setdefault(unit, []).append(case_id)
    room = {"test": num_held_out, "validation": num_held_out}
    sections: dict[str, str] = {}
    for unit in draw_order(members, seed):
        size = len(members[unit])
        section = next((name for name, left in room.items() if size <= left), "training")
        if section in room:
            room[section] -= size
        sections |= dict.fromkeys(members[unit], section)
    return sections


def deal_folds(units: Mapping[str, str], seed: int = 0) -> dict[str, list[str]]:
    """Ids of five folds for cross-validation: units in drawn order, each to the fold that is smallest so far.

    Fewer units than folds leave out the empty ones.

    Args:
        units: what an id belongs to, by id.
        seed: of the order.
    """
    folds: dict[str, list[str]] = {str(fold): [] for fold in range(NUM_FOLDS)}
    for unit in draw_order(set(units.values()), seed):
        smallest = min(folds.values(), key=len)
        smallest += [case_id for case_id, other in units.items() if other == unit]
    return {fold: sorted(ids) for fold, ids in folds.items() if ids}
