"""How fast profiles are: `generate_profiles` beside transformers' beam searches, predict.py, and the handler.

    python benchmarks/inference.py --output inference.json
    python benchmarks/inference.py --model outputs/quickstart --output inference.json
    python benchmarks/inference.py --users 8192 --dtype bfloat16 --output gpu.json   # a GPU

Without --model it takes random weights of base size, Flan-T5's and ViT's, whose head alone is trained on random
profiles: the distributions of a model without any training are flat, which no search can prove anything about. What
the head learned is in the output (`certainty`), so that it can be held against a trained model's. Their tokenizer has
a token for each word of a profile. T5's needs more, and a beam search a call for each: there it takes longer still.

All methods are measured by turns on the same users, medians are compared. A whole call is the encoder's time and the
decoding's; where `generate_profiles` has oneDNN for both, as in `predict.py`, beam search is measured with it too
(elsewhere the figures "by_onednn" are of neither: GPUs, CPUs where it gains nothing). Beam searches write up to the
tokens of the longest profile. On a GPU the constrained one waits for the device at each beam's
`prefix_allowed_tokens_fn`; the plain one does not. The handler has PyTorch's own linear layers, as on an endpoint.
Where requirements-benchmarks.txt is installed, CTranslate2 is measured beside, see `benchmarks/peers.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import inference_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    inference_parser(__doc__).parse_known_args()

import argparse
import copy
import io
import json
import math
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSeq2SeqLM, AutoProcessor
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import predict
from benchmarks.machine import cpu_name
from benchmarks.peers import BEAMS, measure_peers, peers_are_there
from files.checkpoint_code import foreign_code
from mmprofile import (
    AllowedTokens,
    MMProfileForConditionalGeneration,
    ProfileSchema,
    Sees,
    profile_trie,
    seen_by,
)
from prediction.linear import by_fast_linears
from publishing.hub_folder import save_hub_folder
from systems.presets import tiny_config, tiny_processor

# Name -> vocabulary, and fields of `tiny_config`. Base: Flan-T5-base and vit-base-patch16-224.
SIZES = {
    "base": (32128, {
        "image_size": 224, "d_model": 768, "d_kv": 64, "num_heads": 12, "d_ff": 2048, "num_layers": 12,
        "num_decoder_layers": 12, "vision_hidden_size": 768, "vision_layers": 12, "vision_heads": 12,
        "vision_intermediate_size": 3072, "patch_size": 16,
    }),
    "small": (32128, {
        "image_size": 224, "d_model": 512, "d_kv": 64, "num_heads": 6, "d_ff": 1024, "num_layers": 8,
        "num_decoder_layers": 8, "vision_hidden_size": 384, "vision_layers": 12, "vision_heads": 6,
        "vision_intermediate_size": 1536, "patch_size": 16,
    }),
    "tiny": (4000, {"image_size": 32, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 64, "num_layers": 1}),
}  # fmt: skip
LETTERS = "etaoinshrdlucm"
# Of the head's training: users, profiles of each, positions of a user's text that the decoder sees, steps.
HEAD_USERS, HEAD_PROFILES, HEAD_TEXT, HEAD_STEPS = 4, 64, 64, 150
SKEW = 0.45  # a value is so many times as frequent as the one before it


# ---------------------------------------------------------------------------------------------------------------------
# A model, and users


def random_texts(count: int, words: int, rng: random.Random) -> list[str]:
    known = ["".join(rng.choices(LETTERS, k=rng.randint(2, 8))) for _ in range(2000)]
    return [" ".join(rng.choices(known, k=words)) for _ in range(count)]


def random_users(count: int, words: int, photos: int, rng: random.Random) -> list[dict]:
    """Three reviews a user with so many words in all, and JPEGs of 400 x 300 pixels, as bytes."""
    reviews = iter(random_texts(3 * count, -(-words // 3), rng))
    return [
        {"reviews": [next(reviews) for _ in range(3)], "images": [random_photo(rng) for _ in range(photos)]}
        for _ in range(count)
    ]


def random_photo(rng: random.Random) -> bytes:
    photo = Image.frombytes("RGB", (16, 12), rng.randbytes(16 * 12 * 3)).resize((400, 300), Image.Resampling.BICUBIC)
    photo.save(file := io.BytesIO(), "JPEG", quality=85)
    return file.getvalue()


def save_random_model(folder: Path, size: str, text_tokens: int, rng: random.Random, device: torch.device) -> None:
    """A folder as training leaves it; the weights are random, the head's trained."""
    vocab_size, sizes = SIZES[size]
    schema = ProfileSchema()
    processor = tiny_processor(
        random_texts(50, 100, rng), schema, image_size=sizes["image_size"], max_text_tokens=text_tokens
    )
    config = tiny_config(schema, vocab_size, **sizes)
    text_config: Any = config.text_config
    config.paradigm, text_config.scale_decoder_outputs = "multimodal", False
    torch.manual_seed(0)
    model: Any = MMProfileForConditionalGeneration(config)  # transformers' decorator hides the arguments of `to`
    model = model.eval().to(device)
    users = random_users(HEAD_USERS, text_tokens, 1, rng)
    train_head(model, processor, encode(processor, seen_by(config), users), rng)
    save_hub_folder(model, processor, folder)


