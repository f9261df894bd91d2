"""What prediction reads of a dataset or a JSONL file."""

import json

import pytest
from datasets import Dataset

from mmprofile.configuration_mmprofile import ProfileSchema
from prediction.inputs import DatasetUsers, LineUsers, open_users
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user, write_corpus

PROFILE = SCHEMA.profile_from_labels(user(0)["profile"])


def write_lines(folder, *lines) -> str:
    path = folder / "users.jsonl"
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return str(path)


def line(number: int, **fields) -> dict:
    return {"user_id": f"u{number}", "reviews": [f"review of {number}"]} | fields


def test_photos_keep_their_places_among_all_photos_of_a_user():
    found = DatasetUsers(tiny_dataset(2, reviews=4, photos=3), SCHEMA, num_reviews=2, num_images=2)[1]
    assert (found.positions, found.num_images) == ([0, 1, 3, 4], 12)
    assert len(found.images) == 4


def test_lengths_are_those_of_the_reviews_taken():
    rows = [user(number, photos=number) for number in range(4)]
    for row, texts in zip(rows, (["abc", "de"], [], ["abcd", None, "e"], ["", "xyz", "12345"]), strict=True):
        row["reviews"] = [{"text": text, "images": [], "captions": []} for text in texts]
    dataset = Dataset.from_list(rows, features=features())
    assert DatasetUsers(dataset, SCHEMA, num_reviews=2).lengths.tolist() == [5, 0, 4, 3]
    assert DatasetUsers(dataset, SCHEMA, num_reviews=9).lengths.tolist() == [5, 0, 5, 8]
    assert not DatasetUsers(dataset, SCHEMA).has_captions and DatasetUsers(tiny_dataset(2), SCHEMA).has_captions


def test_a_line_is_a_user_with_all_that_stands_in_it(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1)["bytes"])
    rich = line(1, images=["a.png", "no.png"], captions=["x", None], profile=PROFILE)
    users = LineUsers(write_lines(tmp_path, rich, "", line(2, captions=None)), SCHEMA)
    users.look_for_photos()
    assert users.ids == ["u1", "u2"]
    assert users.lengths.tolist() == [11, 11]
    assert (users.has_captions, users.has_profiles) == (True, False)
    assert users[0].images == [str(tmp_path / "a.png"), str(tmp_path / "no.png")]
    assert (users[0].captions, users[0].profile, users[0].positions) == (["x", None], PROFILE, [0, 1])
    assert (users[1].user_id, users[1].reviews, users[1].captions) == ("u2", ["review of 2"], [])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 2 of .*users.jsonl is not JSON: Expecting property name enclosed in double quotes"),
        ('{"secret": "\udcff"}', "line 2 of .*users.jsonl is not JSON: no text in UTF-8$"),
        ("[" * 200_000, "line 2 of .*users.jsonl has too many brackets in one another$"),
        ('["secret"]', "line 2 of .*needs an object with user_id and reviews, got a list$"),
        ({"user_id": "secret"}, "line 2 of .*needs user_id and reviews, reviews missing$"),
        (line(2, image=["secret"]), r"may have images, captions, profile beside .*, got \['image'\]$"),
        (line(2, reviews="secret"), "line 2 of .*: reviews are a list of texts, got a text$"),
        (line(2, reviews=["secret", None]), "line 2 of .*: reviews are a list of texts, number 2 is null$"),
        (line(2, images=["secret", 3]), "line 2 of .*: images are a list of paths, number 2 is a number$"),
        (line(2, images=[None]), "line 2 of .*: images are a list of paths, number 1 is null$"),
        (line(2, captions={"secret": 1}), "line 2 of .*: captions are a list of texts, got an object$"),
        (line(2, captions=[None, ["secret"]]), "line 2 of .*: captions are a list of texts, number 2 is a list$"),
        (line(2, profile={"stars": "4"}), r"line 2 .*a profile has the attributes .*got \['stars'\]$"),
        (line(2, profile=PROFILE | {"stars": "9" * 999}), r"line 2 .*Stars takes 1 of .*, got '9+\.\.\.9+'$"),
        (line(2, user_id="\ud83d"), r"line 2 .*: a user_id has no lone surrogates, got '\\ud83d'"),
        (line(2, user_id=["secret"]), "line 2 .*: a user_id is a text, got a list$"),
        (line(1), "user_id 'u1' occurs twice, in users 0 and 1"),
    ],
)
def test_a_line_that_is_no_user_is_refused_before_the_work(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message) as refused:
        open_users(write_lines(tmp_path, line(1), bad), None, "test", SCHEMA, None, None)
    assert "secret" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_photo_that_is_an_address_is_told_as_such_and_not_as_a_path(tmp_path):
    users = LineUsers(write_lines(tmp_path, line(1, images=["https://example.com/a.png", "a.png"])), SCHEMA)
    assert users[0].images == ["https://example.com/a.png", str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match="photos .*, e.g. 'https://example.com/a.png'; no address is fetched$"):
        users.look_for_photos()


