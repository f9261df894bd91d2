"""Which reviews and photos are drawn, and the batches made of them."""

import io

import pytest
import torch
from PIL import Image

from mmprofile import Sees
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import EvaluationCollator, JointCollator, UserExamples, undecoded
from training.objectives import OBJECTIVES, select_views

REVIEW, CAPTION = "<extra_id_99>", "<extra_id_98>"


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place", "photo of a review"], SCHEMA, vocab_size=400, image_size=8)


def examples(dataset=None, **options):
    return UserExamples(undecoded(tiny_dataset() if dataset is None else dataset), SCHEMA, **options)


def red(image: bytes) -> int:
    return Image.open(io.BytesIO(image)).getpixel((0, 0))[0]


def test_evaluation_takes_the_newest_reviews_and_their_first_photos():
    example = examples(num_reviews=2, num_images=1)[1]
    assert example.user_id == "u1"
    assert [text[:15] for text in example.reviews] == ["user 1 review 0", "user 1 review 1"]
    assert [red(image) for image in example.images] == [20, 23]
    assert example.captions == ["photo 0 of review 0", "photo 0 of review 1"]


def test_training_draws_anew_each_epoch_and_the_same_again():
    data = examples(num_reviews=2, num_images=1, seed=3)

    def draws(epoch):
        data.set_epoch(epoch)
        return [
            (example.reviews, [red(image) for image in example.images]) for example in map(data.__getitem__, range(5))
        ]

    first, second = draws(1), draws(2)
    assert first != second
    assert draws(1) == first
    assert draws(2) == second
    other_seed = examples(num_reviews=2, num_images=1, seed=4)
    other_seed.set_epoch(1)
    assert [other_seed[index].reviews for index in range(5)] != [reviews for reviews, _ in first]


def test_a_photo_keeps_its_own_caption_and_review():
    data = examples(num_reviews=2, num_images=1, seed=0)
    for epoch in range(5):
        data.set_epoch(epoch)
        example = data[2]
        assert len(example.images) == 2
        for text, image, caption in zip(example.reviews, example.images, example.captions, strict=True):
            review = int(text.split()[3])
            photo = red(image) - 40 - 3 * review
            assert caption == f"photo {photo} of review {review}"


def test_a_share_of_the_photos_is_withheld_with_their_captions_in_evaluation_always_the_same():
    whole, half = examples(num_images=2), examples(num_images=2, photo_share=0.5)
    kept, there = [len(half[n].images) for n in range(5)], [len(whole[n].images) for n in range(5)]
    assert 0 < sum(kept) < sum(there)
    for n in range(5):
        assert half[n].captions == half[n].captions and len(half[n].captions) == len(half[n].images)
        assert set(half[n].captions) <= set(whole[n].captions) and half[n].reviews == whole[n].reviews
        assert sum(half[n].photos_of) == len(half[n].images)
        for image, caption in zip(half[n].images, half[n].captions, strict=True):
            photo, review = int(caption.split()[1]), int(caption.split()[-1])
            assert red(image) == 20 * n + 3 * review + photo
    assert [examples(num_images=2, photo_share=0.0)[n].images for n in range(5)] == [[]] * 5
    drawn, again = (examples(num_images=2, seed=1, photo_share=0.5) for _ in range(2))
    assert [len(drawn[n].images) for n in range(5)] == [len(again[n].images) for n in range(5)]
    drawn.set_epoch(1)
    assert [drawn[n].captions for n in range(5)] != [again[n].captions for n in range(5)]
    with pytest.raises(ValueError, match="photo_share"):
        examples(photo_share=1.5)


def test_photos_can_come_from_nobody_or_from_another_user():
    nobody = examples(photos_from="nobody")[2]
    assert (nobody.images, nobody.captions) == ([], [])
    stranger = examples(photos_from="stranger")[2]
    assert stranger.reviews == examples()[2].reviews
    assert [red(image) for image in stranger.images] == [20, 23, 26]
    assert [red(image) for image in examples(photos_from="stranger")[0].images] == [80, 83, 86]


def test_only_what_a_view_names_is_in_the_batch(processor):
    data = examples(seed=0)
    views = select_views("multimodal", ["fusion", "text"])
    batch = JointCollator(processor, views, 0.5, 0.5)([data[0], data[1]])
    assert set(batch) == {"labels", "texts", "pixel_values", "image_mask"}
    assert set(batch["texts"]) == {"reviews"}
    unimodal = JointCollator(processor, select_views("unimodal", OBJECTIVES), 0.5, 0.5)([data[0]])
    assert set(unimodal) == {"labels", "texts"}
    assert set(unimodal["texts"]) == {
        "reviews",
        "reviews+captions",
        "reviews+masked_captions",
        "masked_profile+captions",
    }


