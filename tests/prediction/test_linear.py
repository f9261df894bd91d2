"""Linear layers by oneDNN give what PyTorch's give, and stand aside where they should."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn.functional import linear

from mmprofile import profile_users
from prediction import linear as onednn
from prediction.linear import by_fast_linears, fast_linears
from tests.profile_models import inputs_for, model_for
from tests.tiny_models import random_photos
from tests.toy_schemas import unigram_tokenizer

CPU = torch.device("cpu")


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    "states",
    [
        torch.randn(48),
        torch.randn(1, 48),
        torch.randn(2, 3, 5, 48),
        torch.randn(5, 7, 48)[:, 0],
        torch.randn(48, 5).T,
        torch.randn(1, 48).expand(6, 48),
    ],
    ids=["vector", "row", "four dimensions", "a slice", "transposed", "expanded"],
)
def test_it_gives_what_a_linear_layer_gives(states, with_bias, products):
    layer = torch.nn.Linear(48, 20, bias=with_bias)
    with torch.no_grad(), fast_linears(CPU):
        found = layer(states)
    assert products == [(tuple(states.shape), (20, 48))]
    expected = layer.double()(states.double())
    assert found.shape == expected.shape and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_a_layer_without_rows_or_with_a_strided_weight_is_computed_too(products):
    weight = torch.randn(48, 20).T
    with torch.no_grad(), fast_linears(CPU):
        assert linear(torch.randn(0, 48), weight).shape == (0, 20)
        states = torch.randn(3, 48)
        torch.testing.assert_close(linear(states, weight), states @ weight.T)
    assert products == [((3, 48), (20, 48))]


def test_small_products_are_left_to_pytorch(products, monkeypatch):
    monkeypatch.setattr(onednn, "MIN_PRODUCTS", 10 * 48 * 20)
    layer = torch.nn.Linear(48, 20)
    with torch.no_grad(), fast_linears(CPU):
        layer(torch.randn(9, 48))
        assert products == []
        layer(torch.randn(2, 5, 48))
    assert products == [((2, 5, 48), (20, 48))]


def test_texts_of_every_length_need_few_kinds_of_products(monkeypatch):
    seen, layer = set(), torch.nn.Linear(8, 4)

    def noted(states, weight, bias, *args):
        seen.add(len(states))
        return linear(states, weight, bias)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", noted, raising=False)
    with torch.no_grad():
        for rows in range(1, 601):
            states = torch.randn(rows, 8)
            assert onednn.onednn_linear(states, layer.weight, layer.bias).shape == (rows, 4)
            assert rows <= max(seen) <= max(rows + 3, rows * 17 / 16)
    assert len(seen) < 80


def test_where_gradients_are_asked_for_they_come_as_ever(products):
    layer, states = torch.nn.Linear(8, 4), torch.randn(3, 8)
    with fast_linears(CPU):
        layer(states).sum().backward()
    assert torch.equal(layer.weight.grad, states.sum(0).expand(4, 8))
    assert products == []


class Quantised(torch.Tensor):
    """Stands for the tensor of a quantisation library."""


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype, products):
    layer, states = torch.nn.Linear(8, 4, dtype=dtype), torch.randn(3, 8, dtype=dtype)
    with torch.no_grad():
        expected = layer(states)
        with fast_linears(CPU):
            assert torch.equal(layer(states), expected)
            linear(torch.randn(3, 8), torch.randn(4, 8).as_subclass(Quantised))
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.nn.Linear(8, 4)(torch.randn(3, 8)).dtype == torch.bfloat16
    assert products == []


def test_other_threads_are_left_alone(products):
    layer = torch.nn.Linear(8, 4)

    def run():
        with torch.no_grad():
            layer(torch.randn(3, 8))

    with fast_linears(CPU):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    run()
    assert products == []


@pytest.mark.parametrize("missing", ["x86", "onednn", "AVX-512", "gain", "device"])
def test_where_it_is_not_to_be_had_nothing_changes(missing, products, monkeypatch):
    if missing == "x86":  # what an ARM CPU says
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    elif missing == "onednn":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif missing == "AVX-512":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    elif missing == "gain":
        monkeypatch.setattr(onednn.onednn_gains, "found", False)
    device = torch.device("cuda" if missing == "device" else "cpu")
    layer, states = torch.nn.Linear(8, 4), torch.randn(3, 8)
    with torch.no_grad():
        expected = layer(states)
        with fast_linears(device):
            assert torch.equal(layer(states), expected)
    assert products == []


@pytest.mark.parametrize(("pause", "gains"), [(0.003, True), (0.0, False)])
def test_whether_it_is_faster_is_tried_once(pause, gains, monkeypatch):
    tried = []

    def slow(states, weight, bias=None):
        time.sleep(pause)
        tried.append(states.shape)
        return states

    monkeypatch.setattr(onednn, "linear", slow)
    monkeypatch.setattr(onednn, "onednn_linear", lambda *arguments: time.sleep(0.001))
    asked = onednn._Gain()
    assert asked() == asked() == gains and len(tried) == onednn.TRIALS + 1


def test_who_switches_onednn_off_has_it_off(products):
    with torch.no_grad(), fast_linears(CPU), torch.backends.mkldnn.flags(enabled=False):
        torch.nn.Linear(8, 4)(torch.randn(3, 8))
    assert products == []


@pytest.mark.parametrize(
    "bias",
    [torch.arange(40.0)[::2], torch.ones(1).expand(20), torch.ones(1), torch.ones(3, 20), torch.ones(20).double()],
    ids=["strided", "expanded", "of one", "of each row", "of 64 bits"],
)
def test_an_unusual_bias_is_left_to_pytorch(bias, products):
    states, weight = torch.randn(3, 48), torch.randn(20, 48)

    def outcome():
        try:
            return linear(states, weight, bias)
        except RuntimeError as error:
            return str(error)

    with torch.no_grad():
        expected = outcome()
        with fast_linears(CPU):
            found = outcome()
    assert products == []
    assert torch.equal(found, expected) if isinstance(expected, torch.Tensor) else found == expected


def test_what_does_not_fit_is_told_in_pytorchs_words(products):
    with torch.no_grad(), fast_linears(CPU):
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
            linear(torch.randn(3, 48), torch.randn(20, 47))
        assert linear(torch.randn(3, 48), torch.randn(48)).shape == (3,)
        sparse = linear(torch.randn(3, 48), torch.eye(48).to_sparse_csr())
    assert products == [] and sparse.shape == (3, 48)


def test_a_call_is_made_by_them_in_each_thread(products):
    call = by_fast_linears(torch.no_grad()(torch.nn.Linear(8, 4)), CPU)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(call, torch.randn(3, 8)).result().shape == (3, 4)
    assert products == [((3, 8), (4, 8))]


def test_profiles_are_the_same_and_all_parts_of_the_model_compute_by_them(products):
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer, "several", 1.0), inputs_for(tokenizer) | random_photos()
    expected = profile_users(model, tokenizer, inputs)
    assert products == []  # the library by itself computes by PyTorch's
    with fast_linears(CPU):
        found = profile_users(model, tokenizer, inputs)
    assert [(one["text"], one["exact"]) for one in found] == [(one["text"], one["exact"]) for one in expected]
    scores = [[one["log_probability"] for one in answers] for answers in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    layers = [model.text_model.encoder.block[0].layer[-1].DenseReluDense.wo, model.text_model.lm_head]
    layers.append(model.visual_projection)
    assert {weight for _, weight in products} >= {tuple(layer.weight.shape) for layer in layers}


@pytest.mark.slow
def test_a_compiled_layer_stays_compiled(products):
    layer = torch.nn.Linear(48, 20)
    states = torch.randn(3, 48)
    with torch.no_grad():
        expected = layer(states)
        layer.compile()
        with fast_linears(CPU):
            torch.testing.assert_close(layer(states), expected)
    assert products == []
