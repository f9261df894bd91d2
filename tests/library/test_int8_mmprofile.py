"""Linear layers of 8 bits."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoProcessor, pipeline
from transformers.activations import NewGELUActivation

from files.checkpoint_code import load_model
from handler import EndpointHandler
from mmprofile import fastest_weights, int8_mmprofile
from mmprofile.int8_mmprofile import Int8Linear, quantize_linears
from tests.tiny_folder import save_tiny_folder


def linear(width: int = 48, outputs: int = 32, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, outputs, bias=bias)


def by_hand(layer: nn.Linear, states: np.ndarray) -> np.ndarray:
    """In 64 bits and whole numbers, as its documentation says."""
    weight = layer.weight.detach().double().numpy()
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    step = np.abs(states).max(axis=-1, keepdims=True) / 127
    products = np.rint(states / step) @ np.rint(weight / scale).T
    bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()
    return products * step * scale.T + bias


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def packs(request, monkeypatch):
    """Both products, where this CPU has both."""
    if request.param and not int8_mmprofile._packs():
        pytest.skip("this CPU has neither VNNI nor AMX")
    monkeypatch.setattr(int8_mmprofile, "_packs", lambda: request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (700,)])
def test_it_multiplies_integers_with_a_scale_a_token_and_an_output(shape, bias, packs):
    layer = linear(bias=bias)
    states = torch.randn(*shape, 48, generator=torch.Generator().manual_seed(1))
    found = Int8Linear.of(layer)(states)
    assert found.shape == (*shape, 32) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), by_hand(layer, states.double().numpy()), rtol=1e-3, atol=2e-3)
    exact = layer(states).detach()
    assert (found - exact).abs().max() < 0.05 and torch.cosine_similarity(found, exact, dim=-1).min() > 0.999


def test_weights_are_saved_copied_and_moved_as_integers_packed_or_not(packs):
    layer, states = Int8Linear.of(linear()), torch.randn(4, 48, generator=torch.Generator().manual_seed(2))
    integers, expected = layer.weight.clone(), layer(states)
    assert torch.equal(layer.integers(), integers) and len(layer.weight) in (0, 32)
    copied, pickled = copy.deepcopy(layer), io.BytesIO()
    assert torch.equal(copied(states), expected) and torch.equal(layer(states), expected)
    torch.save(layer, pickled)
    pickled.seek(0)
    read = torch.load(pickled, weights_only=False)
    assert torch.equal(read.weight, integers) and torch.equal(read(states), expected)
    layer(states)
    other = Int8Linear.of(nn.Linear(48, 32))
    other(states)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer.state_dict()["weight"], integers) and torch.equal(other(states), expected)
    assert torch.equal(layer.to(torch.device("cpu"))(states), expected)


def test_large_values_of_one_token_cost_the_others_nothing(packs):
    layer, states = Int8Linear.of(linear()), torch.randn(4, 48, generator=torch.Generator().manual_seed(2))
    before = layer(states)
    states[1] *= 1e6
    after = layer(states)
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert torch.allclose(after[1] - layer.bias, 1e6 * (before[1] - layer.bias), rtol=1e-3)
    assert torch.equal(layer(torch.zeros(2, 48)), layer.bias.expand(2, -1))


def test_layers_of_the_same_input_share_its_integers_until_it_changes():
    one, other = (Int8Linear.of(linear(outputs=n)) for n in (8, 9))
    states = torch.randn(3, 48)
    assert torch.equal(other(states), other(states.clone())) and one(states).shape == (3, 8)
    expected = one(states.clone() * -2)
    states *= -2
    assert torch.equal(one(states), expected)
    with torch.inference_mode():
        inside = torch.randn(3, 48)
        first = one(inside).clone()
        inside *= -2
        assert torch.allclose(one(inside) - one.bias, -2 * (first - one.bias), atol=1e-4)


def test_a_gelu_is_another_up_to_what_8_bits_cannot_tell():
    made = nn.ModuleDict({"act": NewGELUActivation()})
    before = made.act
    assert quantize_linears(made) == [] and isinstance(made.act, nn.GELU)
    states = torch.linspace(-8, 8, 1001)
    assert torch.allclose(made.act(states), before(states), atol=5e-4)


def test_other_types_and_devices_than_a_cpus_have_the_same_layer():
    layer, states = Int8Linear.of(linear()), torch.randn(6, 48, generator=torch.Generator().manual_seed(3))
    assert layer(states.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(layer(states.bfloat16()).float(), layer(states), atol=0.05)
    assert torch.allclose(layer._dequantized(states), layer(states), atol=0.05)
    assert layer.to("meta")(states.to("meta")).shape == (6, 32)
    assert {name: tensor.dtype for name, tensor in layer.state_dict().items()} == {
        "weight": torch.int8,
        "scale": torch.float32,
        "bias": torch.float32,
    }
    assert not [parameter for parameter in layer.parameters() if parameter.requires_grad]


def test_what_is_fastest_is_told_by_the_instructions_that_the_cpu_has(monkeypatch):
    for has, expected in (
        ({"avx512_vnni": True, "avx512_bf16": True}, "int8"),
        ({"amx_int8": True}, "int8"),
        ({"avx512_bf16": True, "avx512_vnni": False}, "bfloat16"),
        ({"avx2": True}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert fastest_weights() == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8") / "model"
    save_tiny_folder(folder)
    return folder


def loaded(folder, **options):
    return AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True, **options)


def answers(model, folder) -> list[dict]:
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    users = [processor.encode_user(model.config.sees, reviews=["Good tea.", "A loud room."], images=[])]
    return model.profile_users(processor.pad_users(users), processor.tokenizer)


def test_a_quantized_checkpoint_is_saved_and_loaded_as_it_is(folder, tmp_path):
    exact, quantized = loaded(folder), loaded(folder, quantization="int8")
    quantized.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(folder, trust_remote_code=True).save_pretrained(tmp_path)
    again, own = loaded(tmp_path, quantization="int8"), load_model(str(tmp_path), None)
    assert again.config.linear_weights == own.config.linear_weights == "int8"
    for model in (again, own, load_model(str(folder), None, dtype="int8")):
        assert model.state_dict().keys() == quantized.state_dict().keys()
        assert all(torch.equal(tensor, quantized.state_dict()[name]) for name, tensor in model.state_dict().items())
    one, other = (answers(model, tmp_path)[0] for model in (quantized, again))
    assert one == other
    probabilities = answers(exact, folder)[0]["probabilities"]["mood"]
    assert one["probabilities"]["mood"] == pytest.approx(probabilities, abs=0.05)
    names = [type(module).__name__ for module in again.modules()]
    assert names.count("Int8Linear") > 10 and names.count("Linear") <= 1  # a head that is tied to the embedding
    with pytest.raises(ValueError, match="is quantized"):
        again.quantize()


def test_a_head_of_its_own_is_quantized_too_and_loaded_as_it_is(folder, tmp_path):
    model = loaded(folder)
    torch.manual_seed(0)
    model.text_model.lm_head.weight = nn.Parameter(torch.randn_like(model.text_model.lm_head.weight))  # as Flan-T5's
    model.quantize().save_pretrained(tmp_path)
    assert model.config.float_linears == [] and type(model.text_model.lm_head).__name__ == "Int8Linear"
    again = loaded(tmp_path)
    assert torch.equal(again.text_model.lm_head.weight, model.text_model.lm_head.weight)
    assert torch.equal(again.text_model.shared.weight, model.text_model.shared.weight)


@pytest.mark.parametrize("has_amx", [True, False])
def test_attention_is_of_16_bits_where_these_are_fast_and_another_was_not_asked_for(folder, monkeypatch, has_amx):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_amx}, raising=False)
    beside = {"sdpa": "sdpa_bfloat16" if has_amx else "sdpa", "eager": "eager"}
    for asked, expected in beside.items():
        model = loaded(folder, quantization="int8", attn_implementation=asked)
        found = [model.text_model.decoder.config, model.text_model.encoder.config, model.vision_model.config]
        assert [config._attn_implementation for config in found] == [expected] * 3
    with torch.no_grad():
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        photos = torch.rand(2, 1, 3, *[processor.image_processor.size["height"]] * 2)
        batch = processor.pad_users(
            [processor.encode_user(model.config.sees, reviews=[text]) for text in ("Tea.", "No.")]
        )
        states = [one.encode(**batch, pixel_values=photos).last_hidden_state for one in (model, loaded(folder))]
        model.set_attn_implementation("sdpa")
        model._attend_beside_int8()
        states.append(model.encode(**batch, pixel_values=photos).last_hidden_state)
    for state in states[1:]:
        assert torch.cosine_similarity(states[0], state, dim=-1).min() > 0.99
    one, other = (answers(each, folder)[0]["probabilities"]["mood"] for each in (model, loaded(folder)))
    assert one == pytest.approx(other, abs=0.05)


def test_pipelines_take_it_and_another_quantization_is_refused(folder):
    options = {"model": str(folder), "trust_remote_code": True}
    profiler = pipeline("user-profiling", model_kwargs={"quantization": "int8"}, **options)
    assert profiler.model.config.linear_weights == "int8"
    assert profiler({"reviews": ["Good tea."]})["profile"].keys() == {"mood", "favorite_food"}
    assert loaded(folder, quantization="bfloat16").dtype == torch.bfloat16
    assert load_model(str(folder), None, dtype="fastest").config.linear_weights in ("float", "int8")
    with pytest.raises(ValueError, match=r"quantization is one of \['int8', .* got 'int4'"):
        loaded(folder, quantization="int4")


def test_an_endpoint_and_the_page_are_quantized_by_the_environment(folder, monkeypatch):
    from app import load_handler

    monkeypatch.setenv("QUANTIZATION", "int8")
    request = {"inputs": {"reviews": ["Good tea."]}}
    endpoint, page = EndpointHandler(str(folder)), load_handler(str(folder), None, False)
    assert endpoint.model.config.linear_weights == page.model.config.linear_weights == "int8"
    assert endpoint(request) == page(request)
    monkeypatch.setenv("QUANTIZATION", "int4")
    with pytest.raises(ValueError, match="got 'int4'"):
        EndpointHandler(str(folder))
    with pytest.raises(ValueError, match="int4"):
        load_handler(str(folder), None, False)
