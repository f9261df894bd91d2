"""The deletion test of photos' and views' weights: of a model that one photo decides, against profiles computed anew
without the photo or the view, and whoever is in a batch with whom."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from mmprofile import Sees, join_padded, join_views
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from scoring import deletion
from scoring.deletion import deletion_test, summarise_falls
from systems.presets import tiny_config, tiny_processor
from tests.profile_models import inputs_for, label, model_for, teacher_forced
from tests.tiny_corpus import SCHEMA, tiny_dataset
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer
from training.batching import EvaluationCollator, UserExamples, undecoded

USERS, PHOTOS = 6, 3
VIEWS = (3, 1, 4, 2)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place", "photo of review"], SCHEMA, vocab_size=400, image_size=16)


class Constant(torch.nn.Module):
    """The same query at each position of a text."""

    def __init__(self, vector: torch.Tensor):
        super().__init__()
        self.vector = vector

    def forward(self, text):
        return self.vector.expand(*text.shape)


@pytest.fixture(scope="module")
def model(processor):
    """A model that sees of a user's photos the brightest alone, which has all weight, the others' states are 0; and
    that was shown one profile with such photos, which only what comes of them could learn."""
    torch.manual_seed(0)
    made = MMProfileForConditionalGeneration(tiny_config(SCHEMA, len(processor.tokenizer), image_size=16, d_model=32))
    direction, fusion = torch.randn(32), made.fusion.eval()
    fusion.attention.query = Constant(direction)
    torch.nn.init.eye_(fusion.attention.key.weight)
    for block in made.text_model.decoder.block:  # fresh weights heed what they are shown little
        block.layer[1].EncDecAttention.v.weight.data.mul_(4)

    def photo_features(pixel_values, image_mask):
        brightness = pixel_values.flatten(2).mean(dim=2).masked_fill(~image_mask, -math.inf)
        decides = brightness == brightness.amax(dim=1, keepdim=True)
        return decides[..., None] * direction * 10

    made.eval().photo_features = photo_features
    batch = EvaluationCollator(processor, Sees(images=True, captions=True))([examples()[n] for n in range(USERS)])
    batch["labels"] = batch["labels"][:1].repeat(USERS, 1)
    optimizer = torch.optim.Adam([*fusion.ffn_out.parameters(), *fusion.gate_image.parameters()], lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        made(**batch).loss.backward()
        optimizer.step()
    return made


def examples(photos: int = PHOTOS) -> UserExamples:
    return UserExamples(undecoded(tiny_dataset(USERS, photos=photos)), SCHEMA, num_reviews=2, num_images=photos)


def figures(model, processor, batch_size: int = USERS, photos: int = PHOTOS) -> dict:
    collator, accelerator = EvaluationCollator(processor, Sees(images=True, captions=True)), Accelerator(cpu=True)
    loader = DataLoader(examples(photos), batch_size, collate_fn=collator)
    return deletion_test(model, accelerator.prepare(loader), processor, accelerator, "test")


def test_the_photo_that_alone_decides_is_told_and_no_other_moves_anything(model, processor):
    found = figures(model, processor)
    assert found.keys() == {"photos"}
    photos = found["photos"]
    assert (photos["users"], photos["faithful"]) == (USERS, None)  # too few to say
    assert photos["top"] > 1
    assert photos["random"] == pytest.approx(0, abs=1e-6)
    assert photos["difference"] == pytest.approx(photos["top"] - photos["random"])
    assert 0 < photos["interval"][0] < photos["top"] < photos["interval"][1]
    assert photos["more"] == 1


def test_weights_that_tell_another_photo_are_found_out(model, processor, monkeypatch):
    monkeypatch.setattr(deletion, "FEWEST", USERS)
    assert figures(model, processor)["photos"]["faithful"] is True
    fuse = model.fuse

    def turned(*args, **options):
        output = fuse(*args, **options)
        if output.image_attentions is not None:
            output.image_attentions = output.image_attentions.flip(2)
        return output

    monkeypatch.setattr(model, "fuse", turned)
    photos = figures(model, processor)["photos"]
    assert photos["top"] == pytest.approx(0, abs=1e-6)
    assert photos["random"] > 0
    assert photos["faithful"] is False


def test_a_fall_is_that_of_the_profile_written_with_all_photos_where_one_was_never_there(model, processor):
    batch = EvaluationCollator(processor, Sees(images=True, captions=True))([examples()[n] for n in range(USERS)])
    del batch["labels"]
    predictions = model.generate_profiles(**batch, tokenizer=processor.tokenizer, output_fusion=True)
    falls = []
    for user, prediction in enumerate(predictions):
        kept = [photo for photo in range(2 * PHOTOS) if photo != np.argmax(prediction.image_weights)]
        inputs = {name: tensor[user : user + 1] for name, tensor in batch.items()}
        inputs |= {name: inputs[name][:, kept] for name in ("pixel_values", "image_mask")}
        decisive = model.photo_features(batch["pixel_values"], batch["image_mask"])[user : user + 1, kept]
        encoded = model.fuse(
            model.text_features(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state,
            inputs["attention_mask"],
            decisive,
            inputs["image_mask"],
        )
        after = teacher_forced(model, processor.tokenizer, {}, [prediction.text], encoded)
        falls.append(prediction.log_probability - after.item())
    assert figures(model, processor)["photos"]["top"] == pytest.approx(np.mean(falls), abs=1e-5)


def test_falls_are_those_of_each_user_alone(model, processor):
    whole = figures(model, processor)["photos"]
    for batch_size in (1, 4):
        found = figures(model, processor, batch_size)["photos"]
        assert found["users"] == USERS
        assert [found[name] for name in ("top", "random", "difference", "more")] == pytest.approx(
            [whole[name] for name in ("top", "random", "difference", "more")], abs=1e-5
        )


def test_an_attributes_part_is_of_its_tokens_behind_those_before_and_all_add_up(model, processor):
    batch = EvaluationCollator(processor, Sees(images=True, captions=True))([examples()[0]])
    del batch["labels"]
    (prediction,) = model.generate_profiles(**batch, tokenizer=processor.tokenizer, output_fusion=True)
    fewer = batch["image_mask"].clone()
    fewer[0, int(np.argmax(prediction.image_weights))] = False
    ids = label(processor.tokenizer, prediction.text)
    tokens = processor.tokenizer.convert_ids_to_tokens(ids)
    part_of = torch.tensor([tokens[:place].count("\u2581|") for place in range(len(tokens))])
    assert int(part_of.max()) == len(SCHEMA.keys) - 1
    labels, values = torch.tensor([ids]), []
    for mask in (batch["image_mask"], fewer):
        features = model.photo_features(batch["pixel_values"], batch["image_mask"])
        text = model.text_features(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        logits = model(encoder_outputs=model.fuse(text, batch["attention_mask"], features, mask), labels=labels).logits
        values.append(logits.log_softmax(dim=-1).gather(2, labels[..., None])[0, :, 0])
    falls = values[0] - values[1]
    expected = [falls[part_of == part].sum().item() for part in range(len(SCHEMA.keys))]
    loader = DataLoader([examples()[0]], 1, collate_fn=EvaluationCollator(processor, Sees(images=True, captions=True)))
    photos = deletion_test(model, loader, processor, Accelerator(cpu=True), "test")["photos"]
    assert [part["top"] for part in photos["attributes"].values()] == pytest.approx(expected, abs=1e-4)
    assert sum(expected) == pytest.approx(photos["top"], abs=1e-4)


def test_who_has_one_photo_or_none_is_not_tested(model, processor):
    assert figures(model, processor, photos=0) == {}
    alone = UserExamples(undecoded(tiny_dataset(USERS)), SCHEMA, num_reviews=1, num_images=1)
    collator, accelerator = EvaluationCollator(processor, Sees(images=True, captions=True)), Accelerator(cpu=True)
    mixed = [alone[0], examples()[1], alone[2], examples()[3]]
    loader = DataLoader(mixed, 2, collate_fn=collator)
    assert deletion_test(model, loader, processor, accelerator, "test")["photos"]["users"] == 2


def test_a_model_that_tells_no_weights_has_nothing_to_test_and_is_not_searched(processor, monkeypatch):
    config = tiny_config(SCHEMA, len(processor.tokenizer), image_size=16, d_model=32)
    config.fusion = "concat"
    model = MMProfileForConditionalGeneration(config)
    monkeypatch.setattr(model, "_search", None)
    assert figures(model, processor) == {}
    assert figures(model.text_model, processor) == {}


def test_the_random_photo_is_one_of_the_others_and_follows_the_seed():
    drawn = [deletion._top_and_random([0.2, 0.5, 0.3, 0.0], np.random.default_rng(seed)) for seed in range(60)]
    assert {top for top, _ in drawn} == {1}
    assert {other for _, other in drawn} == {0, 2, 3}
    again = [deletion._top_and_random([0.2, 0.5, 0.3, 0.0], np.random.default_rng(seed)) for seed in range(60)]
    assert again == drawn


def test_figures_are_means_over_users_with_the_interval_of_the_paired_difference():
    users = [{"top": {"": 1.0 + n % 2}, "random": {"": 0.5 * (n % 2)}} for n in range(40)]
    found = summarise_falls(users)
    assert (found["users"], found["top"], found["random"], found["difference"]) == (40, 1.5, 0.25, 1.25)
    low, high = found["interval"]
    assert 1.1 < low < 1.25 < high < 1.4
    assert (found["more"], found["faithful"]) == (1, True)
    assert "attributes" not in found
    assert summarise_falls(users[:29])["faithful"] is None
    none = [{"top": {"": n % 2}, "random": {"": (n + 1) % 2}} for n in range(40)]
    assert summarise_falls(none)["faithful"] is False


def toy_views(combination: str):
    """A model, what stands for its processor, and a batch of users with several views."""
    tokenizer, schema = unigram_tokenizer(), SCHEMAS["alike"]
    model = model_for(tokenizer, "alike", combination=combination)
    targets = [[0] for _ in VIEWS]
    processor = SimpleNamespace(
        tokenizer=tokenizer,
        profile_schema=schema,
        encode_targets=lambda profiles: join_padded(
            [torch.tensor([label(tokenizer, schema.render(profile))]) for profile in profiles], -100
        ),
    )
    batch = inputs_for(tokenizer, 1, sum(VIEWS)) | {"views": torch.tensor(VIEWS), "labels": torch.tensor(targets)}
    return model, processor, batch


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_a_views_fall_is_that_of_the_profiles_share_of_the_schema_without_it(combination, monkeypatch):
    model, processor, batch = toy_views(combination)
    profiles = all_profiles(processor.profile_schema)
    monkeypatch.setattr(deletion, "EXPLORED", len(profiles))
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("views", "labels")}
    texts = [processor.profile_schema.render(profile) for profile in profiles]
    falls = []
    for of_user in teacher_forced(model, processor.tokenizer, inputs, texts).split(list(VIEWS)):
        combined = [
            scores.mean(dim=0) if combination == "product" else scores.logsumexp(dim=0)
            for scores in (of_user, *(of_user[torch.arange(len(of_user)) != view] for view in range(len(of_user))))
            if len(scores)
        ]
        shares = torch.stack([scores.log_softmax(dim=0) for scores in combined])[:, int(combined[0].argmax())]
        if len(of_user) > 1:
            falls.append(shares[0] - shares[1:].min())  # weights are of this very fall
    found = deletion_test(model, [batch], processor, Accelerator(cpu=True), "test")
    assert found.keys() == {"views"}
    assert found["views"]["users"] == len(falls) == 3
    assert found["views"]["top"] == pytest.approx(torch.stack(falls).mean().item(), abs=1e-4)
    assert found["views"]["top"] > found["views"]["random"]


def test_joined_views_have_no_weights_to_test():
    model, processor, batch = toy_views("states")
    assert deletion_test(model, [batch], processor, Accelerator(cpu=True), "test") == {}


@pytest.mark.parametrize("combination", ["product", "mixture", "states"])
def test_a_photo_of_one_of_several_views_is_taken_from_that_view_alone(combination, model, processor, monkeypatch):
    monkeypatch.setattr(model.config, "combination", combination)
    collator = EvaluationCollator(processor, Sees(images=True, captions=True))
    batch = collator([examples()[n] for n in range(USERS)]) | {"views": torch.tensor([1, 3, 2])}
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "views")}
    options = {"tokenizer": processor.tokenizer, "views": [1, 3, 2], "output_fusion": True}
    predictions = model.generate_profiles(**inputs, **options)
    features, states, falls = model.photo_features(batch["pixel_values"], batch["image_mask"]), [], []
    text = model.text_features(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    for first, count, prediction in zip((0, 1, 4), (1, 3, 2), predictions, strict=True):
        row, photo = divmod(int(np.argmax(prediction.image_weights)), 2 * PHOTOS)
        scores = []
        for without in (False, True):
            mask = inputs["image_mask"].clone()
            mask[first + row, photo] = not without
            rows = slice(first, first + count)
            views = torch.tensor([count])
            encoded = model.fuse(text[rows], inputs["attention_mask"][rows], features[rows], mask[rows])
            states = encoded.last_hidden_state, encoded.attention_mask
            if combination == "states":
                joined, joined_mask = join_views(*states, views)
                encoded.last_hidden_state, encoded.attention_mask = joined, joined_mask
            of_views = teacher_forced(model, processor.tokenizer, {}, [prediction.text], encoded)[:, 0]
            scores.append(of_views.mean() if combination == "product" else of_views.exp().mean().log())
        falls.append((scores[0] - scores[1]).item())
    found = deletion_test(model, [batch], processor, Accelerator(cpu=True), "test")
    assert found["photos"]["top"] == pytest.approx(np.mean(falls), abs=1e-5)