def test_a_drawn_objective_has_its_own_texts_and_photos_alone_and_is_drawn_by_its_weight(processor):
    data = examples(tiny_dataset(1), seed=0)
    weights = {"fusion": 1.0, "text": 2.0, "mask_image": 0.5, "mask_profile": 1.5}
    views = select_views("combined", OBJECTIVES)
    collator = JointCollator(processor, views, 0.5, 0.5, drawn_by=[weights])
    counts = dict.fromkeys(weights, 0)
    for epoch in range(200):
        data.set_epoch(epoch)
        example = data[0]
        batch = collator([example])
        (name,) = batch["objectives"]
        counts[name] += 1
        assert list(batch["texts"]) == [views[name].text]
        assert ("pixel_values" in batch) == (views[name].photos is not None)
        assert ("pixel_mask" in batch) == (name == "mask_image")
    shares = [counts[name] / 200 for name in weights]
    assert shares == pytest.approx([0.2, 0.4, 0.1, 0.3], abs=0.08)


def test_an_epoch_draws_objectives_by_its_own_weights_and_one_after_the_last_by_the_lasts(processor):
    data = examples(tiny_dataset(1), seed=0)
    drawn_by = [{"fusion": 0.0, "text": 1.0}, {"fusion": 1.0, "text": 0.0}]
    collator = JointCollator(processor, select_views("combined", ["fusion", "text"]), 0.5, 0.5, drawn_by=drawn_by)
    drawn = []
    for epoch in range(1, 4):
        data.set_epoch(epoch)
        drawn += collator([data[0]])["objectives"]
    assert drawn == ["text", "fusion", "fusion"]


def test_views_hold_what_their_names_say(processor):
    data = examples(num_reviews=1, num_images=1, seed=0)
    example = data[3]
    batch = JointCollator(processor, select_views("combined", OBJECTIVES), 1.0, 1.0)([example])
    texts = {name: processor.tokenizer.decode(text["input_ids"][0]) for name, text in batch["texts"].items()}
    review, caption = example.reviews[0], example.captions[0]
    assert texts["reviews"] == f"{REVIEW} {review}</s>"
    assert texts["reviews+captions"] == f"{REVIEW} {review}{CAPTION} {caption}</s>"
    assert texts["reviews+masked_captions"].count("<extra_id_0>") == len(caption.split())
    assert caption.split()[0] not in texts["reviews+masked_captions"].split(CAPTION)[1]
    assert review not in texts["masked_profile+captions"]
    assert texts["masked_profile+captions"].count("<extra_id_0>") == len(SCHEMA.attributes)
    labels = batch["labels"][0]
    assert processor.tokenizer.decode(labels) == SCHEMA.render(example.profile) + "</s>"
    assert batch["pixel_mask"].all()


def test_pixels_are_masked_where_there_is_a_photo_alone(processor):
    rows = tiny_dataset(2)
    few, many = examples(rows, num_reviews=1, seed=0)[0], examples(rows, num_reviews=3, seed=0)[1]
    batch = JointCollator(processor, select_views("multimodal", ["mask_image"]), 1.0, 0.5)([few, many])
    assert batch["image_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert torch.equal(batch["pixel_mask"].flatten(2).all(dim=2), batch["image_mask"])
    assert batch["pixel_mask"].shape == (2, 3, 8, 8)


def test_users_without_photos_make_a_batch_of_text(processor):
    data = examples(tiny_dataset(2, photos=0), seed=0)
    batch = JointCollator(processor, select_views("combined", OBJECTIVES), 0.5, 0.5)([data[0], data[1]])
    assert set(batch) == {"labels", "texts"}


def test_the_same_example_gives_the_same_masks(processor):
    data = examples(seed=7)
    collator = JointCollator(processor, select_views("combined", OBJECTIVES), 0.5, 0.5)
    alone, in_company = collator([data[1]]), collator([data[0], data[1]])
    assert torch.equal(alone["pixel_mask"][0], in_company["pixel_mask"][1])
    length = int(alone["texts"]["masked_profile+captions"]["attention_mask"].sum())
    for name in ("masked_profile+captions",):
        ids = in_company["texts"][name]["input_ids"][1, :length]
        assert torch.equal(alone["texts"][name]["input_ids"][0, :length], ids)


@pytest.mark.parametrize(
    ("images", "captions"),
    [(True, False), (False, True), (True, True), (False, False)],
)
def test_evaluation_shows_what_the_model_sees(processor, images, captions):
    batch = EvaluationCollator(processor, Sees(images, captions))([examples()[0]])
    assert ("pixel_values" in batch) == images
    assert (CAPTION in processor.tokenizer.decode(batch["input_ids"][0])) == captions


@pytest.mark.parametrize("options", [{"num_reviews": 0}, {"num_images": -1}, {"photos_from": "friend"}])
def test_draws_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=str(list(options.values())[0])):
        examples(**options)
