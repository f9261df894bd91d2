"""What a training step costs: the objectives shared against one by one, a drawn one against fusion, data and flags.

    python -m benchmarks.train_step --output benchmarks/results/train_step_cpu.json --layers 2
    python -m benchmarks.train_step --output benchmarks/results/train_step_gpu.json

Flan-T5-base's and ViT-base's widths from random weights, the paper's 600 tokens and 3 photos. Times are medians of
rounds in which every variant has its turn, so that all see the same machine; ratios are what counts on a busy one.
"""

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, ViTConfig, ViTImageProcessorPil

from mmprofile.batching import Example, JointCollator
from mmprofile.configuration_mmprofile import MMProfileConfig, ProfileSchema
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from mmprofile.objectives import OBJECTIVES, JointTrainingModel, select_views
from mmprofile.presets import train_tokenizer
from mmprofile.processing_mmprofile import MMProfileProcessor

USERS, EPOCHS = 3000, 10  # of the paper's run
VOCABULARY = 32128
PHOTO_SIZE = (600, 400)  # pixels, as Yelp's are
WORDS = [
    "place",
    "nice",
    "and",
    "we",
    "had",
    "a",
    "good",
    "time",
    "with",
    "friendly",
    "staff",
    "pizza",
    "coffee",
    "never",
]


class Users(torch.utils.data.Dataset):
    """Made-up users with long reviews and three photos each, as `batching.UserExamples` gives them."""

    def __init__(self, number: int, schema: ProfileSchema, words: int, photos: int):
        self.number, self.schema, self.words, self.photos = number, schema, words, photos
        self.files = [_jpeg(index) for index in range(16)]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        values = {
            a.key: str(rng.choice(a.values))
            if a.count == 1
            else [str(value) for value in rng.choice(a.values, a.count, replace=False)]
            for a in self.schema.attributes
        }
        return Example(
            user_id=str(index),
            reviews=[" ".join(rng.choice(WORDS, self.words)) for _ in range(3)],
            images=[self.files[number] for number in rng.integers(len(self.files), size=self.photos)],
            captions=["a plate of food on a table"] * self.photos,
            profile=self.schema.validate(values),
            rng=rng,
        )


