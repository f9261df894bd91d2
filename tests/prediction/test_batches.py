"""What a batch for prediction holds, and what becomes of users that are not whole."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import ViTImageProcessorPil

from files.unreadable_photos import UnreadablePhoto
from mmprofile import Sees
from prediction import batches as prediction_batches
from prediction.batches import EncodedUsers, PredictionCollator, batch_parts, bucketed_batches, join_parts
from prediction.inputs import DatasetUsers, LineUsers
from systems.presets import tiny_processor
from tests.prediction.test_inputs import line, write_lines
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user
from training.batching import EvaluationCollator, UserExamples, undecoded
from training.photo_check import ReadablePhotos

ALL, NO_IMAGES = Sees(True, True), Sees(False, True)


@pytest.fixture(scope="module")
def processor():
    texts = ["user likes a place", "photo of a review"]
    return tiny_processor(texts, SCHEMA, vocab_size=400, image_size=8, max_images=3)


class Others(ViTImageProcessorPil):
    """Somebody's image processor, which does one thing only."""

    def __init__(self):
        super().__init__(size={"height": 8, "width": 8})

    def __call__(self, images, **options):
        return {("pt",): super().__call__(images, **options)}[tuple(options.values())]


def encoded(users, processor, sees=ALL):
    encoded = EncodedUsers(users, processor, sees)
    return [encoded[index] for index in range(len(users))]


def read(users, processor, sees, batches):
    """The batches, read in parts, and the model's inputs of each."""
    encoded = EncodedUsers(users, processor, sees)
    loader = DataLoader(encoded, batch_sampler=batch_parts(batches), collate_fn=PredictionCollator(processor))
    joined = list(join_parts(loader, batches, encoded.table))
    pad, device = processor.tokenizer.pad_token_id, torch.device("cpu")
    return joined, [batch.joined_inputs(pad, device) if batch.users else {} for batch in joined]


@pytest.mark.parametrize(("num_reviews", "num_images"), [(3, 1), (2, 2), (9, 0)])
@pytest.mark.parametrize("sees", [ALL, Sees(True, False), NO_IMAGES, Sees(False, False)])
def test_a_model_sees_of_a_dataset_what_it_is_evaluated_on(processor, num_reviews, num_images, sees):
    processor = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=8, max_images=6)
    dataset = tiny_dataset(3)
    users = DatasetUsers(dataset, SCHEMA, num_reviews, num_images)
    (batch,), (inputs,) = read(users, processor, sees, [[0, 1, 2]])
    examples = UserExamples(undecoded(dataset), SCHEMA, num_reviews, num_images)
    expected = EvaluationCollator(processor, sees)([examples[index] for index in range(3)])
    assert torch.equal(expected.pop("labels"), processor.encode_targets([user.profile for user in batch.users]))
    assert set(inputs) == set(expected)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert batch.failed == []


def test_a_broken_photo_is_left_out_and_noted(tmp_path, processor):
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name))["bytes"])
    (tmp_path / "broken.png").write_bytes(png(1)["bytes"][:40])
    images = ["a.png", "broken.png", "b.png", "gone.png", "c.png", "d.png"]
    users = LineUsers(write_lines(tmp_path, line(1, images=images)), SCHEMA)
    (found,) = encoded(users, processor)
    assert found.inputs[0]["pixel_values"].shape == (3, 3, 8, 8)
    assert found.positions == [0, 2, 4]
    assert (found.num_images, found.photos_left_out) == (6, 3)
    assert [problem.split(":")[0] for problem in found.problems] == ["photo 1", "photo 3", "photo 5"]
    assert found.problems[2] == "photo 5: a view has at most 3 photos (max_images)"
    (blind,) = encoded(users, processor, NO_IMAGES)
    assert (blind.inputs[0]["pixel_values"], blind.positions, blind.problems) == (None, [], [])


def with_a_broken_photo():
    rows = [user(number, reviews=1) for number in range(2)]
    rows[1]["reviews"][0]["images"][0] = {"bytes": png(1)["bytes"][:40], "path": None}
    return DatasetUsers(Dataset.from_list(rows, features=features()), SCHEMA, num_images=2)


