"""What a model sees of a user follows from the objectives of its training."""

import itertools
from types import SimpleNamespace

import pytest

from mmprofile.configuration_mmprofile import (
    OBJECTIVES,
    PAPER_OBJECTIVES,
    PARADIGMS,
    MMProfileConfig,
    Sees,
    View,
    seen_by,
)


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("size", range(1, 5))
def test_a_model_sees_what_some_objective_of_its_training_showed_it(paradigm, size):
    assert (combinations := list(itertools.combinations(PAPER_OBJECTIVES, size)))
    for objectives in combinations:
        more = objectives != ("text",)
        expected = Sees(
            images=more and paradigm != "unimodal",
            captions=more and paradigm != "multimodal",
            without_reviews="mask_profile" in objectives,
        )
        assert MMProfileConfig(paradigm=paradigm, objectives=objectives).sees == expected


@pytest.mark.parametrize("older", [MMProfileConfig(paradigm="unimodal"), SimpleNamespace(paradigm="unimodal")])
def test_a_model_without_objectives_is_of_the_papers_four_whatever_the_table_has(older, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "look", dict.fromkeys(PARADIGMS, View("reviews", "photos")))
    assert seen_by(older) == Sees(images=False, captions=True, without_reviews=True)


def test_an_entry_of_the_table_decides_what_a_model_of_it_sees(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "look", dict.fromkeys(PARADIGMS, View("masked_profile", "masked_photos")))
    config = MMProfileConfig(paradigm="unimodal", objectives=["text", "look"])
    assert config.sees == Sees(images=True, captions=False, without_reviews=True)


def test_an_objective_that_another_code_has_is_named():
    trained = SimpleNamespace(paradigm="combined", objectives=["fusion", "look"])
    with pytest.raises(ValueError, match=r"objectives must be different ones of \['fusion', .*'look'"):
        seen_by(trained)
