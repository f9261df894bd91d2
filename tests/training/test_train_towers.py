"""train.py on towers of other kinds than T5 and ViT, then predict.py on what it leaves."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    BitImageProcessorPil,
    MT5Config,
    MT5ForConditionalGeneration,
    SiglipImageProcessorPil,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

import predict
from systems.presets import train_tokenizer
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.tiny_models import D_MODEL
from tests.tiny_towers import tiny_tower
from tests.training.test_train import run, weights

SIZES = {"d_model": D_MODEL, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 1, "decoder_start_token_id": 0}
IMAGE_PROCESSORS = {
    "siglip": lambda: SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    # DINOv2's: cut out of what is resized.
    "dinov2": lambda: BitImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
}
# Text and vision kind, and flags: each of them once.
RUNS = {
    "siglip": (MT5Config, MT5ForConditionalGeneration, {"vision_feature": "cls", "gradient_checkpointing": True}),
    "dinov2": (UMT5Config, UMT5ForConditionalGeneration, {"vision_feature": "patches", "freeze_vision": True}),
}


def noise(seed: int) -> dict:
    """A photo that resizing and cropping change each time anew."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, owners = tmp_path_factory.mktemp("towers") / "corpus", [*range(8), *range(100, 104), *range(200, 204)]
    photos = product(owners, range(4), range(2))  # of each user, each review
    write_corpus(folder, replaced={photo: noise(seed) for seed, photo in enumerate(photos)})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_goes_from_two_towers_to_evaluated_predictions(kind, corpus, tmp_path):
    text_config, text_class, flags = RUNS[kind]
    tokenizer = train_tokenizer(["user likes a place"], SCHEMA, vocab_size=400)
    tokenizer.save_pretrained(tmp_path / "text")
    text_class(text_config(vocab_size=len(tokenizer), **SIZES)).save_pretrained(tmp_path / "text")
    torch.manual_seed(1)
    tiny_tower(kind).save_pretrained(tmp_path / kind)
    IMAGE_PROCESSORS[kind]().save_pretrained(tmp_path / kind)
    if flags.get("freeze_vision"):
        flags = flags | {"photo_cache": tmp_path / "photos"}  # for the tower's states, computed once
    results, history = run(
        corpus, tmp_path / "model", text_model=tmp_path / "text", vision_model=tmp_path / kind, **flags
    )
    assert 0 < history[0]["train_loss"] < 100 and "test_average_f1" in results
    config = AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert config.text_config.model_type == text_config.model_type
    assert config.vision_config.model_type == {"siglip": "siglip_vision_model"}.get(kind, kind)
    before = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "text").state_dict()
    trained = weights(tmp_path / "model")
    assert not torch.equal(
        trained["text_model.decoder.final_layer_norm.weight"], before["decoder.final_layer_norm.weight"]
    )
    argv = ["--model", tmp_path / "model", "--dataset", corpus, "--output", tmp_path / "predictions"]
    found = predict.main([*map(str, argv), "--evaluate", "true", "--max_calls", "2", "--num_workers", "0"])
    assert found["users"] == 4 and 0 <= found["f1"]["average"] <= 100
