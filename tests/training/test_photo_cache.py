"""Photos from the cache are the photos, to the bit."""

import os
import pickle
import time

import numpy as np
import pytest
import torch

from mmprofile.processing_mmprofile import MMProfileProcessor
from tests.tiny_corpus import SCHEMA, png, tiny_dataset
from training.batching import UserExamples, undecoded
from training.photo_cache import PhotoCache, Photos
from training.presets import tiny_processor


def processor(image_size=16, **options):
    return tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=image_size, **options)


def photo(seed, width=40, height=24):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_what_a_model_gets_from_the_cache_is_what_it_gets_from_the_photos(tmp_path):
    photos, reader = [photo(seed) for seed in range(5)], processor()
    cache = PhotoCache(tmp_path, photos, reader)
    direct = reader.encode_images([photos[:3], photos[3:]])
    cached = reader.encode_images([[cache[p] for p in photos[:3]], [cache[p] for p in photos[3:]]])
    assert torch.equal(direct["pixel_values"], cached["pixel_values"])
    assert torch.equal(direct["image_mask"], cached["image_mask"])


def test_a_photo_is_decoded_once_and_never_again(tmp_path, monkeypatch):
    reader = processor()
    PhotoCache(tmp_path, [photo(0), photo(1), photo(0)], reader)
    assert len(np.load(next(tmp_path.iterdir()))) == 2
    monkeypatch.setattr(type(reader), "load_image", None)
    again = PhotoCache(tmp_path, [photo(1), photo(0)], reader)
    assert len(again) == 2 and again[photo(0)].shape == (16, 16, 3)


def test_other_settings_or_photos_have_another_file(tmp_path):
    PhotoCache(tmp_path, [photo(0)], processor())
    PhotoCache(tmp_path, [photo(0)], processor(image_size=8))
    PhotoCache(tmp_path, [photo(1)], processor())
    PhotoCache(tmp_path, [photo(0)], processor())
    assert len(list(tmp_path.iterdir())) == 3


def test_two_runs_that_write_the_same_file_at_once_both_have_it_whole(tmp_path, monkeypatch):
    photos, reader, load = [photo(seed) for seed in range(4)], processor(), MMProfileProcessor.load_image
    others = []

    def meanwhile(self, image):
        if len(others) < 3:
            others.append(None)
            if len(others) == 3:  # another run begins while this one is at its third photo, and ends first
                others.append(PhotoCache(tmp_path, photos, reader).pixels.copy())
        return load(self, image)

    monkeypatch.setattr(MMProfileProcessor, "load_image", meanwhile)
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
    cache = PhotoCache(tmp_path, [png(7)["bytes"]], processor())
    expected = cache[png(7)["bytes"]]
    sent = pickle.dumps(cache)
    assert len(sent) < 2000
    assert np.array_equal(pickle.loads(sent)[png(7)["bytes"]], expected)


def test_every_photo_of_a_split_is_in_it_and_users_have_the_same(tmp_path):
    split = undecoded(tiny_dataset(3))
    cache = PhotoCache(tmp_path, Photos(split), processor())
    plain, cached = UserExamples(split, SCHEMA, seed=0)[1], UserExamples(split, SCHEMA, seed=0, cache=cache)[1]
    assert [image[0, 0].tolist() for image in cached.images] == [cache[image][0, 0].tolist() for image in plain.images]
    assert cached.captions == plain.captions
