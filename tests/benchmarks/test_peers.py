"""`benchmarks/peers.py` at tiny size, with a CTranslate2 that takes its time and answers nothing."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

from benchmarks.inference import encode, timed
from benchmarks.peers import PRODUCTS, measure_peers, peers_are_there
from tests.tiny_folder import save_tiny_folder

BEGUN = 0.01  # seconds that a translation takes


class Translator:
    def __init__(self, path, device, compute_type, inter_threads, intra_threads):
        assert path.endswith(compute_type) and (device, inter_threads) == ("cpu", 1)
        assert intra_threads == torch.get_num_threads()

    def translate_batch(self, words, beam_size, max_decoding_length, max_batch_size):
        assert beam_size == 5 and max_batch_size == 0 and {type(word) for word in words[0]} == {str}
        time.sleep(BEGUN * (1 if max_decoding_length == 1 else 3))


@pytest.fixture
def results(monkeypatch, tmp_path):
    peer, converters = ModuleType("ctranslate2"), ModuleType("ctranslate2.converters")
    peer.Translator = Translator
    converters.TransformersConverter = lambda path: SimpleNamespace(convert=lambda output, quantization: output)
    monkeypatch.setitem(sys.modules, "ctranslate2", peer)
    monkeypatch.setitem(sys.modules, "ctranslate2.converters", converters)
    folder = tmp_path / "model"
    save_tiny_folder(folder)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    users = [{"reviews": ["Good tea.", "Loud."], "images": []}, {"reviews": ["Cold soup."], "images": []}]
    options = SimpleNamespace(batch_sizes=[1, 2], repeats=3, photos=1)
    return measure_peers(str(folder), tmp_path / "work", processor, encode, timed, users, options)


def test_ratios_are_of_medians_and_decoding_is_what_the_encoding_leaves(results):
    assert [batch["batch_size"] for batch in results["batches"]] == [1, 2]
    for batch, size in zip(results["batches"], ("1", "2"), strict=True):
        median = {name: sorted(times)[1] for name, times in batch["seconds"].items()}
        assert median["ctranslate2 int8"] == pytest.approx(3 * BEGUN, abs=BEGUN)
        whole = results["ctranslate2_int8_over_generate_profiles_int8"][size]
        assert whole == pytest.approx(median["ctranslate2 int8"] / median["generate_profiles int8"])
        ours = median["generate_profiles int8"] - median["encoding of generate_profiles int8"]
        peer = median["ctranslate2 int8"] - median["encoding of ctranslate2 int8"]
        assert results["ctranslate2_int8_over_generate_profiles_int8_decoding"][size] == pytest.approx(peer / ours)
        encoding = median["encoding of generate_profiles int8"] / median[PRODUCTS]
        assert results["encoding_int8_over_its_integer_products"][size] == pytest.approx(encoding)
        photos = [median[f"generate_profiles {weights}, photos"] for weights in ("float32", "int8")]
        assert results["generate_profiles_float32_over_int8_with_photos"][size] == pytest.approx(photos[0] / photos[1])
    assert 0.2 < results["int8_over_float32_memory"] < 0.8


def test_whether_the_peer_is_there_is_told_by_its_package(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.find_spec", lambda name: None)
    assert not peers_are_there()
    monkeypatch.setattr("benchmarks.peers.find_spec", lambda name: name == "ctranslate2")
    assert peers_are_there()
