"""Sparsemax, the text-guided attention and the gate, against independent solvers and plain references."""

import entmax
import numpy as np
import pytest
import torch
from transformers import T5Config

from mmprofile.fusion_mmprofile import TGA, GatedFusion, sparsemax
from tests.tiny_models import D_MODEL, PATCHES, random_batch, random_photos, random_text, tiny_model


def random_scores(*shape, scale=1.0, dtype=torch.float64):
    return (scale * torch.randn(*shape, dtype=dtype)).requires_grad_()


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 2), (3, 4, 30)])
def test_sparsemax_equals_entmax_in_values_and_gradients(shape, scale):
    ours = random_scores(*shape, scale=scale)
    theirs = ours.detach().clone().requires_grad_()
    upstream = torch.randn(*shape, dtype=torch.float64)
    weights, expected = sparsemax(ours), entmax.sparsemax(theirs, dim=-1)
    weights.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_sparsemax_of_what_is_no_number_is_none_and_no_error():
    assert sparsemax(torch.full((2, 3), float("nan"))).isnan().all()


def test_sparsemax_gradients_are_those_of_finite_differences():
    mask = torch.rand(4, 6) < 0.6
    mask[0] = False
    assert torch.autograd.gradcheck(lambda scores: sparsemax(scores, mask), random_scores(4, 6))


@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        ([0.5, 0.0], [0.75, 0.25]),
        ([2.0, 0.0], [1.0, 0.0]),
        ([1.0, 1.0, -5.0], [0.5, 0.5, 0.0]),
        ([0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
        ([1e30, -1e30, 0.0], [1.0, 0.0, 0.0]),
    ],
)
def test_sparsemax_by_hand(scores, weights):
    assert sparsemax(torch.tensor(scores)).tolist() == weights


def test_a_masked_score_has_weight_exactly_0_and_no_influence():
    scores = random_scores(50, 8) - 1e6
    mask = torch.rand(50, 8) < 0.5
    mask[:, 3] = True
    garbage = torch.where(mask, scores, torch.tensor([1e30, -1e30], dtype=torch.float64).repeat(4))
    weights = sparsemax(garbage, mask)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(50, dtype=torch.float64))
    for row, kept in enumerate(mask):
        torch.testing.assert_close(weights[row, kept], sparsemax(scores[row, kept]))