def _jpeg(seed: int) -> bytes:
    """A photo with as much detail as photos have, about."""
    coarse = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def base_model(schema: ProfileSchema, layers: int) -> MMProfileForConditionalGeneration:
    """Flan-T5-base and ViT-base with so many of their 12 layers, random weights."""
    text = T5Config(
        vocab_size=VOCABULARY,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_heads=12,
        num_layers=layers,
        num_decoder_layers=layers,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    vision = ViTConfig(num_hidden_layers=layers)
    return MMProfileForConditionalGeneration(
        MMProfileConfig(text_config=text, vision_config=vision, profile_schema=schema)
    )


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def medians(variants: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of each variant, the median over rounds in which each has its turn; one more before is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, work in variants.items():
            seconds = timed(work, device)
            if number:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


class Bench:
    """One model and one batch, and the steps that are compared."""

    def __init__(self, options: argparse.Namespace, device: torch.device):
        self.options, self.device = options, device
        self.schema = ProfileSchema()
        tokenizer = train_tokenizer([" ".join(WORDS)], self.schema, vocab_size=2000)
        self.processor = MMProfileProcessor(
            ViTImageProcessorPil(size={"height": 224, "width": 224}), tokenizer, max_text_tokens=options.tokens
        )
        self.users = Users(64 * options.batch_size, self.schema, words=options.tokens, photos=options.photos)
        self.model = base_model(self.schema, options.layers).to(device).train()

    def batch(self, paradigm: str, size: int) -> dict:
        collator = self.collator(paradigm)
        return to_device(collator([self.users[index] for index in range(size)]), self.device)

    def collator(self, paradigm: str, drawn_by: dict | None = None) -> JointCollator:
        return JointCollator(self.processor, select_views(paradigm, OBJECTIVES), 0.5, 0.5, drawn_by)

    def joint(self, paradigm: str, objectives=OBJECTIVES) -> JointTrainingModel:
        return JointTrainingModel(self.model, select_views(paradigm, objectives), self.processor.black).to(self.device)

    def step(self, joint: JointTrainingModel, batch: dict) -> Callable[[], None]:
        """Forward and backward."""

        def work() -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = joint(batch).loss
            loss.backward()
            self.model.zero_grad(set_to_none=True)

        return work


def to_device(data, device: torch.device):
    if isinstance(data, dict):
        return {name: to_device(value, device) for name, value in data.items()}
    return data.to(device) if isinstance(data, torch.Tensor) else data


def compare_objectives(bench: Bench, rounds: int) -> dict:
    """Shared against one by one, and a drawn objective against fusion, in the multimodal paradigm."""
    batch = bench.batch("multimodal", bench.options.batch_size)
    joint = bench.joint("multimodal")
    variants = {"shared": bench.step(joint, batch)}
    for name in OBJECTIVES:
        variants[name] = bench.step(bench.joint("multimodal", [name]), batch)
    seconds = medians(variants, rounds, bench.device)
    one_by_one = sum(seconds[name] for name in OBJECTIVES)
    gigaflops = {name: count_flops(work) / 1e9 / bench.options.batch_size for name, work in variants.items()}
    return {
        "seconds": seconds | {"one_by_one": one_by_one, "sampled": one_by_one / len(OBJECTIVES)},
        "gigaflops_a_user": gigaflops,
        "shared_over_one_by_one": seconds["shared"] / one_by_one,
        "sampled_over_fusion": one_by_one / len(OBJECTIVES) / seconds["fusion"],
    }


def count_flops(work: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measure_waiting(bench: Bench, steps: int) -> dict:
    """The share of training spent waiting for batches, as train.py's loop has it, and the pipeline by itself."""
    options = bench.options
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(bench.users, range((steps + 2) * options.batch_size)),
        options.batch_size,
        collate_fn=bench.collator("combined"),
        num_workers=options.workers,
        pin_memory=bench.device.type == "cuda",
    )
    joint, batches, waited = bench.joint("combined"), iter(loader), 0.0
    bench.step(joint, to_device(next(batches), bench.device))()
    started = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = to_device(next(batches), bench.device)
        waited += time.perf_counter() - asked
        timed(bench.step(joint, batch), bench.device)
    whole = time.perf_counter() - started
    alone = time.perf_counter()
    photos = sum(int(batch["image_mask"].sum()) for batch in loader)
    return {
        "data_wait_share": waited / whole,
        "photos_per_second_of_the_pipeline": photos / (time.perf_counter() - alone),
        "photos_per_second_of_the_steps": steps * options.batch_size * options.photos / whole,
    }


def matmul_flops(device: torch.device, size: int = 8192) -> float:
    """FLOP/s of a bf16 matrix product."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = medians({"product": lambda: one @ other}, 20, device)["product"]
    return 2 * size**3 / seconds


def measure_gpu(bench: Bench, rounds: int) -> dict:
    """Utilisation, memory and the paper's run, with the optimizer, at the batch size that serves most users."""
    peak = matmul_flops(bench.device)
    joint = bench.joint("combined")
    optimizer = torch.optim.AdamW(joint.parameters(), lr=1e-5, fused=True)
    tried = {}
    for size in bench.options.batch_sizes:
        batch = bench.batch("combined", size)
        torch.cuda.reset_peak_memory_stats(bench.device)

        def work(batch=batch) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss = joint(batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        try:
            seconds = medians({"step": work}, rounds, bench.device)["step"]
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        memory = torch.cuda.max_memory_allocated(bench.device) / 2**30
        flops = count_flops(work)
        rate = size / seconds
        tried[size] = {"users_per_second": rate, "mfu": flops / seconds / peak, "peak_memory_gib": memory}
    best = max(tried, key=lambda size: tried[size]["users_per_second"])
    return {
        "matmul_tflops": peak / 1e12,
        "by_batch_size": tried,
        "best_batch_size": best,
        **tried[best],
        "paper_run_minutes": USERS * EPOCHS / tried[best]["users_per_second"] / 60,
    }


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--layers", type=int, default=12, help="of each tower, of base width")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="tried on a GPU")
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(options, device)
    results = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        "layers": f"{options.layers} of base size's 12, of its width",
        **compare_objectives(bench, options.rounds),
        **measure_waiting(bench, options.rounds),
    }
    if device.type == "cuda":
        results |= measure_gpu(bench, options.rounds)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))
    return results


if __name__ == "__main__":
    main()