def encode(processor, sees: Sees, users: list[dict]) -> dict[str, torch.Tensor]:
    return processor.pad_users([processor.encode_user(sees, **user) for user in users])


def train_head(model, processor, inputs: dict[str, torch.Tensor], rng: random.Random) -> None:
    """Has the head write profiles, some values more likely than others. The decoder's states stay as they are, and
    tokens of no profile keep a logit of 0."""
    tokenizer, schema, device = processor.tokenizer, processor.profile_schema, model.device
    with torch.no_grad():
        encoded = model.encode(**{name: tensor.to(device) for name, tensor in inputs.items()})
        states, targets = [], []
        for row in range(len(encoded.last_hidden_state)):
            lines = [schema.render(random_profile(schema, rng)) for _ in range(HEAD_PROFILES)]
            labels = torch.tensor(tokenizer(lines, padding=True).input_ids, device=device)
            state = encoded.last_hidden_state[row : row + 1, :HEAD_TEXT].expand(len(lines), -1, -1)
            hidden = model.text_model.decoder(model.text_model._shift_right(labels), encoder_hidden_states=state)
            states.append(hidden.last_hidden_state[labels != tokenizer.pad_token_id])
            targets.append(labels[labels != tokenizer.pad_token_id])
    states, targets = torch.cat(states), torch.cat(targets)
    used, targets = targets.unique(return_inverse=True)
    head = torch.zeros(len(used), states.shape[1], device=device, requires_grad=True)
    others = math.log(model.config.text_config.vocab_size - len(used))
    optimizer = torch.optim.Adam([head], lr=0.01)
    for _ in range(HEAD_STEPS):
        logits = states @ head.T
        logits = torch.cat([logits, torch.full_like(logits[:, :1], others)], dim=1)
        optimizer.zero_grad()
        cross_entropy(logits, targets).backward()
        optimizer.step()
    weight = torch.zeros_like(model.text_model.lm_head.weight)
    weight[used] = head.detach()
    model.text_model.lm_head.weight = torch.nn.Parameter(weight)  # no longer the embedding's


def random_profile(schema: ProfileSchema, rng: random.Random) -> dict:
    profile = {}
    for attribute in schema.attributes:
        weights = [SKEW**place for place in range(len(attribute.values))]
        chosen: dict[str, None] = {}
        while len(chosen) < attribute.count:
            chosen[rng.choices(attribute.values, weights)[0]] = None
        profile[attribute.key] = list(chosen) if attribute.count > 1 else next(iter(chosen))
    return schema.validate(profile)