def test_a_caption_of_a_broken_photo_goes_with_it_as_in_training(tmp_path, processor):
    users, split = with_a_broken_photo(), undecoded(with_a_broken_photo().dataset)
    readable = ReadablePhotos(processor)
    example = UserExamples(split, SCHEMA, num_images=2, readable=readable)[1]
    assert example.captions == ["photo 1 of review 0"]
    found = encoded(users, processor)[1].inputs[0]["input_ids"]
    assert found == EvaluationCollator(processor, ALL)([example])["input_ids"][0].tolist()
    blind = encoded(users, processor, NO_IMAGES)[1].inputs[0][
        "input_ids"
    ]  # who sees no photo reads what is told of it
    assert len(blind) > len(found)
    (tmp_path / "broken.png").write_bytes(png(1)["bytes"][:40])
    for captions, kept in ((["a place"], []), (["a place", "photo"], ["a place", "photo"])):
        lines = write_lines(tmp_path, line(1, reviews=["good"], images=["broken.png"], captions=captions))
        (found,) = encoded(LineUsers(lines, SCHEMA), processor)
        assert found.inputs[0]["input_ids"] == processor.encode_text(["good"], kept)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_prediction_stops_at_a_broken_photo_if_asked_and_names_it(processor, num_workers):
    users = EncodedUsers(with_a_broken_photo(), processor, ALL, "stop")
    assert users[0].photos_left_out == 0
    loader = DataLoader(users, collate_fn=PredictionCollator(processor), num_workers=num_workers)
    with pytest.raises(UnreadablePhoto, match="^user 'u1', photo 0: the image of 40 bytes is broken"):
        list(loader)


def test_users_without_a_review_are_kept_apart_from_the_batch(tmp_path, processor):
    lines = [line(1), line(2, reviews=[" ", ""]), line(3, reviews=[]), line(4)]
    users = encoded(LineUsers(write_lines(tmp_path, *lines), SCHEMA), processor)
    batch = PredictionCollator(processor)(users)
    assert [found.index for found in batch.users] == [0, 3]
    assert [found.index for found in batch.failed] == [1, 2]
    assert all("a review with words" in found.problems[0] for found in batch.failed)
    assert batch.inputs[0]["input_ids"].shape[0] == 2
    assert PredictionCollator(processor)(batch.failed).inputs == []


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


@pytest.mark.parametrize("sees", [ALL, NO_IMAGES])
@pytest.mark.parametrize("part", [1, 2, 3, 9])
@pytest.mark.parametrize("in_bytes", [True, False])
def test_a_batch_is_what_the_pipeline_makes_of_its_users_in_however_many_parts_it_is_read(
    tmp_path, monkeypatch, processor, sees, part, in_bytes
):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name))["bytes"])
    photos = [["a.png"], [], [], ["b.png", "c.png"], [], ["c.png", "b.png", "a.png"], []]
    texts = [["a place " * (number + 1)] for number in range(7)]
    texts[4] = [" "]
    lines = [line(number, reviews=texts[number], images=images) for number, images in enumerate(photos)]
    users = LineUsers(write_lines(tmp_path, *lines), SCHEMA)
    monkeypatch.setattr(prediction_batches, "PART", part)
    if not in_bytes:
        monkeypatch.setattr(processor, "image_processor", Others())
    batches = [[5, 1, 2, 4], [4], [0, 3, 6]]
    parts = batch_parts(batches)
    assert [row for rows in parts for row in rows] == [5, 1, 2, 4, 4, 0, 3, 6]
    assert max(map(len, parts)) == min(part, 4)
    told = nullcontext() if in_bytes or not sees.images else pytest.warns(match="four times the size: KeyError")
    with told:
        joined, inputs = read(users, processor, sees, batches)
    assert [[user.index for user in batch.users] for batch in joined] == [[5, 1, 2], [], [0, 3, 6]]
    assert [[user.index for user in batch.failed] for batch in joined] == [[4], [4], []]
    photos_read = [tensors["pixel_values"] for b in joined for tensors in b.inputs if "pixel_values" in tensors]
    assert bool(photos_read) == sees.images
    assert all(tensor.dtype == (torch.uint8 if in_bytes else torch.float32) for tensor in photos_read)
    for batch, found in zip(joined, inputs, strict=True):
        rows = [user.index for user in batch.users]
        paths = [[str(tmp_path / name) for name in photos[row]] for row in rows]
        alone = [processor.encode_user(sees, texts[r], images) for r, images in zip(rows, paths, strict=True)]
        expected = processor.pad_users(alone) if alone else {}
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_captions_of_26_photos_leave_10_reviews_three_quarters_of_the_tokens_and_the_row_says_so(tmp_path):
    many = {"reviews": [f"review {number} " + "a b c d e f g h " * 4 for number in range(10)]}
    many["captions"] = [f"photo {number} of a place with a view of the water" for number in range(26)]
    users = LineUsers(
        write_lines(tmp_path, line(1, **many), line(2, reviews=["a place"], captions=["a photo"])), SCHEMA
    )
    processor = tiny_processor(["a place"], SCHEMA, max_text_tokens=223)
    shortened, whole = encoded(users, processor)
    tokens = processor.tokenizer.convert_ids_to_tokens(shortened.inputs[0]["input_ids"])
    assert len(tokens) == 223
    captions = len(tokens) - tokens.index("<extra_id_98>") - 1
    assert 222 / 4 - 10 <= captions <= 222 / 4 and tokens.count("<extra_id_99>") >= 2
    assert shortened.tokens_left_out > 0 and len(shortened.problems) == 1
    assert "shortened to max_text_tokens=223: " in shortened.problems[0]
    assert (whole.tokens_left_out, whole.problems) == (0, [])


