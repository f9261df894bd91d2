"""Photos that cannot be read are left out if asked, as if they had not been drawn, however they are read."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cli.logs import set_log_level
from files.unreadable_photos import UnreadablePhoto
from mmprofile import MMProfileProcessor, Sees
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, png, tiny_dataset, write_corpus
from tests.tiny_folder import save_tiny_folder
from tests.training.test_train import run, same, train_only
from tests.training.test_vision_states import model as tower_of
from training.batching import EvaluationCollator, UserExamples, undecoded
from training.guards import TrainingFailure
from training.photo_cache import PhotoCache, Photos
from training.photo_check import DrawnPhoto, ReadablePhotos
from training.vision_states import VisionStates

HALF = png(7, size=64)["bytes"][:120]
BOMB = png(1, size=400)["bytes"]
BAD = {"half a file": HALF, "no photo": b"no photo", "a bomb": BOMB, "nowhere": "/nowhere/photo.png"}


def in_bytes(photo: bytes) -> dict:
    return {"bytes": photo, "path": None}


@pytest.fixture(scope="module")
def processor():
    texts = ["user likes a place", "photo of a review"]
    return tiny_processor(texts, SCHEMA, vocab_size=400, image_size=8, max_image_pixels=100_000)


def split(*bad: bytes | str, place: int = 1):
    """Four users with 2 reviews of 3 photos each; photo `place` of user 1's first review, and of others' second, is
    replaced by the bad ones."""
    rows = list(undecoded(tiny_dataset(4, reviews=2, photos=3)))
    for number, photo in enumerate(bad):
        images = rows[1 + number % 3]["reviews"][number > 0]["images"]
        images[place] = in_bytes(photo) if isinstance(photo, bytes) else {"bytes": None, "path": photo}
    return undecoded(tiny_dataset(1)).from_list(rows, features=undecoded(tiny_dataset(1)).features)


def turned(value: int) -> bytes:
    """A photo that stands on its side, by its EXIF orientation."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pixels = np.random.default_rng(value).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skipped") / "model"
    save_tiny_folder(folder, SCHEMA)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A corpus with photos that cannot be read, and the same without them and their captions."""
    folder = tmp_path_factory.mktemp("skipped")
    bad = {
        (2, 1, 1): in_bytes(HALF),
        (5, 0, 0): in_bytes(b"no photo"),
        (201, 1, 0): in_bytes(BOMB[:50]),
        (101, 0, 0): in_bytes(HALF[:-1]),
    }
    write_corpus(folder / "broken", replaced=bad, reviews=2)
    write_corpus(folder / "without", replaced=dict.fromkeys(bad), reviews=2)
    return folder / "broken", folder / "without"


def flags(model, **more) -> dict:
    """All photos are drawn, so that no number is drawn for which."""
    return {"model": model, "num_reviews": 2, "num_images": 2, **more}


@pytest.mark.parametrize("kind", ["checked", "workers", "cache", "states"])
def test_skipped_photos_leave_the_weights_of_a_corpus_without_them(corpora, model, tmp_path, capfd, kind):
    more = {
        "checked": {},
        "workers": {"check_photos": False, "num_workers": 2},
        "cache": {"photo_cache": tmp_path / "cache"},
        "states": {"photo_cache": tmp_path / "cache", "freeze_vision": True},
    }[kind]
    broken, without = corpora
    expected = train_only(without, tmp_path / "without", **flags(model, **more))
    found = train_only(broken, tmp_path / "skipped", **flags(model, **more), on_bad_photo="skip")
    assert same(found, expected)
    told = capfd.readouterr().err
    if kind == "workers":
        assert told.count("left out: user 'u2', photo 2 of review 2: the image of 120 bytes is broken") == 1
    else:
        assert told.count("4 photos of the corpus cannot be read: split 'train', user 'u2', photo 2 of review 2") == 1
    assert "eft out" in told


@pytest.mark.slow
def test_skipped_photos_leave_the_scores_of_a_corpus_without_them(corpora, model, tmp_path):
    found = []
    for corpus, output in zip(corpora, ("skipped", "without"), strict=True):
        results, history = run(corpus, tmp_path / output, **flags(model, on_bad_photo="skip"))
        scores = {name: value for name, value in results.items() if name.startswith("test_") and name != "test_corpus"}
        found.append((scores, history[0]["dev_loss"], history[0]["train_loss"]))
    assert found[0] == found[1] and len(found[0][0]) > 5


def test_a_run_that_stopped_at_a_photo_goes_on_without_it(corpora, model, tmp_path):
    options = flags(model, check_photos=False, batch_size=1, save_steps=1)
    with pytest.raises(TrainingFailure, match=r"user 'u[25]', photo .*the last good checkpoint is .*checkpoint-"):
        run(corpora[0], tmp_path / "model", **options)
    options["on_bad_photo"] = "skip"
    resumed = train_only(corpora[0], tmp_path / "model", **options, resume_from_checkpoint="auto")
    assert same(resumed, train_only(corpora[0], tmp_path / "whole", **options))


def test_a_corpus_of_which_no_photo_can_be_read_is_refused_in_any_case(model, tmp_path):
    bad = {(user, 0, 0): in_bytes(HALF) for user in (0, 1, 100, 200)}
    write_corpus(tmp_path / "corpus", sizes=(2, 1, 1), replaced=bad, reviews=1, photos=1)
    for more in ({}, {"photo_cache": tmp_path / "cache"}):
        with pytest.raises(
            ValueError, match="none of the 1 photos of the corpus can be read: split 'train', user 'u0'"
        ):
            run(tmp_path / "corpus", tmp_path / "model", **flags(model, on_bad_photo="skip", **more))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("cached", [False, True])
def test_a_photo_is_left_out_with_its_caption_in_each_epoch_and_other_users_stay(processor, tmp_path, bad, cached):
    options = {"num_reviews": 2, "num_images": 2, "seed": 0, "forged_lines": 0.0}
    broken, whole = split(BAD[bad]), split()
    cache = PhotoCache(tmp_path, Photos(broken), processor, skip=True) if cached else None
    readable = ReadablePhotos(processor, cache, aloud=False)
    skipping, drawn = (
        UserExamples(broken, SCHEMA, **options, readable=readable),
        UserExamples(whole, SCHEMA, **options),
    )
    left_out = 0
    for epoch in range(20):
        skipping.set_epoch(epoch)
        drawn.set_epoch(epoch)
        for row in range(4):
            found, expected = skipping[row], drawn[row]
            pairs = list(zip(expected.images, expected.captions, expected.photo_names, strict=True))
            kept = [pair for pair in pairs if pair[2] != "user 'u1', photo 2 of review 1"]
            left_out += len(pairs) - len(kept)
            assert list(zip(found.images, found.captions, found.photo_names, strict=True)) == kept
            assert found.reviews == expected.reviews
            assert found.rng.bit_generator.state == expected.rng.bit_generator.state
    assert 0 < left_out < 20


def test_a_photo_is_decoded_once_a_batch_and_its_pixels_are_the_processors(processor, monkeypatch):
    decoded, load_image = [], MMProfileProcessor.load_image

    def counting(self, image):
        decoded.extend([image] if isinstance(image, bytes) else [])
        return load_image(self, image)

    monkeypatch.setattr(MMProfileProcessor, "load_image", counting)
    data = split(turned(0), HALF, turned(1))
    examples = UserExamples(data, SCHEMA, 2, 3, readable=ReadablePhotos(processor, aloud=False))
    users = [examples[row] for row in range(4)]
    batch = EvaluationCollator(processor, Sees(True, True))(users)
    assert len(decoded) == 4 * 2 * 3
    expected = processor.encode_images([user.images for user in users])
    assert [len(user.images) for user in users] == [6, 6, 5, 6]
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    assert torch.equal(batch["image_mask"], expected["image_mask"])


def test_users_without_a_photo_left_make_a_batch_of_text(processor):
    examples = UserExamples(split(HALF, place=0), SCHEMA, 1, 1, seed=None, readable=ReadablePhotos(processor))
    collator = EvaluationCollator(processor, Sees(True, True))
    assert set(collator([examples[1]])) == {"input_ids", "attention_mask", "labels"}
    assert collator([examples[1], examples[0]])["image_mask"].tolist() == [[False], [True]]


@pytest.mark.parametrize(("number", "expected"), [(3, 3), (5, 5), (8, 6)])
def test_each_photo_is_told_once_and_after_the_first_there_is_one_line_more(processor, capsys, number, expected):
    set_log_level("info")
    bad, readable = [HALF[:-place] for place in range(1, number + 1)], ReadablePhotos(processor)
    for _ in range(2):
        assert readable.of([DrawnPhoto(photo, None, f"photo {place}", 0) for place, photo in enumerate(bad)]) == (
            [],
            [],
        )
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in lines[:5]] == [f" photo {place}" for place in range(min(number, 5))]
    assert len(lines) == expected
    assert ("without a word after the first 5" in lines[-1]) == (number > 5)


def test_photos_left_out_are_told_in_each_process_and_not_where_errors_alone_are(processor, capsys):
    for level, here, told in (("warning", True, 1), ("warning", False, 1), ("error", True, 0)):
        set_log_level(level, here)
        ReadablePhotos(processor).of([DrawnPhoto(HALF, None, "photo 1", 0)])
        assert capsys.readouterr().err.count("left out: photo 1") == told
    set_log_level("info")


def test_a_cache_lists_what_it_could_not_read_and_reads_what_is_mended(processor, tmp_path):
    path = tmp_path / "photo.png"
    data = split(str(path), HALF)
    with pytest.raises(ValueError, match="there is no local image file"):
        PhotoCache(tmp_path / "cache", Photos(data), processor)
    assert list((tmp_path / "cache").iterdir()) == []
    made = PhotoCache(tmp_path / "cache", Photos(data), processor, skip=True)
    again = PhotoCache(tmp_path / "cache", Photos(data), processor, skip=True)
    assert len(made.unreadable) == 2 and again.unreadable == made.unreadable
    with pytest.raises(ValueError, match="the image of 120 bytes is broken|there is no local image file"):
        PhotoCache(tmp_path / "cache", Photos(data), processor)
    path.write_bytes(png(3)["bytes"])
    mended = PhotoCache(tmp_path / "cache", Photos(data), processor, skip=True)
    assert len(mended.unreadable) == 1
    expected = processor.encode_images([[str(path)]])["pixel_values"][0]
    assert torch.equal(mended.encode([mended.row(str(path))]), expected)


def test_a_mended_photo_has_its_own_states(tmp_path):
    path, reader = tmp_path / "photo.png", tiny_processor(["a place"], SCHEMA, vocab_size=400, image_size=16)
    data, states, tower = split(str(path)), [], tower_of(reader)
    for photo in (None, png(3)["bytes"]):
        if photo:
            path.write_bytes(photo)
        cache = PhotoCache(tmp_path / "cache", Photos(data), reader, skip=True)
        states.append(VisionStates(cache, tower))
    expected = tower.eval().photo_states(reader.encode_images([[str(path)]])["pixel_values"][0])[0]
    torch.testing.assert_close(torch.tensor(states[1][str(path)]), expected.detach(), rtol=1e-5, atol=1e-6)


class Broken(torch.utils.data.Dataset):
    words = "user 'x files.unreadable_photos.UnreadablePhoto: y', photo 1 of review 1: it is broken"

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UnreadablePhoto(self.words)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_photo_comes_out_of_a_worker_with_its_words(num_workers):
    with pytest.raises(UnreadablePhoto) as met:
        list(DataLoader(Broken(), num_workers=num_workers))
    assert str(met.value) == str(pickle.loads(pickle.dumps(met.value))) == Broken.words