# ---------------------------------------------------------------------------------------------------------------------
# Searches


def timed(call: Callable, device: torch.device) -> tuple[float, object]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


@torch.no_grad()
def measure_searches(model, processor, users: list[dict], repeats: int) -> dict:
    """Seconds and ratios for one batch of all these users."""
    device = model.device
    inputs = {k: v.to(device) for k, v in encode(processor, seen_by(model.config), users).items()}
    tokenizer = processor.tokenizer
    trie = profile_trie(model.config.profile_schema, tokenizer)
    beam = {"num_beams": BEAMS, "do_sample": False, "max_new_tokens": trie.longest}
    allowed = AllowedTokens(trie, tokenizer.pad_token_id)
    encoded = model.encode(**inputs)

    def generate(**options):
        # A copy, as `generate` enlarges it in place.
        return model.generate(encoder_outputs=copy.copy(encoded), attention_mask=inputs["attention_mask"], **options)

    def encoding():
        return model.encode(**inputs)

    def constrained_beam():
        return generate(**beam, prefix_allowed_tokens_fn=allowed, length_penalty=0.0)

    def profiles(**options):
        return model.generate_profiles(encoder_outputs=encoded, tokenizer=tokenizer, **options)

    calls = {
        "encoding": encoding,
        "encoding_of_generate_profiles": by_fast_linears(encoding, device),
        "generate_profiles": by_fast_linears(profiles, device),
        "generate_profiles_unbounded": by_fast_linears(partial(profiles, max_decoder_tokens=math.inf), device),
        "constrained_beam": constrained_beam,
        "plain_beam": lambda: generate(**beam),
        "constrained_beam_by_onednn": by_fast_linears(constrained_beam, device),
    }
    calls["generate_profiles"]()  # warms up
    generate(**beam | {"max_new_tokens": 2})
    seconds, results = {name: [] for name in calls}, {}
    for _ in range(repeats):
        for name, call in calls.items():
            spent, results[name] = timed(call, device)
            seconds[name].append(spent)
            print(f"batch {len(users):4}  {name:28} {spent:8.3f} s", flush=True)
    return describe_searches(model, processor, encoded, inputs, seconds, results, len(users))


def describe_searches(model, processor, encoded, inputs, seconds: dict, results: dict, batch_size: int) -> dict:
    median = {name: statistics.median(times) for name, times in seconds.items()}
    found, unbounded = results["generate_profiles"], results["generate_profiles_unbounded"]
    lines = processor.tokenizer.batch_decode(results["constrained_beam"], skip_special_tokens=True)
    schema = model.config.profile_schema

    def ratios(name: str, ours: str, its_encoding: str = "encoding") -> dict[str, float]:
        included = (median[its_encoding] + median[name]) / (median["encoding_of_generate_profiles"] + median[ours])
        return {"encoding_included": included, "encoding_excluded": median[name] / median[ours]}

    return {
        "batch_size": batch_size,
        "text_tokens": inputs["input_ids"].shape[1],
        "seconds": seconds,
        "median_seconds": median,
        "constrained_beam_over_generate_profiles": ratios("constrained_beam", "generate_profiles"),
        "constrained_beam_over_generate_profiles_unbounded": ratios("constrained_beam", "generate_profiles_unbounded"),
        "plain_beam_over_generate_profiles": ratios("plain_beam", "generate_profiles"),
        "constrained_beam_by_onednn_over_generate_profiles": ratios(
            "constrained_beam_by_onednn", "generate_profiles", "encoding_of_generate_profiles"
        ),
        "decoder_calls_per_user": statistics.fmean(p.decoder_calls for p in found),
        "decoder_tokens_per_user": statistics.fmean(p.decoder_tokens for p in found),
        "exact_share": statistics.fmean(p.exact for p in found),
        "exact_share_unbounded": statistics.fmean(p.exact for p in unbounded),
        "same_profile_as_constrained_beam": statistics.fmean(
            schema.render(schema.parse(line, strict=False)) == p.text for line, p in zip(lines, found, strict=True)
        ),
        "beam_decoder_calls": results["constrained_beam"].shape[1] - 1,
        "certainty": certainty(model, processor, encoded, found),
    }