def test_a_row_with_nothing_unmasked_is_0_and_has_gradient_0():
    scores = random_scores(2, 3)
    weights = sparsemax(scores, torch.tensor([[False, False, False], [True, True, False]]))
    (weights * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert weights[0].tolist() == [0, 0, 0]
    assert scores.grad[0].tolist() == [0, 0, 0]


def test_sparsemax_does_not_see_a_shift():
    scores = random_scores(20, 5)
    torch.testing.assert_close(sparsemax(scores + 100), sparsemax(scores), rtol=0, atol=1e-12)


def bisected_sparsemax(scores: np.ndarray) -> np.ndarray:
    """The threshold at which what exceeds it sums to 1, by halving."""
    low, high = scores.max() - 1, scores.max()
    for _ in range(100):
        middle = (low + high) / 2
        if np.maximum(scores - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(scores - low, 0)


def reference_fusion(fusion: GatedFusion, text, visual, mask):
    """Eq. 6 to 8, user by user and position by position, in NumPy."""
    arrays = {name: parameter.detach().double().numpy() for name, parameter in fusion.named_parameters()}
    w = {name.removesuffix(".weight"): array for name, array in arrays.items()}
    fused, weights, gates = text.copy(), np.zeros((*text.shape[:2], visual.shape[1])), np.zeros_like(text)
    for user in range(len(text)):
        there = np.flatnonzero(mask[user])
        for position, h_txt in enumerate(text[user]):
            h_img = np.zeros_like(h_txt)
            if len(there):
                query = w["attention.query"] @ h_txt
                scores = [query @ (w["attention.key"] @ visual[user, i]) / np.sqrt(len(query)) for i in there]
                weights[user, position, there] = bisected_sparsemax(np.array(scores))
                values = [weights[user, position, i] * (w["attention.value"] @ visual[user, i]) for i in there]
                attended = w["attention.output"] @ sum(values)
                h_img = w["ffn_out"] @ np.maximum(w["ffn_in"] @ attended, 0)
            gates[user, position] = np.tanh(w["gate_text"] @ h_txt + w["gate_image"] @ h_img)
            available = float(len(there) > 0)
            fused[user, position] += available * gates[user, position] * h_img
    return fused, weights, gates


def test_fusion_is_equations_6_to_8():
    fusion = GatedFusion(T5Config(d_model=12, d_ff=20, dropout_rate=0.1)).eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    text, visual = torch.randn(4, 5, 12), torch.randn(4, 6, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    output = fusion(text, torch.ones(4, 5), visual, mask)
    results = output.last_hidden_state, output.image_attentions, output.gate
    expected = reference_fusion(fusion, text.double().numpy(), visual.double().numpy(), mask.numpy())
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.detach().numpy(), reference, rtol=1e-4, atol=1e-5)
    weights = results[1]
    assert ((weights[0] > 0).sum(-1) < 6).any(), "sparsemax leaves photos out"
    assert torch.equal(results[0][3], text[3])


def test_half_precision_weights_still_sum_to_1():
    """Over 400 states a sparsemax in bfloat16 itself is off by 0.02."""
    attention = TGA(16).bfloat16()
    text, visual = 0.5 * torch.randn(1, 50, 16), torch.randn(1, 400, 16)
    _, weights = attention(text.bfloat16(), visual.bfloat16(), torch.ones(1, 400).bool())
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(1, 50), rtol=0, atol=0.006)


def test_a_user_without_photos_gives_the_attention_zero_gradients():
    attention = TGA(8)
    attended, weights = attention(torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.zeros(2, 4).bool())
    attended.sum().backward()
    assert not attended.any() and not weights.any()
    assert all(not parameter.grad.any() for parameter in attention.parameters())


@pytest.mark.parametrize("vision_feature", ["cls", "patches"])
def test_photo_features_are_the_projected_states_of_each_photo(vision_feature):
    model = tiny_model(vision_feature=vision_feature)
    photos = random_photos()
    features = model.photo_features(**photos)
    assert features.shape == ((3, 4, D_MODEL) if vision_feature == "cls" else (3, 4, PATCHES, D_MODEL))
    for user, there in zip(range(3), photos["image_mask"], strict=True):
        for image, is_photo in zip(range(4), there, strict=True):
            states = model.vision_model(photos["pixel_values"][user, image][None]).last_hidden_state[0]
            expected = model.visual_projection(states[0] if vision_feature == "cls" else states[1:])
            torch.testing.assert_close(features[user, image], expected * is_photo, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vision_feature", ["cls", "patches"])
def test_concat_is_equation_3(vision_feature):
    model = tiny_model(fusion="concat", vision_feature=vision_feature)
    text, photos = random_text(), random_photos()
    encoder = model.text_model.encoder(text["input_ids"], text["attention_mask"]).last_hidden_state
    per_photo = 1 if vision_feature == "cls" else PATCHES
    visual = model.photo_features(**photos).reshape(3, 4 * per_photo, D_MODEL)
    output = model.encode(text["input_ids"], text["attention_mask"], **photos)
    assert torch.equal(output.last_hidden_state, torch.cat([encoder, visual], dim=1))
    expected = [
        [1] * 10 + [1] * 4 * per_photo,
        [1] * 5 + [0] * 5 + ([1] * per_photo + [0] * 2 * per_photo + [1] * per_photo),
        [1] * 10 + [0] * 4 * per_photo,
    ]
    assert output.attention_mask.tolist() == expected


@pytest.mark.parametrize("vision_feature", ["cls", "patches"])
def test_gated_fusion_in_the_model_is_equations_6_to_8(vision_feature):
    model = tiny_model(vision_feature=vision_feature)
    text, photos = random_text(), random_photos()
    output = model.encode(text["input_ids"], text["attention_mask"], **photos, output_fusion=True)
    encoder = model.text_model.encoder(text["input_ids"], text["attention_mask"]).last_hidden_state
    visual = model.photo_features(**photos).flatten(1, -2)
    mask = photos["image_mask"].numpy().repeat(visual.shape[1] // 4, axis=1)
    arrays = [tensor.detach().double().numpy() for tensor in (encoder, visual)]
    fused, weights, gates = reference_fusion(model.fusion, *arrays, mask)
    weights = weights.reshape(3, 10, 4, -1).sum(-1)
    for result, reference in (
        (output.last_hidden_state, fused),
        (output.image_attentions, weights),
        (output.gate, gates),
    ):
        np.testing.assert_allclose(result.detach().numpy(), reference, rtol=1e-3, atol=1e-4)


def test_attention_weights_and_gate_come_out_only_when_asked_for():
    model, batch = tiny_model(), random_batch()
    output = model(**batch, output_fusion=True)
    assert output.image_attentions.shape == (3, 10, 4)
    assert output.gate.shape == (3, 10, D_MODEL)
    assert output.gate.abs().max() <= 1
    torch.testing.assert_close(output.image_attentions.sum(-1), torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 10))
    assert (output.image_attentions[1][:, [1, 2]] == 0).all()
    for model_of, options in ((model, {}), (tiny_model(fusion="concat"), {"output_fusion": True})):
        plain = model_of(**batch, **options)
        assert plain.image_attentions is None and plain.gate is None


def test_a_mask_of_other_photos_than_the_features_is_refused():
    model, text = tiny_model(), torch.zeros(3, 5, D_MODEL)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 4\)"):
        model.fuse(text, None, torch.zeros(3, 4, D_MODEL), torch.ones(3, 2, dtype=torch.bool))
