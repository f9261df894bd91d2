"""A user's history without one review or photo, as layouts and as rows."""

from mmprofile.user_deletions_mmprofile import encode_deletions, without_photo, without_review
from mmprofile.user_histories_mmprofile import UserView, user_views

DEALT = user_views(list("abcd"), [10, 11, 12], ["x", "y", "z"], None, 3)  # a | b c d
OWN = user_views(list("abcd"), [10, 11, 12], ["x", "y", "z"], [1, 0, 2, 0], 3)


def encode(view: UserView) -> dict | None:
    """Letters as ids; views of blanks alone have no words."""
    ids = [ord(letter) for letter in view.reviews + view.captions if letter != " "]
    return {"input_ids": ids, "positions": view.positions} if any(view.reviews) and ids else None


def test_a_review_goes_from_its_view_and_its_own_photos_with_it():
    assert without_review(DEALT, 2) == [DEALT[0], UserView(["b", "d"], [11], ["y"], [1])]
    assert without_review(OWN, 2) == [OWN[0], UserView(["b", "d"], [], [], [], [0, 0])]
    assert without_review(OWN, 0) == [OWN[1]]
    assert without_review(OWN, 3) == [OWN[0], UserView(["b", "c"], [11, 12], ["y", "z"], [1, 2], [0, 2])]
    assert without_review(DEALT, 4) == DEALT


def test_photos_of_a_view_without_a_review_left_are_read_in_the_next_one():
    assert without_review(DEALT, 0) == [UserView(["b", "c", "d"], [11, 10, 12], ["y", "x", "z"], [1, 0, 2])]
    oldest = user_views(list("ab"), [10, 11], [], None, 1)
    assert without_review(oldest, 1) == [UserView(["a"], [10, 11], [], [0, 1])]
    assert without_review(user_views(["a"], [10], [], None, 3), 0) == []


def test_a_photo_goes_with_its_caption_where_it_is_known():
    assert without_photo(DEALT, 2) == [UserView(["a"], [10], ["x"], [0]), DEALT[1]]
    unpaired = user_views(["a"], [10, 11], ["x"], None, 3)
    assert without_photo(unpaired, 0) == [UserView(["a"], [11], ["x"], [1])]
    assert without_photo(OWN, 1)[1] == UserView(["b", "c", "d"], [12], ["z"], [2])
    assert without_photo(DEALT, 7) == DEALT


def test_captions_are_of_photos_only_where_all_of_the_users_are():
    """Three photos and four captions: the first of two views has two of each by chance."""
    views = user_views(list("abcd"), [10, 11, 12], list("wxyz"), None, 3)
    assert [len(view.captions) for view in views] == [2, 2]
    assert without_photo(views, 0)[0].captions == ["w", "y"]


def test_rows_that_do_not_change_are_encoded_once():
    encoded = encode_deletions(DEALT, encode, reviews=4, photos=3)
    assert encoded.views == 2
    assert encoded.without_review == [[2], [0, 4], [0, 6], [0, 8]]
    assert encoded.without_photo == [[3, 1], [0, 5], [7, 1]]
    assert [row["input_ids"] for row in encoded.rows[:2]] == [[97, 120, 122], [98, 99, 100, 121]]
    assert encoded.rows[2] == {"input_ids": [98, 99, 100, 121, 120, 122], "positions": [1, 0, 2]}
    assert len(encoded.rows) == 9


def test_what_is_not_read_changes_nothing():
    views = user_views(["a", " ", "b", "b"], [], [], None, 3, 1)
    encoded = encode_deletions(views, encode, reviews=4, photos=1)
    assert encoded.views == 1
    assert encoded.without_review == [[1], [0], [2], [0]]  # the blank one and the one that no view has
    assert encoded.without_photo == [[0]]


def test_without_the_only_review_nothing_is_left():
    assert encode_deletions(user_views(["a"], [], [], None, 3), encode, reviews=1).without_review == [[]]


def test_beyond_so_many_searches_nothing_is_asked_of_reviews_and_photos_by_turns():
    encoded = encode_deletions(DEALT, encode, reviews=4, photos=3, most=5)
    whole = encode_deletions(DEALT, encode, reviews=4, photos=3)
    assert (encoded.not_asked, whole.not_asked) == (2, 0)
    assert [places is None for places in encoded.without_review] == [False, False, False, True]
    assert [places is None for places in encoded.without_photo] == [False, False, True]
    for found, expected in zip(encoded.without_review[:3], whole.without_review[:3], strict=True):
        assert [encoded.rows[n] for n in found or ()] == [whole.rows[n] for n in expected or ()] != []
    first = encode_deletions(DEALT, encode, reviews=4, photos=3, most=1)
    assert (first.without_review, first.without_photo) == ([[2], None, None, None], [None] * 3)
    # What one kind does not need is the other's.
    few = encode_deletions(DEALT, encode, reviews=4, photos=1, most=4)
    assert (few.without_review.count(None), few.without_photo.count(None)) == (1, 0)


def test_what_changes_nothing_that_is_read_takes_no_search():
    views = user_views(["a", " ", "b", "b"], [10], [], None, 3, 1)
    encoded = encode_deletions(views, encode, reviews=4, photos=2, most=3)
    assert encoded.without_review == [[1], [0], [3], [0]] and encoded.without_photo == [[2], [0]]
    one = encode_deletions(views, encode, reviews=4, photos=2, most=1)
    assert one.without_review == [[1], None, None, [0]] and one.without_photo == [None, [0]]


def test_views_that_read_alike_are_rows_of_their_own():
    views = user_views(list("aa"), [], [], None, 1)
    encoded = encode_deletions(views, encode, reviews=2)
    assert (encoded.views, len(encoded.rows)) == (2, 2)
    assert [len(rows) for rows in encoded.without_review] == [1, 1]
