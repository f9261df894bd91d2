"""What prediction reads of a dataset or a JSONL file, and what it does about users that are not whole."""

import json

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from mmprofile.batching import EvaluationCollator, UserExamples, undecoded
from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.prediction_inputs import (
    DatasetUsers,
    EncodedUsers,
    LineUsers,
    PredictionCollator,
    bucketed_batches,
    open_users,
)
from mmprofile.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user, write_corpus

PROFILE = SCHEMA.profile_from_labels(user(0)["profile"])


@pytest.fixture(scope="module")
def processor():
    texts = ["user likes a place", "photo of a review"]
    return tiny_processor(texts, SCHEMA, vocab_size=400, image_size=8, max_images=3)


def write_lines(folder, *lines) -> str:
    path = folder / "users.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def line(number: int, **fields) -> dict:
    return {"user_id": f"u{number}", "reviews": [f"review of {number}"]} | fields


def encoded(users, processor, paradigm="combined"):
    return [EncodedUsers(users, processor, paradigm)[index] for index in range(len(users))]


@pytest.mark.parametrize(("num_reviews", "num_images"), [(3, 1), (2, 2), (9, 0)])
@pytest.mark.parametrize("paradigm", ["combined", "multimodal", "unimodal"])
def test_a_model_sees_of_a_dataset_what_it_is_evaluated_on(processor, num_reviews, num_images, paradigm):
    processor = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=8, max_images=6)
    dataset = tiny_dataset(3)
    users = DatasetUsers(dataset, SCHEMA, num_reviews, num_images)
    loader = DataLoader(EncodedUsers(users, processor, paradigm), 3, collate_fn=PredictionCollator(processor))
    (batch,) = loader
    examples = UserExamples(undecoded(dataset), SCHEMA, num_reviews, num_images)
    expected = EvaluationCollator(processor, paradigm)([examples[index] for index in range(3)])
    assert torch.equal(expected.pop("labels"), processor.encode_targets([user.profile for user in batch.users]))
    assert set(batch.inputs) == set(expected)
    assert all(torch.equal(batch.inputs[name], expected[name]) for name in expected)
    assert batch.failed == []


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
        ("{", "line 2 of .*users.jsonl is not JSON"),
        ("[" * 200_000, "line 2 of .*users.jsonl has too many brackets in one another$"),
        ("[1]", r"line 2 .*needs user_id and reviews .*got \[1\]"),
        ({"user_id": "u2"}, "needs user_id and reviews"),
        (line(2, image=["a.png"]), r"may have \['images', 'captions', 'profile'\], got .*'image'"),
        (line(2, reviews="good"), "line 2 .*reviews and images are lists of texts"),
        (line(2, images=[3]), "reviews and images are lists of texts"),
        (line(2, captions="good"), "captions are a list of texts, got 'good'"),
        (line(2, profile={"stars": "4"}), r"line 2 .*a profile has the attributes .*got \['stars'\]"),
        (line(2, user_id="\ud83d"), r"line 2 .*: a user_id has no lone surrogates, got '\\ud83d'"),
        (line(2, user_id=7), "a user_id is a text, got 7 in user 1"),
        (line(1), "user_id 'u1' occurs twice, in users 0 and 1"),
    ],
)
def test_a_line_that_is_no_user_is_refused_before_the_work(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        open_users(write_lines(tmp_path, line(1), bad), None, "test", SCHEMA, None, None)


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
    with pytest.raises(ValueError, match="there is no JSONL file or dataset"):
        open_users(str(tmp_path / "nowhere"), None, "test", SCHEMA, None, None)
    with pytest.raises(ValueError, match="num_reviews, num_images and dataset_config are for datasets"):
        open_users(write_lines(tmp_path, line(1)), None, "test", SCHEMA, 3, None)
    dataset = tiny_dataset(3)
    with pytest.raises(ValueError, match=r"\['reviews'\] missing"):
        DatasetUsers(dataset.remove_columns("reviews"), SCHEMA)
    with pytest.raises(ValueError, match=r"a list of \['text', 'images', 'captions'\], got"):
        DatasetUsers(Dataset.from_list([{"user_id": "u", "reviews": ["good"]}]), SCHEMA)
    with pytest.raises(ValueError, match="the model writes profiles of .*Mood.*, the dataset has .*Stars"):
        DatasetUsers(dataset, ProfileSchema(({"name": "Mood", "values": ["Calm", "Shy"]},)))
    with pytest.raises(ValueError, match="'u1' occurs twice, in rows 0 and 2"):
        DatasetUsers(Dataset.from_list([user(1), user(2), user(1)], features=features()), SCHEMA)


def test_a_dataset_without_profiles_will_do():
    users = DatasetUsers(tiny_dataset(2).remove_columns("profile"), SCHEMA)
    assert (users.has_profiles, users[0].profile) == (False, None)
    assert DatasetUsers(tiny_dataset(2), SCHEMA)[0].profile == PROFILE


def test_a_broken_photo_is_left_out_and_noted(tmp_path, processor):
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name))["bytes"])
    (tmp_path / "broken.png").write_bytes(png(1)["bytes"][:40])
    images = ["a.png", "broken.png", "b.png", "gone.png", "c.png", "d.png"]
    users = LineUsers(write_lines(tmp_path, line(1, images=images)), SCHEMA)
    (found,) = encoded(users, processor)
    assert found.inputs["pixel_values"].shape == (3, 3, 8, 8)
    assert found.positions == [0, 2, 4]
    assert (found.num_images, found.photos_left_out) == (6, 3)
    assert [problem.split(":")[0] for problem in found.problems] == ["photo 1", "photo 3", "photo 5"]
    assert "at most 3 photos" in found.problems[2]
    (blind,) = encoded(users, processor, "unimodal")
    assert (blind.inputs["pixel_values"], blind.positions, blind.problems) == (None, [], [])


def test_users_without_a_review_are_kept_apart_from_the_batch(tmp_path, processor):
    lines = [line(1), line(2, reviews=[" ", ""]), line(3, reviews=[]), line(4)]
    users = encoded(LineUsers(write_lines(tmp_path, *lines), SCHEMA), processor)
    batch = PredictionCollator(processor)(users)
    assert [found.index for found in batch.users] == [0, 3]
    assert [found.index for found in batch.failed] == [1, 2]
    assert all("a review with words" in found.problems[0] for found in batch.failed)
    assert batch.inputs["input_ids"].shape[0] == 2
    assert PredictionCollator(processor)(batch.failed).inputs is None


def test_a_row_of_a_dataset_that_is_not_valid_is_one_users_problem(processor):
    rows = [user(number, photos=2) for number in range(3)]
    rows[0]["reviews"][0]["captions"] = ["one caption"]
    rows[1]["profile"]["stars"] = None
    rows[2]["reviews"] = []
    found = encoded(DatasetUsers(Dataset.from_list(rows, features=features()), SCHEMA), processor)
    assert found[0].problems == ["review 0 has 2 photos and 1 captions"]
    assert found[1].inputs is not None and found[1].profile is None
    assert found[2].inputs is None and found[2].profile is not None


def test_batches_are_of_like_length_the_longest_first():
    lengths = torch.tensor([5, 1, 9, 5, 7, 2]).numpy()
    assert list(bucketed_batches(lengths, range(6), 2)) == [[2, 4], [0, 3], [5, 1]]
    assert list(bucketed_batches(lengths, range(1, 4), 2)) == [[2, 3], [1]]
