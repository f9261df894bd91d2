"""Lines of other users' profiles in a user's texts."""

from collections import Counter

import numpy as np
import pytest

from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import JointCollator, UserExamples, undecoded
from training.forged_lines import LEADS, add_line, agreement, forge, forge_line
from training.objectives import OBJECTIVES, select_views

PROFILE = SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"])
LINE = SCHEMA.render(PROFILE)


def examples(**options) -> UserExamples:
    return UserExamples(undecoded(tiny_dataset(6)), SCHEMA, **options)


def texts_of(data: UserExamples, epoch: int) -> list[tuple[list[str], list[str | None]]]:
    data.set_epoch(epoch)
    return [(data[index].reviews, data[index].captions) for index in range(len(data))]


def test_lines_are_whole_profiles_and_parts_of_them_in_several_spellings():
    lines = [forge_line(SCHEMA, PROFILE, np.random.default_rng(seed)) for seed in range(300)]
    names = [attribute.name for attribute in SCHEMA.attributes]
    whole = [line for line in lines if all(name in line for name in names)]
    assert 0.6 < len(whole) / len(lines) < 0.85
    assert LINE in lines and f"Profile: {LINE}" in lines
    assert all(any(name in line for name in names) for line in lines) and len(set(lines)) > 50


def test_a_line_is_a_review_of_its_own_or_stands_within_a_review_or_caption_and_nothing_is_lost():
    reviews, captions = ["one two three", "four"], ["a cake", None]
    kinds = set()
    for seed in range(200):
        told, shown = add_line("LINE", reviews, captions, np.random.default_rng(seed))
        assert [text for text in (*told, *shown) if text and "LINE" in text]
        kinds.add((len(told), "LINE" in (shown[0] or "")))
        left = " ".join([*told, *(text or "" for text in shown)]).replace("LINE", "").split()
        assert left == ["one", "two", "three", "four", "a", "cake"]
    assert kinds == {(3, False), (2, False), (2, True)}
    assert (reviews, captions) == (["one two three", "four"], ["a cake", None])
    assert add_line("LINE", [], [], np.random.default_rng(0)) == (["LINE"], [])


def test_a_profile_is_forged_once_or_often_beside_much_or_little_that_is_honest():
    reviews, captions = ["one two three " * 9, "four"], ["a cake"]
    lines, scant = Counter(), 0
    for seed in range(400):
        told, shown = forge(SCHEMA, PROFILE, reviews, captions, np.random.default_rng(seed))
        lines[min(2, len(told) - (not scant_of(told)) - 1)] += 1
        scant += scant_of(told)
        assert any(attribute.name in text for text in (*told, *shown) for attribute in SCHEMA.attributes)
    assert scant / 400 == pytest.approx(0.25, abs=0.08)
    assert lines[2] > 100 < lines[0] + lines[1]
    assert (reviews, captions) == (["one two three " * 9, "four"], ["a cake"])


def scant_of(told: list[str]) -> bool:
    """Whether one of the two honest reviews is gone, which stand whole or around a line."""
    text = " ".join(told).split()
    return not ("four" in text and text.count("three") == 9)


def test_the_share_of_users_with_a_line_is_the_one_asked_for_and_the_draws_stay_the_same():
    plain, forged = examples(seed=3), examples(seed=3, forged_lines=0.25)
    changed = 0
    for epoch in range(1, 101):
        pairs = list(zip(texts_of(plain, epoch), texts_of(forged, epoch), strict=True))
        changed += sum(before != after for before, after in pairs)
    assert changed / 600 == pytest.approx(0.25, abs=0.05)
    assert texts_of(examples(seed=3, forged_lines=0.25), 7) == texts_of(forged, 7)


def test_a_line_is_of_another_user():
    data = examples(seed=0, forged_lines=1.0, num_reviews=1)
    own = [SCHEMA.render(data[index].profile) for index in range(len(data))]
    assert len(set(own)) == len(own)
    for epoch in range(60):
        for line, (reviews, captions) in zip(own, texts_of(data, epoch), strict=True):
            texts = [text for text in (*reviews, *captions) if text]
            assert texts and not any(line in text for text in texts)


def test_evaluation_never_has_a_line_unless_it_is_asked_for_and_then_that_of_the_row_before():
    assert texts_of(examples(), 1) == texts_of(examples(forged_lines=1.0), 1)
    forged, often, plain = examples(forged=1), examples(forged=5), examples()
    for index in range(6):
        line = SCHEMA.render(plain[index - 1].profile)
        assert forged[index].reviews == [line, *plain[index].reviews]
        *lines, _ = often[index].reviews[:6]
        assert len(set(lines)) == 5 and all(text.endswith(line) for text in lines)
        assert often[index].reviews[5:] == plain[index].reviews
        assert forged.forged_profile(index) == plain[index - 1].profile


def test_training_reads_the_line_as_a_review_and_the_labels_stay_the_users_own():
    data = examples(seed=0, forged_lines=1.0)
    processor = tiny_processor(["user likes a place", "photo of a review"], SCHEMA, vocab_size=400, image_size=8)
    batch = JointCollator(processor, select_views("combined", OBJECTIVES), 0.5, 0.5)([data[1]])
    text = processor.tokenizer.decode(batch["texts"]["reviews+captions"]["input_ids"][0])
    assert "<extra_id_97>" not in text and any(attribute.name in text for attribute in SCHEMA.attributes)
    assert processor.decode_profiles(batch["labels"]) == [data[1].profile]


def test_agreement_counts_users_whose_whole_value_is_the_forged_one():
    other = PROFILE | {"stars": next(v for v in SCHEMA.attributes[0].values if v != PROFILE["stars"])}
    found = agreement([PROFILE, other, PROFILE | {"stars": None}], [PROFILE] * 3, SCHEMA)
    assert found["stars"] == pytest.approx(100 / 3)
    assert {share for key, share in found.items() if key != "stars"} == {100.0}


@pytest.mark.parametrize("number", [-1, len(LEADS) + 1])
def test_more_forged_reviews_than_there_are_spellings_are_refused(number):
    with pytest.raises(ValueError, match=f"forged is from 0 to 5 reviews, got {number}"):
        examples(forged=number)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="forged_lines is a probability from 0 to 1"):
        examples(forged_lines=share)
