"""What the benchmarks of a training step are made of: users, a model of base width, a step, and medians of times."""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, ViTConfig, ViTImageProcessorPil

from mmprofile import (
    PAPER_OBJECTIVES,
    MMProfileConfig,
    MMProfileForConditionalGeneration,
    MMProfileProcessor,
    ProfileSchema,
)
from systems.presets import train_tokenizer
from training.batching import Example, JointCollator
from training.joint_step import JointOutput, JointStep, SharedJointStep
from training.objectives import select_views

Joint = Callable[[dict], JointOutput]  # a JointStep, or what stands in for one

VOCABULARY = 32128
PHOTO_SIZE = (600, 400)  # pixels, as Yelp's are
TEXT = "place nice and we had a good time with friendly staff pizza coffee never"


class Users(torch.utils.data.Dataset):
    """Made-up users with three reviews and some photos each, as `training.batching.UserExamples` gives them.

    Args:
        words: of a review; an array: of a review of each user.
        cache: `training.photo_cache.PhotoCache` of `files`, to take the photos' pixels from.
        states: the hidden size of a frozen vision tower whose states the examples have.
    """

    def __init__(
        self, schema: ProfileSchema, words: int | np.ndarray, photos: int, cache=None, states: int | None = None
    ):
        self.schema, self.words, self.photos, self.cache, self.states = schema, words, photos, cache, states
        self.files = [_jpeg(index) for index in range(16)]

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        values = {
            a.key: str(rng.choice(a.values))
            if a.count == 1
            else [str(value) for value in rng.choice(a.values, a.count, replace=False)]
            for a in self.schema.attributes
        }
        words = self.words if isinstance(self.words, int) else self.words[index]
        files = [self.files[number] for number in rng.integers(len(self.files), size=self.photos)]
        return Example(
            user_id=str(index),
            reviews=[" ".join(rng.choice(TEXT.split(), words)) for _ in range(3)],
            images=files,
            captions=["a plate of food on a table"] * self.photos,
            profile=self.schema.validate(values),
            cache=self.cache,
            vision_states=None if self.states is None else [np.zeros(self.states, np.float32)] * self.photos,
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
    sizes = {"vocab_size": VOCABULARY, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_heads": 12}
    depth = {"num_layers": layers, "num_decoder_layers": layers}
    others: dict[str, Any] = {"tie_word_embeddings": False, "decoder_start_token_id": 0}
    text = T5Config(**sizes, **depth, feed_forward_proj="gated-gelu", **others)
    vision = ViTConfig(num_hidden_layers=layers)
    return MMProfileForConditionalGeneration(
        MMProfileConfig(text_config=text, vision_config=vision, profile_schema=schema)
    )


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def medians(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    before: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """Seconds of each variant, the median over rounds in which each has its turn; one more before is not counted.

    `before`, with a variant's name, is called before its turn.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, work in variants.items():
            if before is not None:
                before(name)
            seconds = timed(work, device)
            if number:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


class Bench:
    """One model and one batch, and the steps that are compared."""

    def __init__(self, options: argparse.Namespace, device: torch.device):
        self.options, self.device = options, device
        self.schema = ProfileSchema()
        tokenizer = train_tokenizer([TEXT], self.schema, vocab_size=2000)
        self.processor = MMProfileProcessor(
            ViTImageProcessorPil(size={"height": 224, "width": 224}), tokenizer, max_text_tokens=options.tokens
        )
        self.users = Users(self.schema, options.tokens, options.photos)
        model: Any = base_model(self.schema, options.layers)  # transformers' decorator hides the arguments of `to`
        self.model: MMProfileForConditionalGeneration = model.to(device).train()

    def batch(self, paradigm: str, users: Iterable[int] | int, of: Users | None = None) -> dict:
        """Of the users with these numbers, or of so many; `of` is where they are from, if not `self.users`."""
        numbers = range(users) if isinstance(users, int) else users
        drawn = [(of or self.users)[int(number)] for number in numbers]
        return to_device(self.collator(paradigm)(drawn), self.device)

    def collator(self, paradigm: str) -> JointCollator:
        return JointCollator(self.processor, select_views(paradigm, PAPER_OBJECTIVES), 0.5, 0.5)

    def joint(self, paradigm: str, objectives=PAPER_OBJECTIVES, of=None) -> JointStep:
        """Of the bench's model, if not of another."""
        views = select_views(paradigm, objectives)
        return SharedJointStep(of or self.model, views, self.processor.black).to(self.device)

    def step(self, joint: Joint, batch: dict, bf16: bool | None = None) -> Callable[[], None]:
        """Forward and backward; in bf16 by default on a GPU alone."""
        return self.steps_in_turn([joint], batch, bf16)

    def steps_in_turn(self, joints: list[Joint], batch: dict, bf16: bool | None = None) -> Callable[[], None]:
        """Forward and backward of one after the other, their gradients adding up."""
        bf16 = self.device.type == "cuda" if bf16 is None else bf16

        def work() -> None:
            for joint in joints:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    loss = joint(batch).loss
                loss.backward()
            self.model.zero_grad(set_to_none=True)

        return work


def to_device(data, device: torch.device):
    if isinstance(data, dict):
        return {name: to_device(value, device) for name, value in data.items()}
    return data.to(device, non_blocking=True) if isinstance(data, torch.Tensor) else data


def count_flops(work: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
