"""The aspects of AoM, their attention, the links between states, and the convolution along them."""

import numpy as np
import pytest
import torch

from baselines.aom import A3M, AOM, GraphConvolution, associate
from mmprofile import ProfileSchema
from tests.baselines.photo_users import photo_model, photo_processor, users

D_MODEL = 6


@pytest.fixture(scope="module")
def processor():
    return photo_processor()


def test_attention_to_aspects_is_the_equations():
    layer, states, aspects = A3M(D_MODEL), torch.randn(2, 5, D_MODEL), torch.randn(2, 3, D_MODEL)
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    expected = np.zeros((2, 5, D_MODEL))
    for user, rows in enumerate(states.numpy()):
        for place, state in enumerate(rows):
            scores = []
            for aspect in aspects[user].numpy():
                seen = weights["state.weight"] @ state + weights["aspect.weight"] @ aspect + weights["aspect.bias"]
                scores.append(weights["score.weight"][0] @ np.tanh(seen))
            shares = np.exp(scores) / np.exp(scores).sum()
            attended = shares @ aspects[user].numpy()
            logit = weights["keep.weight"][0] @ np.concatenate([state, attended]) + weights["keep.bias"][0]
            keep = 1 / (1 + np.exp(-logit))
            expected[user, place] = keep * state + (1 - keep) * attended
    np.testing.assert_allclose(layer(states, aspects).detach(), expected, atol=1e-5)


def test_links_are_positive_cosines_and_photos_are_linked_with_aspects_alone():
    states, photos, aspects = torch.randn(2, 8, D_MODEL), 3, 2
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0]])
    kinds = ["photo"] * photos + ["aspect"] * aspects + ["text"] * 3
    apart = [{"photo"}, {"photo", "text"}]  # of two nodes' kinds
    expected = np.zeros((2, 8, 8))
    for user in range(2):
        for i, a in enumerate(states[user].numpy()):
            for j, b in enumerate(states[user].numpy()):
                if mask[user, i] and mask[user, j] and {kinds[i], kinds[j]} not in apart:
                    expected[user, i, j] = max(0, a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            expected[user, i, i] = 1
    found = associate(states.requires_grad_(), mask, photos, aspects)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found.requires_grad
    cosines = torch.nn.functional.cosine_similarity(states[0, 5:, None], states[0, None, 5:], dim=-1)
    assert (cosines < 0).any()  # else nothing showed what becomes of these


def test_a_convolution_is_the_mean_over_links_and_a_layer_of_it():
    layer, states, links = GraphConvolution(D_MODEL), torch.randn(2, 4, D_MODEL), torch.rand(2, 4, 4)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    expected = np.zeros((2, 4, D_MODEL))
    for user in range(2):
        for node in range(4):
            row = links[user, node].numpy()
            gathered = sum(share * state for share, state in zip(row, states[user].numpy(), strict=True))
            expected[user, node] = np.maximum(0, weight @ gathered / (1 + row.sum()) + bias)
    np.testing.assert_allclose(layer(states, links).detach(), expected, atol=1e-5)


def test_the_encoder_output_is_the_refined_states_and_half_the_graphs(processor):
    model, (inputs, _) = photo_model(AOM, processor), users(processor)
    refined, passed = [], []
    model.aspect_attention.register_forward_hook(lambda module, given, output: refined.append(output))
    model.graph[1].register_forward_hook(lambda module, given, output: passed.append(output))
    encoded = model.encode(**inputs)
    torch.testing.assert_close(encoded.last_hidden_state, refined[0] + 0.5 * passed[0])
    aspects, seq = len(model.config.aspect_ids), inputs["input_ids"].shape[1]
    per_photo = 1 + (16 // 8) ** 2
    assert encoded.attention_mask.shape == (2, 3 * per_photo + aspects + seq)
    assert encoded.attention_mask[1, : 3 * per_photo].sum() == 0
    assert encoded.attention_mask[1, 3 * per_photo :].all()


def test_aspects_are_the_tokens_of_the_attributes_names_in_order(processor):
    model = photo_model(AOM, processor)
    text = "Stars Favorite Category Preferred Meal Budget Range Discount Preference Service Preference"
    assert processor.tokenizer.decode(model.config.aspect_ids) == text
    schema = ProfileSchema([{"name": "Size", "values": ["small", "large"]}])
    other = photo_processor()
    other.profile_schema = schema
    model.prepare(other)
    assert processor.tokenizer.decode(model.config.aspect_ids) == "Size"


def test_other_aspects_are_other_losses(processor):
    model, (inputs, targets) = photo_model(AOM, processor), users(processor)
    before = model.target_losses(inputs, targets)
    model.config.aspect_ids = model.config.aspect_ids[:3]
    assert ((model.target_losses(inputs, targets) - before).abs() > 0.05).all()


def test_aspects_survive_saving(processor, tmp_path):
    model = photo_model(AOM, processor)
    model.save_pretrained(tmp_path)
    assert AOM.model_class.from_pretrained(tmp_path).config.aspect_ids == model.config.aspect_ids != []


def test_a_model_that_knows_no_aspects_says_what_to_call(processor):
    model, (inputs, targets) = photo_model(AOM, processor), users(processor)
    model.config.aspect_ids = None
    with pytest.raises(ValueError, match=r"call prepare\(processor\) first"):
        model.target_losses(inputs, targets)


def test_texts_and_names_that_need_more_positions_than_bart_has_are_refused(processor):
    model = photo_model(AOM, processor)
    long = photo_processor(max_text_tokens=2000)
    needed = "11 tokens of attributes' names and max_text_tokens=2000 .* max_position_embeddings="
    with pytest.raises(ValueError, match=needed):
        model.prepare(long)
    assert photo_model(AOM, long).target_losses(*users(long)).isfinite().all()
