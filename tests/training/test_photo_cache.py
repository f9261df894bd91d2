"""Photos from the cache are the photos, to the bit."""

import io
import os
import pickle
import time

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil

import training.photo_cache
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, png, tiny_dataset
from training.batching import Example, UserExamples, encode_photos, undecoded
from training.photo_cache import PhotoCache, Photos

CUT = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
IMAGE_PROCESSORS = {
    "vit": lambda: ViTImageProcessorPil(size={"height": 16, "width": 16}),
    "siglip": lambda: SiglipImageProcessorPil(size={"height": 24, "width": 24}),
    "clip": lambda: CLIPImageProcessorPil(**CUT),
    "dinov2": lambda: BitImageProcessorPil(**CUT),
}


class Centred(ViTImageProcessorPil):
    """Takes each photo's mean away, which no byte tells."""

    def normalize(self, image, *arguments, **options):
        return image - image.mean()


def processor(image_size=16, **options):
    return tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=image_size, **options)


def photo(seed, width=40, height=24):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", IMAGE_PROCESSORS)
def test_what_a_model_gets_from_the_cache_is_what_it_gets_from_the_photos(tmp_path, kind):
    photos, reader = [photo(seed) for seed in range(4)], processor()
    reader.image_processor = IMAGE_PROCESSORS[kind]()
    cache = PhotoCache(tmp_path, photos, reader)
    users = [photos[:3], [], photos[3:]]
    direct = reader.encode_images(users)
    cached = encode_photos(None, [Example("u", [], images, [], {}, cache=cache) for images in users])
    assert torch.equal(direct["pixel_values"], cached["pixel_values"])
    assert torch.equal(direct["image_mask"], cached["image_mask"])


def test_a_processor_that_looks_at_more_than_a_byte_has_no_cache(tmp_path):
    reader = processor()
    reader.image_processor = Centred(size={"height": 16, "width": 16})
    with pytest.raises(ValueError, match="the values that Centred gives a pixel depend on more than its byte"):
        PhotoCache(tmp_path, [photo(0)], reader)
    assert list(tmp_path.iterdir()) == []


def test_a_photo_is_decoded_once_and_never_again(tmp_path, monkeypatch):
    reader = processor()
    PhotoCache(tmp_path, [photo(0), photo(1), photo(0)], reader)
    assert len(np.load(next(tmp_path.iterdir()))) == 2
    monkeypatch.setattr(training.photo_cache, "resized", None)
    again = PhotoCache(tmp_path, [photo(1), photo(0)], reader)
    assert len(again) == 2 and again.encode([again.row(photo(0))]).shape == (1, 3, 16, 16)


def test_other_settings_or_photos_have_another_file(tmp_path):
    PhotoCache(tmp_path, [photo(0)], processor())
    PhotoCache(tmp_path, [photo(0)], processor(image_size=8))
    PhotoCache(tmp_path, [photo(1)], processor())
    PhotoCache(tmp_path, [photo(0)], processor())
    assert len(list(tmp_path.iterdir())) == 3


def test_two_runs_that_write_the_same_file_at_once_both_have_it_whole(tmp_path, monkeypatch):
    photos, reader, resize = [photo(seed) for seed in range(4)], processor(), training.photo_cache.resized
    others = []

    def meanwhile(image, reader):
        if len(others) < 3:
            others.append(None)
            if len(others) == 3:  # another run begins while this one is among its photos, and ends first
                assert len(list(tmp_path.iterdir())) == 1
                others.append(PhotoCache(tmp_path, photos, reader).pixels.copy())
        return resize(image, reader)

    monkeypatch.setattr(training.photo_cache, "resized", meanwhile)
    mine = PhotoCache(tmp_path, photos, reader)
    assert np.array_equal(mine.pixels, others[-1]) and mine.pixels.any(axis=(1, 2, 3)).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_left_unfinished_a_day_ago_is_removed(tmp_path):
    for name, hours in (("old", 25), ("new", 1)):
        path = tmp_path / f".unfinished-{name}-cache.npy"
        path.write_bytes(b"half")
        os.utime(path, times=(time.time() - hours * 3600,) * 2)
    PhotoCache(tmp_path, [photo(0)], processor())
    assert [path.name for path in tmp_path.glob(".*")] == [".unfinished-new-cache.npy"]


def test_a_broken_photo_is_refused_before_training_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="PNG"):
        PhotoCache(tmp_path, [photo(0), b"no photo"], processor())
    assert list(tmp_path.iterdir()) == []


def test_workers_open_the_file_themselves(tmp_path):
    cache = PhotoCache(tmp_path, [png(7)["bytes"]], processor(image_size=64))
    expected = cache.encode([0])
    sent = pickle.dumps(cache)
    assert len(sent) < 6000 < cache.pixels.nbytes
    assert torch.equal(pickle.loads(sent).encode([0]), expected)


def test_every_photo_of_a_split_is_in_it_and_users_have_the_same(tmp_path):
    split = undecoded(tiny_dataset(3))
    reader = processor()
    cache = PhotoCache(tmp_path, Photos(split), reader)
    plain, cached = UserExamples(split, SCHEMA, seed=0)[1], UserExamples(split, SCHEMA, seed=0, cache=cache)[1]
    assert cached.images == plain.images and cached.captions == plain.captions
    assert torch.equal(*(encode_photos(reader, [example])["pixel_values"] for example in (plain, cached)))
