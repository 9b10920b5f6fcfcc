"""Drawn splits are fixed for ever, complete, and keep units whole."""

from hidiff_monai.data.prepare.splits import deal_folds, draw_order, draw_split


def test_the_order_is_that_of_the_hashes():
    # sha256sum says 9df3... of "0:a", e021... of "0:b" and be08... of "0:c"
    assert draw_order("abc", 0) == draw_order("cba", 0) == ["a", "c", "b"]
    orders = {tuple(draw_order("abcdef", seed)) for seed in range(20)}
    assert len(orders) > 10


def test_units_stay_whole_and_held_out_sections_do_not_exceed_their_size():
    units = {f"{unit}{k}": unit for unit in "abcdefgh" for k in range(3)}
    sections = draw_split(units, 7, seed=3)
    assert sections.keys() == units.keys()
    for unit in "abcdefgh":
        assert len({sections[name] for name in units if units[name] == unit}) == 1
    counts = [list(sections.values()).count(name) for name in ("training", "validation", "test")]
    assert counts == [12, 6, 6]


def test_single_ids_fill_the_sections_exactly():
    sections = draw_split({str(i): str(i) for i in range(612)}, 61, seed=0)
    assert [list(sections.values()).count(name) for name in ("training", "validation", "test")] == [490, 61, 61]


def test_folds_are_even_and_hold_everything_once():
    units = {f"{unit}{k}": str(unit) for unit in range(20) for k in range(2)}
    folds = deal_folds(units, seed=1)
    assert [len(ids) for ids in folds.values()] == [8] * 5
    assert sorted(name for ids in folds.values() for name in ids) == sorted(units)
    fold_of = {name: fold for fold, ids in folds.items() for name in ids}
    assert all(fold_of[f"{unit}0"] == fold_of[f"{unit}1"] for unit in range(20))


def test_fewer_units_than_folds_leave_none_empty():
    assert deal_folds({"a": "a", "b": "b", "c": "a"}) == {"0": ["a", "c"], "1": ["b"]}