def certainty(model, processor, encoded, predictions: list) -> dict[str, float]:
    """How sure the model is along its best profiles, over the whole vocabulary: the mean entropy in nats where the
    schema leaves a choice, and the mean probability of the tokens where it leaves none."""
    tokenizer = processor.tokenizer
    allowed = AllowedTokens(profile_trie(model.config.profile_schema, tokenizer), tokenizer.pad_token_id)
    labels = torch.tensor(tokenizer([p.text for p in predictions], padding=True).input_ids, device=model.device)
    scores = model(encoder_outputs=encoded, labels=labels).logits.float().log_softmax(-1)
    entropies, forced = [], []
    for row, tokens in enumerate(labels.tolist()):
        for place, token in enumerate(tokens[: tokens.index(tokenizer.eos_token_id) + 1]):
            here = scores[row, place]
            if len(allowed(row, labels.new_tensor([0, *tokens[:place]]))) > 1:
                entropies.append(-(here.exp() * here).sum().item())
            else:
                forced.append(here[token].exp().item())
    return {"entropy_per_choice": statistics.fmean(entropies), "forced_token_probability": statistics.fmean(forced)}


# ---------------------------------------------------------------------------------------------------------------------
# Programs


def measure_predict(flags: dict, users: list[dict], work: Path) -> dict:
    """predict.py on a JSONL file of the users, with these flags and its defaults."""
    (work / "photos").mkdir(parents=True)
    with (work / "users.jsonl").open("w") as file:
        for number, user in enumerate(users):
            paths = [f"photos/{number}-{place}.jpg" for place in range(len(user["images"]))]
            for path, photo in zip(paths, user["images"], strict=True):
                (work / path).write_bytes(photo)
            file.write(json.dumps({"user_id": str(number), "reviews": user["reviews"], "images": paths}) + "\n")
    flags = flags | {"dataset": work / "users.jsonl", "output": work / "out"}
    results = predict.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])
    names = ("users", "seconds", "users_per_second", "input_wait_share", "exact_share", "mean_coverage")
    return {name: results[name] for name in names} | {"batch_size": flags["batch_size"]}


def measure_handler(handler, users: list[dict], clients: int, requests: int) -> dict:
    """So many threads, each with a request after the other, a user in each."""
    start, seconds = threading.Barrier(clients + 1), []

    def call(client: int):
        start.wait()
        for number in range(requests):
            asked = time.perf_counter()
            handler({"inputs": users[(client * requests + number) % len(users)]})
            seconds.append(time.perf_counter() - asked)

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(call, client) for client in range(clients)]
        start.wait()
        started = time.perf_counter()
        for future in running:
            future.result()
        spent = time.perf_counter() - started
    result = {"clients": clients, "requests": len(seconds), "requests_per_second": len(seconds) / spent}
    result |= {"median_seconds": statistics.median(seconds), "longest_seconds": max(seconds)}
    print(f"handler, {clients:2} clients  {result['requests_per_second']:8.2f} requests/s", flush=True)
    return result


# ---------------------------------------------------------------------------------------------------------------------


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = inference_parser(__doc__)
    arguments = parser.parse_args(argv)
    for name in ("text_tokens", "repeats", "users", "requests"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} is at least 1, got {getattr(arguments, name)}")
    if arguments.only_peers and not peers_are_there():
        parser.error("--only_peers is of CTranslate2: pip install -r requirements-benchmarks.txt")
    if arguments.photos < 0 or min((arguments.batch_sizes or []) + arguments.clients) < 1:
        parser.error("--photos is at least 0, each of --batch_sizes and --clients at least 1")
    return arguments


