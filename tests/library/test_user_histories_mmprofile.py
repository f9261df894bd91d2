"""A user's history, cut in views."""

import pytest

from mmprofile.user_histories_mmprofile import UserView, cut_history, split_reviews, user_views


def numbers(reviews: int, num_reviews: int, views: int | None = None) -> list[list[int]]:
    return [list(part) for part in cut_history(reviews, num_reviews, views)]


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
