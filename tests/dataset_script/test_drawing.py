"""What is drawn by a hash: photos by user and id alone, and splits of the sizes asked for."""

import pytest

from dataset_script.drawing import choose_photos, split_users

SIZES = {"train": 3000, "validation": 500, "test": 500}


def test_photos_are_drawn_by_user_and_id_alone():
    names = [f"photo{n}" for n in range(20)]
    first = choose_photos("ann", names, 3)
    assert first == choose_photos("ann", names[::-1] + names, 3)
    assert first != choose_photos("bob", names, 3)
    rest = choose_photos("ann", [name for name in names if name != first[0]], 3)
    assert rest[:2] == first[1:] and first[0] not in rest


def test_a_large_corpus_is_drawn_to_the_sizes_asked_for():
    users = [f"user{n}" for n in range(4100)]
    splits = split_users(users, 0, SIZES, all_users=False)
    assert {name: len(drawn) for name, drawn in splits.items()} == SIZES
    assert len({user for drawn in splits.values() for user in drawn}) == 4000
    assert splits == split_users(users[::-1], 0, SIZES, all_users=False)
    assert splits != split_users(users, 1, SIZES, all_users=False)


@pytest.mark.parametrize(
    ("users", "sizes", "counts"),
    [
        (800, (3000, 500, 500), [600, 100, 100]),
        (12, (3000, 500, 500), [10, 1, 1]),
        (3, (3000, 500, 500), [1, 1, 1]),
        (3, (1, 100, 1), [1, 1, 1]),
        (105, (80, 10, 10), [85, 10, 10]),
    ],
)
def test_other_corpora_keep_the_proportions_and_no_split_is_empty(users, sizes, counts):
    sizes = dict(zip(SIZES, sizes, strict=True))
    splits = split_users(map(str, range(users)), 0, sizes, all_users=True)
    assert [len(drawn) for drawn in splits.values()] == counts


class Name(str):
    """A user's id that tells how many such are held at once, and how many were at most."""

    held = most = 0

    def __init__(self, _):
        Name.held += 1
        Name.most = max(Name.most, Name.held)

    def __del__(self):
        Name.held -= 1


def test_no_more_users_are_held_than_are_drawn():
    splits = split_users((Name(f"user{n}") for n in range(5000)), 0, {"train": 20, "test": 10}, all_users=False)
    assert [len(drawn) for drawn in splits.values()] == [20, 10] and 30 <= Name.most < 40


def test_fewer_users_than_splits_are_refused():
    with pytest.raises(ValueError, match="3 splits need a user each, but 2"):
        split_users(["ann", "bob"], 0, SIZES, all_users=True)