def test_a_file_without_users_or_with_wrong_photo_paths_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no users"):
        LineUsers(write_lines(tmp_path), SCHEMA)
    users = LineUsers(write_lines(tmp_path, line(1, images=["photos/a.png"]), line(2)), SCHEMA)
    with pytest.raises(ValueError, match="none of the 1 photos .*photos/a.png.*relative to"):
        users.look_for_photos()


def test_what_is_wrong_with_a_dataset_is_said_before_the_work(tmp_path):
    write_corpus(tmp_path / "corpus")
    corpus = str(tmp_path / "corpus")
    assert len(open_users(corpus, None, "test", SCHEMA, None, None)) == 4
    with pytest.raises(ValueError, match=r"has the splits \['train', 'validation', 'test'\], not 'dev'"):
        open_users(corpus, None, "dev", SCHEMA, None, None)
    with pytest.raises(ValueError, match="there is no corpus"):
        open_users(str(tmp_path / "nowhere"), None, "test", SCHEMA, None, None)
    with pytest.raises(ValueError, match="num_images, dataset_config and dataset_revision are for datasets"):
        open_users(write_lines(tmp_path, line(1)), None, "test", SCHEMA, 3, 1)
    dataset = tiny_dataset(3)
    with pytest.raises(ValueError, match=r"\['reviews'\] missing"):
        DatasetUsers(dataset.remove_columns("reviews"), SCHEMA)
    with pytest.raises(ValueError, match="a list of structs of text, images and captions, .* got lists of texts$"):
        DatasetUsers(Dataset.from_list([{"user_id": "u", "reviews": ["good"]}]), SCHEMA)
    with pytest.raises(ValueError, match="the model writes profiles of .*Mood.*, the dataset has .*Stars"):
        DatasetUsers(dataset, ProfileSchema(({"name": "Mood", "values": ["Calm", "Shy"]},)))
    with pytest.raises(ValueError, match="'u1' occurs twice, in rows 0 and 2"):
        DatasetUsers(Dataset.from_list([user(1), user(2), user(1)], features=features()), SCHEMA)


def test_a_dataset_without_profiles_will_do():
    users = DatasetUsers(tiny_dataset(2).remove_columns("profile"), SCHEMA)
    assert (users.has_profiles, users[0].profile) == (False, None)
    assert DatasetUsers(tiny_dataset(2), SCHEMA)[0].profile == PROFILE


def test_reviews_with_photos_of_their_own_are_split_into_views_with_them(tmp_path):
    reviews = [
        {"text": "a", "images": ["1.png", "2.png"], "captions": ["one", None]},
        "b",
        {"text": "c", "images": ["3.png"]},
    ]
    (tmp_path / "1.png").write_bytes(png(1)["bytes"])
    path = write_lines(tmp_path, line(1, reviews=reviews))
    whole = LineUsers(path, SCHEMA)[0]
    assert (whole.reviews, whole.captions, whole.num_images) == (["a", "b", "c"], ["one", None, None], 3)
    views = LineUsers(path, SCHEMA, 1, None)[0].in_views(1, None)
    assert [view.reviews for view in views] == [["a"], ["b"], ["c"]]
    assert [view.positions for view in views] == [[0, 1], [], [2]]
    assert [len(view.images) for view in views] == [len(view.captions) for view in views] == [2, 0, 1]
    few = LineUsers(path, SCHEMA, 1, 2)
    assert (few[0].reviews, few[0].positions, few[0].num_images) == (["a", "b"], [0, 1], 3)
    assert (few.view_counts.tolist(), LineUsers(path, SCHEMA).view_counts.tolist()) == ([2], [1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reviews": [{"text": "a"}], "images": ["secret"]}, "images and captions are the line's or the reviews'"),
        ({"reviews": [{"text": "a", "photos": []}]}, r"review 1 has text, images, captions, got \['photos'\]"),
        ({"reviews": ["a", {"images": []}]}, "review 2 needs a text"),
        ({"reviews": [{"text": 3}]}, "reviews are a list of texts, number 1 is a number"),
        ({"reviews": [{"text": "a", "images": "secret"}]}, "images of review 1 are a list, got str"),
        ({"reviews": [{"text": "a", "images": [1]}]}, "images are a list of paths, number 1 is a number"),
        ({"reviews": [{"text": "a", "captions": ["secret"]}]}, "review 1 has 0 photos and 1 captions"),
    ],
)
def test_a_review_that_is_none_is_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message) as refused:
        LineUsers(write_lines(tmp_path, line(1, **fields)), SCHEMA)
    assert "secret" not in str(refused.value)


