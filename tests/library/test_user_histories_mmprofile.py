"""A user's history, cut in views."""

from collections import Counter

import pytest

from mmprofile.user_histories_mmprofile import (
    UserView,
    cut_history,
    drawn_reviews,
    photo_weights,
    split_reviews,
    user_views,
)

numbers = cut_history


def test_each_review_is_in_one_view_the_newest_first():
    assert numbers(7, 3) == [[0], [1, 2, 3], [4, 5, 6]]
    assert numbers(6, 3) == [[0, 1, 2], [3, 4, 5]]
    assert numbers(2, 3) == [[0, 1]]
    assert numbers(4, 1) == [[0], [1], [2], [3]]
    assert numbers(0, 3) == []
    histories = [numbers(reviews, size) for reviews in range(1, 30) for size in (1, 2, 3, 5)]
    assert len(histories) == 116
    assert all(sum(parts, []) == list(range(len(sum(parts, [])))) for parts in histories)
    assert {len(sum(numbers(reviews, 3), [])) - reviews for reviews in range(30)} == {0}


def test_fewer_views_are_the_newest_and_a_single_one_is_full():
    assert numbers(7, 3, 2) == [[0], [1, 2, 3]]
    assert numbers(7, 3, 9) == numbers(7, 3)
    assert numbers(7, 3, 1) == [[0, 1, 2]]
    assert numbers(2, 3, 1) == [[0, 1]]
    assert numbers(0, 3, 1) == []


def test_draws_stand_behind_the_views_and_take_all_reviews_before_any_a_second_time():
    parts = numbers(24, 3, draws=20)
    assert parts[:8] == numbers(24, 3) and len(parts) == 28
    drawn = parts[8:]
    assert all(part == sorted(set(part)) and len(part) == 3 for part in drawn)
    assert sorted(sum(drawn[:8], [])) == sorted(sum(drawn[8:16], [])) == list(range(24))
    assert len({tuple(part) for part in parts}) > 25
    for reviews, size in ((7, 3), (5, 3), (25, 3), (4, 3), (9, 4)):
        hands = drawn_reviews(reviews, size, 60)
        assert {len(set(hand)) for hand in hands} == {size}
        counts = Counter(sum(hands, []))
        assert sorted(counts) == list(range(reviews)) and max(counts.values()) - min(counts.values()) <= 1


def test_draws_are_always_the_same_of_reviews_that_are_read_and_none_of_a_single_view():
    assert numbers(24, 3, draws=5) == numbers(24, 3, draws=9)[:13]
    assert numbers(24, 3, 2, draws=9)[2:] == drawn_reviews(6, 3, 9)
    assert numbers(3, 3, draws=4) == numbers(3, 3) and numbers(24, 3, 1, draws=4) == numbers(24, 3, 1)
    assert numbers(0, 3, draws=4) == []


def test_a_drawn_view_has_its_reviews_photos_or_those_of_a_view():
    photos, notes = [10, 11, 12], ["x", None, "z"]
    own = user_views(list("abcd"), photos, notes, [1, 0, 2, 0], 3, draws=2)
    assert own[:2] == user_views(list("abcd"), photos, notes, [1, 0, 2, 0], 3)
    for part, view in zip(drawn_reviews(4, 3, 2), own[2:], strict=True):
        places = [place for review in part for place in {0: [0], 2: [1, 2]}.get(review, [])]
        assert view.reviews == ["abcd"[n] for n in part] and view.positions == places
        assert (view.images, view.captions) == ([photos[n] for n in places], [notes[n] for n in places])
    dealt = user_views(list("abcd"), photos, ["x"], None, 3, draws=3)
    assert [view.positions for view in dealt] == [[0, 2], [1], [0, 2], [1], [0, 2]]
    assert [view.captions for view in dealt] == [["x"], [], ["x"], [], ["x"]]


def test_a_photo_in_several_views_has_the_sum_of_its_weights():
    assert photo_weights([2, 0, 2], [0.25, 0.5, 0.125], 4) == [0.5, 0, 0.375, 0]
    assert photo_weights([2, 0], [], 3) == [0, 0, 0]


@pytest.mark.parametrize("reviews", range(1, 10))
def test_a_new_review_changes_the_newest_view_alone(reviews):
    texts = [f"review {number}" for number in range(reviews)]
    before, after = (user_views(some, [], [], None, 3) for some in (texts, ["new", *texts]))
    assert after[0].reviews[0] == "new"
    unchanged = len(before) - (len(before[0].reviews) < 3)
    assert unchanged >= len(before) - 1
    assert after[len(after) - unchanged :] == before[len(before) - unchanged :]
    assert len(after) - unchanged == 1


def test_photos_whose_reviews_are_not_known_are_dealt_out_one_by_one():
    views = user_views(list("abcd"), [10, 11, 12], ["x", None, "z"], None, 3)
    assert views == [
        UserView(["a"], [10, 12], ["x", "z"], [0, 2]),
        UserView(["b", "c", "d"], [11], [None], [1]),
    ]
    assert user_views(list("abcd"), [10, 11], ["x"], None, 3)[1] == UserView(["b", "c", "d"], [11], [], [1])
    assert user_views([], [10], ["x"], None, 3) == [UserView([], [10], ["x"], [0])]
    assert user_views(list("abcd"), [10, 11], [], None, 3, 1) == [UserView(["a", "b", "c"], [10, 11], [], [0, 1])]


def test_photos_of_reviews_are_in_their_views():
    views = user_views(list("abcd"), [10, 11, 12], ["x", None, "z"], [1, 0, 2, 0], 3)
    assert views == [
        UserView(["a"], [10], ["x"], [0], [1]),
        UserView(["b", "c", "d"], [11, 12], [None, "z"], [1, 2], [0, 2, 0]),
    ]
    newest = user_views(list("abcd"), [10, 11, 12], ["x", None, "z"], [1, 0, 0, 2], 3, 1)
    assert newest == [UserView(["a", "b", "c"], [10], ["x"], [0], [1, 0, 0])]


def test_reviews_are_texts_or_objects_with_photos_of_their_own():
    assert split_reviews(["good", "bad"]) is None
    given = [{"text": "good", "images": [1, 2], "captions": ["a", None]}, "bad", {"text": "so", "images": [3]}]
    assert split_reviews(given) == (["good", "bad", "so"], [1, 2, 3], ["a", None, None], [2, 0, 1])
    assert split_reviews([{"text": "good", "images": None}]) == (["good"], [], [], [0])


@pytest.mark.parametrize(
    ("review", "message"),
    [
        ({"images": []}, "review 2 needs a text"),
        ({"text": "good", "photos": []}, r"review 2 has text, images, captions, got \['photos'\]"),
        ({"text": "good", "images": 7}, "images of review 2 are a list, got int"),
        ({"text": "good", "images": [7], "captions": "cake"}, "captions of review 2 are a list, got str"),
        ({"text": "good", "images": [7], "captions": ["a", "b"]}, "review 2 has 1 photos and 2 captions"),
    ],
)
def test_another_form_is_refused_and_the_review_named(review, message):
    with pytest.raises(ValueError, match=message):
        split_reviews(["good", review])