def machine() -> dict:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu_name(), "cores": cores, "threads": torch.get_num_threads()}


def versions() -> dict[str, str]:
    own = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"python": platform.python_version()} | own


def quoted_figures(batches: list[dict]) -> dict:
    """Those of batch 16, or of the last if that was not measured."""
    quoted = next((batch for batch in batches if batch["batch_size"] == 16), batches[-1])
    others = ("batch_size", "decoder_calls_per_user", "exact_share")
    return {name: figure for name, figure in quoted.items() if "_over_" in name or name in others}


def main(argv: list[str] | None = None) -> dict:
    """Measures, writes the JSON file and returns what is in it."""
    arguments, rng = read_arguments(argv), random.Random(0)
    torch.backends.cuda.enable_cudnn_sdp(False)  # as predict.py
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.batch_sizes = arguments.batch_sizes or [1, 16, *[128] * (device.type == "cuda")]
    with tempfile.TemporaryDirectory() as work:
        folder = arguments.model or str(Path(work) / "model")
        if arguments.model is None:
            save_random_model(Path(folder), arguments.size, arguments.text_tokens, rng, device)
        elif not Path(folder).is_dir():
            folder = snapshot_download(folder, revision=arguments.revision)
        if not arguments.trust_remote_code and (foreign := foreign_code(folder, None)):
            raise ValueError(f"{folder!r}: {', '.join(foreign)} came with it, see --trust_remote_code")
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        words = min(arguments.text_tokens, processor.max_text_tokens)
        users = random_users(max([*arguments.batch_sizes, arguments.users]), words, arguments.photos, rng)
        peers_of = partial(measure_peers, folder, Path(work) / "peers", processor, encode, timed, users, arguments)
        if arguments.only_peers:
            return write_results(arguments, peers_of() | {"machine": machine(), "versions": versions()})
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, trust_remote_code=True, dtype=getattr(torch, arguments.dtype)
        )
        model = model.eval().to(device)
        batches = [
            measure_searches(model, processor, users[:size], arguments.repeats) for size in arguments.batch_sizes
        ]
        weights = sum(parameter.numel() for parameter in model.parameters())
        tokens = profile_trie(model.config.profile_schema, processor.tokenizer).longest
        del model
        peers = peers_of() if device.type == "cpu" and peers_are_there() else {}
        flags = {"model": folder, "batch_size": max(arguments.batch_sizes), "dtype": arguments.dtype}
        predicted = measure_predict(flags, users[: arguments.users], Path(work) / "predict")
        by_one = None
        if device.type == "cuda":
            by_one = measure_predict(flags | {"batches_at_once": 1}, users[: arguments.users], Path(work) / "by_one")
        handler = get_class_from_dynamic_module("handler.EndpointHandler", folder)(folder)
        served = [measure_handler(handler, users, clients, arguments.requests) for clients in arguments.clients]

    results = quoted_figures(batches) | {name: predicted[name] for name in ("users_per_second", "input_wait_share")}
    results |= {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "machine": machine(),
        "versions": versions(),
        "model": Path(arguments.model).name if arguments.model else f"random weights of {arguments.size} size",
        "parameters": weights,
        "dtype": arguments.dtype,
        "tokens_of_the_longest_profile": tokens,
        "photos": arguments.photos,
        "repeats": arguments.repeats,
        "batches": batches,
        "predict": predicted,
        "predict_one_batch_at_a_time": by_one,
        "handler": served,
        "peers": peers.pop("batches", None),
        **peers,
    }
    return write_results(arguments, results)


def write_results(arguments: argparse.Namespace, results: dict) -> dict:
    """Writes the JSON file, and prints the ratios."""
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    for name, ratio in results.items():
        if "_over_" in name:
            print(name, json.dumps(ratio))
    return results


if __name__ == "__main__":
    main()
