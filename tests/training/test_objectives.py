"""The corruptions and the joint loss."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mmprofile import OBJECTIVES, PAPER_OBJECTIVES, PARADIGMS, View
from tests.tiny_models import tiny_model
from training.arguments import JointTrainingArguments
from training.joint_step import SharedJointStep
from training.objectives import blacken, mask_captions, mask_pixels, mask_profile, select_views, text_parts

BLACK = torch.tensor([-1.0, -1.5, -2.0])


def batch_of_views(views, users=3, photos=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch = {"labels": torch.randint(3, 90, (users, 6), generator=generator), "texts": {}}
    batch["labels"][0, 4:] = -100
    for number, name in enumerate(sorted({view.text for view in views.values()})):
        ids = torch.randint(3, 90, (users, 8 + 3 * number), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        batch["texts"][name] = {"input_ids": ids, "attention_mask": mask}
    batch["pixel_values"] = torch.randn(users, photos, 3, 32, 32, generator=generator)
    batch["image_mask"] = torch.tensor([[True, True], [True, False], [False, False]])
    batch["pixel_mask"] = torch.rand(users, photos, 32, 32, generator=generator) < 0.5
    return batch


def one_by_one(model, views, batch):
    losses = {}
    for name, view in views.items():
        inputs = dict(batch["texts"][view.text], labels=batch["labels"])
        if view.photos:
            pixels = batch["pixel_values"]
            if view.photos == "masked_photos":
                pixels = blacken(pixels, batch["pixel_mask"], BLACK)
            inputs |= {"pixel_values": pixels, "image_mask": batch["image_mask"]}
        losses[name] = model(**inputs).loss
    return losses


@pytest.mark.parametrize("fusion", ["gated", "concat"])
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_shared_forward_equals_the_objectives_one_by_one_in_losses_and_gradients(paradigm, fusion):
    views = select_views(paradigm, OBJECTIVES)
    weights = {"fusion": 1.0, "text": 2.0, "mask_image": 0.5, "mask_profile": 1.5}
    model = tiny_model(fusion=fusion).double()
    batch = batch_of_views(views)
    batch["pixel_values"] = batch["pixel_values"].double()

    separate = one_by_one(model, views, batch)
    expected = sum(weights[name] * loss for name, loss in separate.items()) / sum(weights.values())
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    joint = SharedJointStep(model, views, BLACK, weights)(batch)
    joint.loss.backward()

    assert list(joint.losses) == list(views)
    assert list(separate) == list(views)
    for name, loss in separate.items():
        torch.testing.assert_close(joint.losses[name].double(), loss, rtol=1e-5, atol=1e-6)
    shared = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert shared.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-4, atol=1e-7)


def test_each_text_is_encoded_once_and_passes_over_photos_decoder_and_embedding_are_one():
    views = select_views("multimodal", OBJECTIVES)
    model = tiny_model()
    calls = {"embedding": 0, "encoder": 0, "vision": 0, "decoder": 0}
    for name, module in (
        ("embedding", model.get_input_embeddings()),
        ("encoder", model.text_model.encoder),
        ("vision", model.vision_model),
        ("decoder", model.text_model.decoder),
    ):
        module.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    SharedJointStep(model, views, BLACK)(batch_of_views(views))
    # the encoder's are of reviews and masked profile
    assert calls == {"embedding": 1, "encoder": 2, "vision": 1, "decoder": 1}


def test_processes_in_step_pass_the_decoder_once_whatever_the_lengths_of_their_texts():
    views = select_views("combined", OBJECTIVES)
    batch, model, passes = batch_of_views(views), tiny_model(), []
    for name, text in batch["texts"].items():
        if "reviews" in name:
            batch["texts"][name] = {key: tensor.repeat(1, 4) for key, tensor in text.items()}
    model.text_model.decoder.register_forward_hook(lambda *_: passes.append(1))
    apart = SharedJointStep(model, views, BLACK)(batch)
    assert len(passes) == 2
    together = SharedJointStep(model, views, BLACK, in_step=True)(batch)
    assert len(passes) == 3
    torch.testing.assert_close(together.loss, apart.loss, rtol=1e-5, atol=1e-6)


def test_a_batch_without_photos_is_trained_on_text_alone():
    views = select_views("combined", OBJECTIVES)
    batch = batch_of_views(views)
    for key in ("pixel_values", "image_mask", "pixel_mask"):
        del batch[key]
    model = tiny_model()
    expected = {name: model(**batch["texts"][view.text], labels=batch["labels"]).loss for name, view in views.items()}
    losses = SharedJointStep(model, views, BLACK)(batch).losses
    assert list(expected) == list(OBJECTIVES)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)


def test_the_objectives_drawn_alone_are_in_the_mean_the_weighted_loss_and_its_gradient():
    views = select_views("combined", OBJECTIVES)
    weights = {"fusion": 1.0, "text": 2.0, "mask_image": 0.5, "mask_profile": 1.5}
    model, batch = tiny_model(), batch_of_views(views)
    joint = SharedJointStep(model, views, BLACK, weights)
    expected = joint(batch)
    expected.loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for name, weight in weights.items():
        drawn = joint(batch | {"objectives": [name]})
        assert list(drawn.losses) == [name]
        torch.testing.assert_close(drawn.loss, expected.losses[name], rtol=1e-5, atol=1e-6)
        (weight / sum(weights.values()) * drawn.loss).backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_masked_pixels_are_black_before_normalisation():
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.2, 0.1])
    raw = torch.rand(1, 1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, 1, 2] = True
    normalised = (raw - mean[:, None, None]) / std[:, None, None]
    restored = blacken(normalised, mask, (0 - mean) / std) * std[:, None, None] + mean[:, None, None]
    expected = raw.clone()
    expected[0, 0, :, 1, 2] = 0
    torch.testing.assert_close(restored, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_masks_hide_the_share_asked_for(probability):
    rng = np.random.default_rng(0)
    pixels = mask_pixels((3, 100, 100), probability, rng)
    assert pixels.shape == (3, 100, 100)
    assert abs(pixels.float().mean().item() - probability) < 0.01
    words = " ".join(["word"] * 5000)
    masked = mask_captions([words], probability, "<extra_id_0>", rng)[0].split()
    assert len(masked) == 5000
    assert abs(masked.count("<extra_id_0>") / 5000 - probability) < 0.03


@pytest.mark.parametrize(
    ("caption", "hidden"),
    [
        ("a plate of 3 dumplings, well-lit", "_ _ _ _ _ _"),
        ("桌上的一盘菜。", "______"),
        ("ラーメン at 東京2号店", "____ _ _____"),
        ("ผัดไทย 한국 음식", "_____ _ _"),  # a vowel sign goes with its letter
        ("", ""),
    ],
)
def test_words_are_masked_and_where_no_blanks_part_them_letters(caption, hidden):
    rng = np.random.default_rng(0)
    assert mask_captions([caption], 1.0, "_", rng) == [hidden]
    assert mask_captions([caption], 0.0, "_", rng) == [caption]


@pytest.mark.parametrize(
    ("words", "blank"), [(["a", "plate,", "of", "2", "rolls", "up"], " "), (list("桌上的一盘菜"), "")]
)
def test_each_word_has_a_draw_in_their_order(words, blank):
    draws = np.random.default_rng(5).random((2, len(words))) < 0.5
    masked = mask_captions([blank.join(words)] * 2, 0.5, "_", np.random.default_rng(5))
    assert masked == [
        blank.join("_" if hide else word for word, hide in zip(words, row, strict=True)) for row in draws
    ]


def test_mask_profile_masks_at_least_one_attribute():
    rng = np.random.default_rng(0)
    keys = ["stars", "meal", "budget"]
    draws = [mask_profile(keys, 0.0, rng) for _ in range(300)]
    assert {len(draw) for draw in draws} == {1}
    assert {draw[0] for draw in draws} == set(keys)
    assert mask_profile(keys, 1.0, rng) == keys


def test_the_table_of_objectives_is_the_papers():
    views = {paradigm: select_views(paradigm, PAPER_OBJECTIVES) for paradigm in PARADIGMS}
    assert {paradigm: {name: tuple(view) for name, view in of.items()} for paradigm, of in views.items()} == {
        "multimodal": {
            "fusion": ("reviews", "photos"),
            "text": ("reviews", None),
            "mask_image": ("reviews", "masked_photos"),
            "mask_profile": ("masked_profile", "photos"),
        },
        "unimodal": {
            "fusion": ("reviews+captions", None),
            "text": ("reviews", None),
            "mask_image": ("reviews+masked_captions", None),
            "mask_profile": ("masked_profile+captions", None),
        },
        "combined": {
            "fusion": ("reviews+captions", "photos"),
            "text": ("reviews", None),
            "mask_image": ("reviews+masked_captions", "masked_photos"),
            "mask_profile": ("masked_profile+captions", "photos"),
        },
    }
    assert JointTrainingArguments(dataset="x", output_dir="y").objectives == list(PAPER_OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_view_of_known_parts_under_every_paradigm(name):
    texts, photos = {"reviews", "captions", "masked_captions", "masked_profile"}, {None, "photos", "masked_photos"}
    assert set(OBJECTIVES[name]) == set(PARADIGMS)
    for paradigm in PARADIGMS:
        view = OBJECTIVES[name][paradigm]
        assert text_parts(view.text) <= texts and view.photos in photos


@pytest.mark.parametrize(
    ("paradigm", "objectives", "message"),
    [
        ("bimodal", ["fusion"], "'bimodal'"),
        ("combined", [], r"\[\]"),
        ("combined", ["fusion", "fusion"], "fusion"),
        ("combined", ["fusoin"], "fusoin"),
    ],
)
def test_unknown_paradigms_and_objectives_are_named(paradigm, objectives, message):
    with pytest.raises(ValueError, match=message):
        select_views(paradigm, objectives)


@pytest.mark.parametrize("weights", [{"fusion": 1.0}, {"fusion": 1.0, "text": 0.0}])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="weight above 0"):
        SharedJointStep(tiny_model(), select_views("combined", ["fusion", "text"]), BLACK, weights)


def test_cross_entropy_of_an_objective_ignores_padding():
    views = select_views("combined", ["text"])
    batch = batch_of_views(views)
    model = tiny_model()
    logits = model(**batch["texts"]["reviews"], labels=batch["labels"]).logits
    kept = batch["labels"] >= 0
    loss = SharedJointStep(model, views, BLACK)(batch).losses["text"]
    torch.testing.assert_close(loss, cross_entropy(logits[kept], batch["labels"][kept]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View("review+captions"), r"the text of objective 'mine' is of \['reviews', .* got 'review\+captions'"),
        (View("captions", "photos"), "the first or the last among them, got 'captions'"),
        (View("reviews+captions+masked_captions"), "shows captions masked or as they are"),
        (View("reviews", "masked_photo"), "the photos of objective 'mine' are None or of .* got 'masked_photo'"),
    ],
)
def test_a_view_of_what_cannot_be_shown_is_refused(monkeypatch, view, message):
    monkeypatch.setitem(OBJECTIVES, "mine", dict.fromkeys(PARADIGMS, view))
    with pytest.raises(ValueError, match=message):
        select_views("combined", ["fusion", "mine"])
