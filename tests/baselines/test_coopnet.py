"""COOPNet: how it joins text and photos against NumPy, whom its heads learn from and answer, how it is saved."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoConfig, BertConfig, BertModel, T5ForConditionalGeneration, ViTModel

from baselines.coopnet import COOPNET, CoopNet, CoopNetConfig
from systems.system import target_classes
from tests.tiny_models import IMAGE_SIZE, random_photos, tiny_t5_config, tiny_vit_config
from tests.toy_processor import CAPTION_MARK, PROFILE, PROFILE_MARK, REVIEW_MARK, SCHEMA, toy_processor

VALUES = 4  # of the schema: small, large; red, green


def tiny_coopnet(**fields) -> CoopNet:
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "embedding_size": 12, "hidden_size": 8, "vision_config": tiny_vit_config()}
    model = CoopNet(CoopNetConfig(**sizes, profile_schema=SCHEMA.to_list(), system="coopnet", **fields)).eval()
    model.prepare(toy_processor())
    return model


def texts() -> dict[str, torch.Tensor]:
    """Of three users, of whom the second has a shorter text."""
    ids = [
        [REVIEW_MARK, 10, 11, 12, REVIEW_MARK, 13, CAPTION_MARK, 14, 1],
        [REVIEW_MARK, 17, 11, 1],
        [PROFILE_MARK, 16, 15, 14, CAPTION_MARK, 13, 12, 11, 1],
    ]
    return dict(toy_processor().pad_text(ids))


def classes() -> torch.Tensor:
    return target_classes(SCHEMA, [PROFILE, PROFILE | {"size": "small"}, PROFILE])


def of_users(batch, *users) -> dict[str, torch.Tensor]:
    return {name: tensor[list(users)] for name, tensor in batch.items()}


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def test_marks_are_the_processors():
    assert sorted(tiny_coopnet().config.mark_ids) == sorted([REVIEW_MARK, CAPTION_MARK, PROFILE_MARK])


def test_sections_are_read_each_for_itself_and_in_their_order():
    model, text = tiny_coopnet(), texts()
    read = model.reader(**text, mark_ids=model.config.mark_ids)
    whole = model.reader(**text, mark_ids=[])
    assert torch.isclose(read, whole).all(dim=1).tolist() == [False, True, False]  # the second has one section
    turned = text | {"input_ids": text["input_ids"].clone()}
    turned["input_ids"][0] = torch.tensor([CAPTION_MARK, 14, REVIEW_MARK, 13, REVIEW_MARK, 10, 11, 12, 1])
    assert not torch.allclose(model.reader(**turned, mark_ids=model.config.mark_ids)[0], read[0])


def test_photos_are_weighed_by_the_text_and_padding_has_weight_0():
    model, photos = tiny_coopnet(), random_photos()
    text = torch.randn(3, 16)
    found, weights = model.look(text, **photos)
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    mask = photos["image_mask"]
    assert mask.sum(dim=1).tolist() == [4, 2, 0]
    for user in range(3):
        there = np.flatnonzero(mask[user])
        assert not weights[user][~mask[user]].any()
        if not len(there):
            assert not found[user].any()
            continue
        states = model.vision_model(photos["pixel_values"][user, there]).last_hidden_state[:, 0].detach().numpy()
        seen = states @ w["visual_projection.weight"].T + w["visual_projection.bias"]
        query = w["query.weight"] @ text[user].numpy()
        expected = softmax(np.array([query @ (w["key.weight"] @ photo) / math.sqrt(16) for photo in seen]))
        np.testing.assert_allclose(weights[user, there].detach().numpy(), expected, rtol=1e-4)
        np.testing.assert_allclose(found[user].detach().numpy(), expected @ seen, rtol=1e-4, atol=1e-6)


def test_text_and_photos_exchange_what_they_share_before_the_heads():
    model, photos = tiny_coopnet(), random_photos()
    text = model.reader(**texts(), mark_ids=model.config.mark_ids)
    image, _ = model.look(text, **photos)
    logits = model(**texts(), **photos)
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    own, seen = text.detach().numpy()[:2], image.detach().numpy()[:2]
    bridges = w["text_bridge.weight"], w["image_bridge.weight"], w["text_bridge.bias"]
    shared = np.tanh(own @ bridges[0].T + seen @ bridges[1].T + bridges[2])
    inputs = {"text": own + shared, "image": seen + shared}
    inputs["merged"] = np.concatenate([inputs["text"], inputs["image"]], axis=1)
    for name, given in inputs.items():
        expected = given @ w[f"heads.{name}.weight"].T + w[f"heads.{name}.bias"]
        np.testing.assert_allclose(getattr(logits, name)[:2].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def plain_loss(logits, target):
    """Of one user: size takes one value, colours both."""
    size = cross_entropy(logits[:2], target[:2].argmax())
    return size + binary_cross_entropy_with_logits(logits[2:], target[2:], reduction="sum")


def test_the_loss_is_that_of_three_heads_and_without_photos_that_of_the_text():
    model, inputs = tiny_coopnet(), texts() | random_photos()
    logits, target = model(**inputs), classes()
    losses = model.target_losses(inputs, {"classes": target})
    for user in (0, 1):
        heads = [logits.text[user], logits.image[user], logits.merged[user]]
        torch.testing.assert_close(losses[user], sum(plain_loss(head, target[user]) for head in heads))
    alone = model(**of_users(texts(), 2)).text[0]
    torch.testing.assert_close(losses[2], plain_loss(alone, target[2]))
    torch.testing.assert_close(model.target_losses(texts(), {"classes": target})[2], losses[2])


def test_heads_of_photos_learn_nothing_from_users_without():
    model, inputs = tiny_coopnet(), texts() | random_photos()
    model.target_losses(inputs, {"classes": classes()})[2].backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    touched = {name.split(".")[0] for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert touched == {"reader", "heads"}
    assert gradients["heads.text.weight"].any()
    assert not any(gradients[f"heads.{name}.weight"].any() for name in ("image", "merged"))


def test_no_weight_is_without_use():
    model, inputs = tiny_coopnet(), texts() | random_photos()
    model.target_losses(inputs, {"classes": classes()}).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_users_are_computed_alone_as_beside_others_and_the_order_of_photos_is_none():
    model, inputs = tiny_coopnet(), texts() | random_photos()
    target = {"classes": classes()}
    losses = model.target_losses(inputs, target)
    for user in range(3):
        one = of_users(inputs, user)
        torch.testing.assert_close(model.target_losses(one, of_users(target, user)), losses[[user]])
    longer = inputs | {name: torch.nn.functional.pad(texts()[name], (0, 5)) for name in texts()}
    torch.testing.assert_close(model.target_losses(longer, target), losses)
    turned = inputs | {name: inputs[name].flip(1) for name in random_photos()}
    torch.testing.assert_close(model.target_losses(turned, target), losses)
    garbage = torch.where(inputs["image_mask"][..., None, None, None], inputs["pixel_values"], 1e6)
    assert torch.equal(model.target_losses(inputs | {"pixel_values": garbage}, target), losses)


def test_the_merged_head_answers_and_the_texts_where_there_is_no_photo():
    model, inputs = tiny_coopnet(), texts() | random_photos()
    logits = model(**inputs)
    answers = model.profile_users(inputs, toy_processor().tokenizer, num_return_profiles=3)
    for user, head in ((0, logits.merged), (1, logits.merged), (2, logits.text)):
        sizes = head[user, :2].softmax(-1).tolist()
        assert list(answers[user]["probabilities"]["size"].values()) == pytest.approx(sizes)
        best = max(range(2), key=sizes.__getitem__)
        assert answers[user]["profile"] == {"size": ["small", "large"][best], "colours": ["red", "green"]}
        assert answers[user]["log_probability"] == pytest.approx(math.log(sizes[best]))
        assert list(answers[user]["probabilities"]["colours"].values()) == pytest.approx([1, 1])
        assert len(answers[user]["runners_up"]) == 1 and answers[user]["exact"]
        assert answers[user]["coverage"] == pytest.approx(1)
        assert len(answers[user]["image_weights"]) == inputs["image_mask"][user].sum()
    written = model.write_profiles(inputs, toy_processor(), num_beams=5)
    assert written == [answer["profile"] for answer in answers]
    assert sum(answers[0]["image_weights"]) == pytest.approx(1)


def test_bounds_of_a_search_are_refused():
    with pytest.raises(ValueError, match="max_calls.*coopnet"):
        tiny_coopnet().profile_users(texts(), toy_processor().tokenizer, max_calls=3)


def test_a_user_of_whom_nothing_finite_is_computed_has_an_error_alone():
    model = tiny_coopnet()
    with torch.no_grad():
        model.heads["text"].bias[0] = torch.inf
    found = model.profile_users(texts() | random_photos(), toy_processor().tokenizer)
    assert list(found[2]) == ["error"] and "profile" in found[0]


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    model = tiny_coopnet(paradigm="multimodal", objectives=["fusion", "text"])
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="mmprofile_coopnet"):
        AutoConfig.from_pretrained(tmp_path)
    loaded = CoopNet.from_pretrained(tmp_path)
    assert loaded.profile_schema == SCHEMA
    names = ("mark_ids", "system", "paradigm", "objectives")
    assert [getattr(loaded.config, name) for name in names] == [getattr(model.config, name) for name in names]
    inputs = texts() | random_photos()
    torch.testing.assert_close(loaded(**inputs).merged, model(**inputs).merged)
    with torch.no_grad():  # a GRU keeps its weights twice
        changed = copy.deepcopy(loaded)
        changed.reader.words.gru.weight_ih_l0.zero_()
    assert not torch.allclose(changed(**inputs).text, loaded(**inputs).text)


def test_it_begins_with_a_models_words_and_a_vit_and_gets_its_heads_from_the_schema(tmp_path):
    T5ForConditionalGeneration(tiny_t5_config()).save_pretrained(tmp_path / "t5")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    model = COOPNET.pretrained(str(tmp_path / "t5"), str(tmp_path / "vit"))
    words = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5").shared.weight
    torch.testing.assert_close(model.reader.embedding.weight, words / words.std())
    tower = ViTModel.from_pretrained(tmp_path / "vit", add_pooling_layer=False)
    torch.testing.assert_close(model.vision_model.state_dict(), tower.state_dict(), rtol=0, atol=0)
    model.resize_token_embeddings(120)
    model.prepare(toy_processor())
    assert model.config.vocab_size == 120
    head = model.heads["merged"]
    assert head.out_features == VALUES and not head.bias.any()
    model.prepare(toy_processor())
    assert model.heads["merged"] is head
    ids = torch.full((1, 2), 119)
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).text.shape == (1, VALUES)
    model.save_pretrained(tmp_path / "coopnet")
    torch.testing.assert_close(CoopNet.from_pretrained(tmp_path / "coopnet").state_dict(), model.state_dict())


def test_towers_of_another_kind_are_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / "bert")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match=r"bert' must be of the type 'vit', it is 'bert'"):
        COOPNET.pretrained(str(tmp_path / "bert"), str(tmp_path / "bert"))
    with pytest.raises(ValueError, match=r"vit' must be of a text model, .*, it is of the type 'vit'"):
        COOPNET.pretrained(str(tmp_path / "vit"), str(tmp_path / "vit"))


def test_16_bits_and_recomputed_activations_change_losses_little_or_not():
    model, inputs, target = tiny_coopnet().train(), texts() | random_photos(), {"classes": classes()}
    expected = model.target_losses(inputs, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.target_losses(inputs, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    expected.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing_enable()
    model.target_losses(inputs, target).sum().backward()
    torch.testing.assert_close({name: p.grad for name, p in model.named_parameters()}, gradients)


def test_it_learns_users_by_heart_with_photos_and_without():
    torch.manual_seed(1)
    model, users = tiny_coopnet().train(), 8
    sizes = torch.arange(users) % 2
    mark = torch.full((users, 1), REVIEW_MARK)
    ids = torch.cat([mark, torch.randint(10, 18, (users, 6)), torch.ones(users, 1, dtype=torch.long)], dim=1)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(users, 1, 3, IMAGE_SIZE, IMAGE_SIZE),
        "image_mask": (torch.arange(users) < users // 2)[:, None],
    }
    profiles = [PROFILE | {"size": ["small", "large"][size]} for size in sizes]
    target = {"classes": target_classes(SCHEMA, profiles)}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        model.target_losses(inputs, target).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model.eval().write_profiles(inputs, toy_processor(), num_beams=1) == profiles