def test_photos_of_no_review_are_dealt_out_to_the_views(tmp_path):
    photos, captions = [f"{number}.png" for number in range(5)], ["zero", None, "two", "three", None]
    path = write_lines(tmp_path, line(1, reviews=["a", "b", "c", "d"], images=photos, captions=captions))
    views = LineUsers(path, SCHEMA, 3, None)[0].in_views(3, None)
    assert [view.reviews for view in views] == [["a"], ["b", "c", "d"]]
    assert [view.positions for view in views] == [[0, 2, 4], [1, 3]]
    assert [view.captions for view in views] == [["zero", "two", None], [None, "three"]]
    assert open_users(path, None, "test", SCHEMA, None, None, views=2, view_reviews=2).view_counts.tolist() == [2]


def seen(users) -> list[list[list[str]]]:
    found = [[view.reviews for view in users[index].in_views(3, users.views)] for index in range(len(users))]
    assert [len(views) for views in found] == users.view_counts.tolist()
    assert [sum(map(len, sum(views, []))) for views in found] == users.lengths.tolist()
    return found


def test_the_papers_recipe_is_that_of_a_file_too(tmp_path):
    """One view of the newest three reviews with their photos; all photos where whose they are is not known."""
    texts, photos = [f"review {number}" for number in range(5)], [f"{number}.png" for number in range(5)]
    own = [{"text": text, "images": [photo]} for text, photo in zip(texts, photos, strict=True)]
    path = write_lines(tmp_path, line(1, reviews=own), line(2, reviews=texts, images=photos), line(3))
    users = open_users(path, None, "test", SCHEMA, 3, None, views=1)
    assert [users[index].reviews for index in range(3)] == [texts[:3], texts[:3], ["review of 3"]]
    assert [users[index].positions for index in range(3)] == [[0, 1, 2], [0, 1, 2, 3, 4], []]
    assert [users[index].num_images for index in range(3)] == [5, 5, 0]
    assert users.lengths.tolist() == [24, 24, 11] and users.view_counts.tolist() == [1, 1, 1]
    assert users.view_reviews is None
    whole = open_users(path, None, "test", SCHEMA, None, None, views=1)
    assert (whole[0].reviews, whole[0].positions, whole.lengths.tolist()) == (texts, [0, 1, 2, 3, 4], [40, 40, 11])
    assert [one == other for one, other in zip(users.digests(), whole.digests(), strict=True)] == [False, False, True]


@pytest.mark.parametrize("kind", ["dataset", "file"])
def test_a_new_review_changes_the_newest_view_alone(tmp_path, kind):
    texts = [f"review {number}" for number in reversed(range(9))]  # newest first

    def users(views: int | None):
        path = write_lines(tmp_path, line(1, reviews=texts[1:]), line(2, reviews=texts))
        rows = [
            user(1) | {"reviews": [{"text": text, "images": [], "captions": []} for text in its]}
            for its in (texts[1:], texts)
        ]
        rows[1]["user_id"] = "u2"
        if kind == "dataset":
            return DatasetUsers(Dataset.from_list(rows, features=features()), SCHEMA, 3, views=views)
        return LineUsers(path, SCHEMA, 3, views)

    before, after = seen(users(None))
    assert [len(view) for view in before] == [2, 3, 3] and after[1:] == before[1:]
    assert after[0] == [texts[0], *before[0]]
    assert seen(users(2)) == [before[:2], after[:2]]
    assert users(1)[0].reviews == texts[1:4]  # the paper's recipe
