"""Which photos of a corpus cannot be read, in words."""

import pytest

from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import undecoded
from training.photo_check import UnreadablePhoto, check_photos, photo_name


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=8)


def test_a_photo_that_many_have_is_read_once_and_named_once(processor, monkeypatch):
    split = undecoded(tiny_dataset(3, reviews=2, photos=2))
    broken, read = split[0]["reviews"][0]["images"][0]["bytes"], []

    def load_image(self, photo):
        read.append(photo)
        if photo == broken:
            raise ValueError("it is broken")

    monkeypatch.setattr(type(processor), "load_image", load_image)
    with pytest.raises(UnreadablePhoto) as refused:
        check_photos({"train": split, "test": split}, processor)
    assert str(refused.value) == (
        "a photo of the corpus cannot be read: split 'train', user 'u0', photo 1 of review 1: it is broken"
    )
    assert len(read) == len(set(read)) == 12


def test_the_first_problems_are_named_and_the_others_counted(processor, monkeypatch):
    def load_image(self, photo):
        raise ValueError("it is broken")

    monkeypatch.setattr(type(processor), "load_image", load_image)
    with pytest.raises(
        ValueError, match=r"^none of the 12 photos .* photo 1 of review 2: it is broken; .*; and 7 more$"
    ) as refused:
        check_photos({"train": undecoded(tiny_dataset(3, reviews=2, photos=2))}, processor)
    assert str(refused.value).count("it is broken") == 5


def test_photos_that_can_be_read_pass(processor):
    assert check_photos({"train": undecoded(tiny_dataset(3))}, processor) is None


def test_a_photo_is_named_by_its_id_where_the_corpus_has_one():
    assert photo_name("u1", {"photo_ids": ["a", "b"]}, 2, 1) == "user 'u1', photo 2 of review 3 (b)"
    assert photo_name("u1", {}, 0, 0) == "user 'u1', photo 1 of review 1"