def test_a_user_in_views_is_read_part_by_part_and_photos_keep_their_places(processor):
    users = DatasetUsers(tiny_dataset(2, reviews=5, photos=1), SCHEMA, num_reviews=2, views=None)
    assert users.view_counts.tolist() == [3, 3]
    (batch,), (inputs,) = read(users, processor, ALL, [[0, 1]])
    assert [user.num_views for user in batch.users] == [3, 3]
    assert [user.positions for user in batch.users] == [[0, 1, 2, 3, 4]] * 2
    assert inputs["input_ids"].shape[0] == len(inputs["image_mask"]) == 6
    assert inputs["image_mask"].sum(dim=1).tolist() == [1, 2, 2] * 2
    whole = DatasetUsers(users.dataset, SCHEMA, num_reviews=5)[0]
    for row, part in enumerate((slice(0, 1), slice(1, 3), slice(3, 5))):
        text = processor.encode_text(whole.reviews[part], whole.captions[part])
        assert inputs["input_ids"][row, : len(text)].tolist() == text


def test_each_view_has_as_many_photos_as_the_processor_takes(tmp_path, processor):
    for name in "abcdefgh":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name))["bytes"])
    reviews = [{"text": "good", "images": [f"{name}.png" for name in names]} for names in ("abcd", "efgh")]
    (found,) = encoded(LineUsers(write_lines(tmp_path, line(1, reviews=reviews)), SCHEMA, 1, None), processor)
    assert (found.positions, found.photos_left_out) == ([0, 1, 2, 4, 5, 6], 2)
    assert found.problems == [f"photo {number}: a view has at most 3 photos (max_images)" for number in (3, 7)]


def test_a_view_without_words_is_left_out_and_noted(tmp_path, processor):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name))["bytes"])
    silent = {"text": " ", "images": ["b.png"]}
    reviews = [{"text": "good", "images": ["a.png"]}, silent, "", {"text": "fine", "images": ["c.png"]}, "bad"]
    users = LineUsers(write_lines(tmp_path, line(1, reviews=reviews)), SCHEMA, 2, None)
    (found,) = encoded(users, processor)
    assert found.positions == [0, 2]
    assert found.num_views == len(found.inputs) == 2
    assert [problem[:28] for problem in found.problems] == ["a user needs a review with w"]


def test_batches_hold_so_many_views_and_a_user_in_one_alone():
    lengths, counts = np.array([5, 9, 9, 1, 7]), np.array([2, 3, 8, 1, 2])
    assert list(bucketed_batches(lengths, range(5), 5, counts)) == [[1], [2], [4, 0, 3]]
    assert list(bucketed_batches(lengths, range(5), 2)) == [[1, 2], [4, 0], [3]]
