"""What an engineer would take for T5 on a CPU instead, CTranslate2, beside `generate_profiles`; a part of
`benchmarks/inference.py`, where requirements-benchmarks.txt is installed.

CTranslate2 sees no photos and knows no schema: all are measured on texts alone, by turns, CTranslate2 with the plain
beam search of the paper. Its encoder cannot be called alone: what a search of one token takes stands for it. With
photos ours is compared with itself, in 32 and in 8 bits.
"""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from files.checkpoint_code import load_model
from mmprofile import Int8Linear, profile_trie, seen_by
from prediction.linear import fast_linears

BEAMS = 5  # of every beam search that is measured
WEIGHTS = ("float32", "int8")
PRODUCTS = "integer products alone of encoding"


def peers_are_there() -> bool:
    return find_spec("ctranslate2") is not None


@torch.no_grad()
def measure_peers(
    folder: str, work: Path, processor, encode: Callable, timed: Callable, users: list[dict], options: Any
) -> dict:
    """Seconds and ratios on this CPU.

    Args:
        folder: of a checkpoint.
        work: where CTranslate2's copies of its T5 go.
        encode, timed: of `benchmarks/inference.py`.
        users: with photos, at least as many as the largest batch.
        options: its arguments: `batch_sizes`, `repeats` and `photos`.
    """
    models = {weights: load_model(folder, None, dtype=weights).eval() for weights in WEIGHTS}
    sees, device = seen_by(models["float32"].config), torch.device("cpu")
    translators = _translators(models["float32"].text_model, processor.tokenizer, work)
    longest = profile_trie(processor.profile_schema, processor.tokenizer).longest
    batches = []
    for size in options.batch_sizes:
        texts = encode(processor, sees, [user | {"images": []} for user in users[:size]])
        photos = encode(processor, sees, users[:size])
        words = [
            processor.tokenizer.convert_ids_to_tokens(row[mask.bool()].tolist())
            for row, mask in zip(texts["input_ids"], texts["attention_mask"], strict=True)
        ]
        calls: dict[str, Callable] = {}
        for weights, model in models.items():
            calls[f"generate_profiles {weights}"] = _whole(model, processor.tokenizer, texts)
            calls[f"encoding of generate_profiles {weights}"] = _encoding(model, texts)
            if options.photos:
                calls[f"generate_profiles {weights}, photos"] = _whole(model, processor.tokenizer, photos)
            for tokens, name in ((longest, "ctranslate2"), (1, "encoding of ctranslate2")):
                calls[f"{name} {weights}"] = _translation(translators[weights], words, tokens)
        rows = int(texts["attention_mask"].sum())
        calls[PRODUCTS] = _products(models["int8"].text_model.encoder, rows)
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call()  # warms up
        for _ in range(options.repeats):
            for name, call in calls.items():
                seconds[name].append(timed(call, device)[0])
                print(f"batch {size:4}  {name:42} {seconds[name][-1]:8.3f} s", flush=True)
        batches.append({"batch_size": size, "seconds": seconds})
    return _compared(batches, bool(options.photos)) | {
        "int8_over_float32_memory": _bytes(models["int8"]) / _bytes(models["float32"]),
        "batches": batches,
    }


def _translators(text_model, tokenizer, folder: Path) -> dict[str, Any]:
    ctranslate2: Any = import_module("ctranslate2")
    convert: Any = import_module("ctranslate2.converters").TransformersConverter
    text_model.save_pretrained(folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    found = {}
    for weights in WEIGHTS:
        path = convert(str(folder / "t5")).convert(str(folder / weights), quantization=weights)
        found[weights] = ctranslate2.Translator(
            path, device="cpu", compute_type=weights, inter_threads=1, intra_threads=torch.get_num_threads()
        )
    return found


def _whole(model, tokenizer, inputs: dict) -> Callable:
    def call():
        with torch.no_grad(), _linears(model):
            return model.generate_profiles(encoder_outputs=model.encode(**inputs), tokenizer=tokenizer)

    return call


def _encoding(model, inputs: dict) -> Callable:
    def call():
        with torch.no_grad(), _linears(model):
            return model.encode(**inputs)

    return call


def _products(encoder, rows: int) -> Callable:
    """What the encoder's linear layers multiply of so many tokens, and nothing between."""
    layers = [module for module in encoder.modules() if isinstance(module, Int8Linear)]
    inputs = {
        width: torch.randint(256, (rows, width), dtype=torch.uint8) for width in {one.in_features for one in layers}
    }

    def call():
        for layer in layers:
            layer._product(inputs[layer.in_features])

    return call


def _linears(model) -> AbstractContextManager:
    """Those of 32 bits as predict.py computes them."""
    return fast_linears(model.device) if model.config.linear_weights == "float" else nullcontext()


def _translation(translator, words: list[list[str]], tokens: int) -> Callable:
    def call():
        return translator.translate_batch(words, beam_size=BEAMS, max_decoding_length=tokens, max_batch_size=0)

    return call


def _compared(batches: list[dict], photos: bool) -> dict:
    """Ratios of medians by batch size, above 1 where ours is the faster one."""
    ratios: dict[str, dict[str, float]] = {}
    for batch in batches:
        median = {name: statistics.median(times) for name, times in batch["seconds"].items()}
        size = str(batch["batch_size"])
        for weights in WEIGHTS:
            ours, peer = f"generate_profiles {weights}", f"ctranslate2 {weights}"
            decoding = [median[name] - median[f"encoding of {name}"] for name in (peer, ours)]
            key = f"ctranslate2_{weights}_over_generate_profiles_{weights}"
            ratios.setdefault(key, {})[size] = median[peer] / median[ours]
            ratios.setdefault(f"{key}_decoding", {})[size] = decoding[0] / decoding[1]
        for suffix in ("", ", photos") if photos else ("",):
            key = "generate_profiles_float32_over_int8" + ("_with_photos" if suffix else "")
            both = (median[f"generate_profiles {weights}{suffix}"] for weights in WEIGHTS)
            ratios.setdefault(key, {})[size] = next(both) / next(both)
        key = "encoding_int8_over_its_integer_products"
        ratios.setdefault(key, {})[size] = median["encoding of generate_profiles int8"] / median[PRODUCTS]
    return ratios


def _bytes(model) -> int:
    """Of parameters and buffers, a shared one once, and of packed weights."""
    tensors = {t.data_ptr(): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    packed = (module.packed for module in model.modules() if isinstance(module, Int8Linear))
    return sum(tensors.values()) + sum(one.numel() for one in packed if one is not None)
