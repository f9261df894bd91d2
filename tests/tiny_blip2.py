"""A tiny BLIP-2 with random weights, and a corpus of one-coloured photos for it to describe."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset, Features, Image, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, PreTrainedTokenizerFast
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from dataset_script import caption
from tests.tiny_corpus import WORDS, png

NOTHING = MappingProxyType({})
PROMPT = "a photo of"
STRING = Value("string")
REVIEW = {"review_id": STRING, "stars": Value("float32"), "photo_ids": List(STRING), "images": List(Image())}
REVIEW |= {"photo_captions": List(STRING), "captions": List(STRING)}
FEATURES = Features({"user_id": STRING, "reviews": List(REVIEW), "profile": {"stars": Value("int64")}})
CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: data/default/train*.parquet
---

# Photos

By hand.
"""


def save_tiny_blip2(folder, seed: int = 1) -> None:
    """A BLIP-2 that does not say the same of every photo, with its processor."""
    vocabulary = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", *PROMPT.split(), *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    names = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    processor = Blip2Processor(BlipImageProcessorPil(size={"height": 16, "width": 16}), fast, num_query_tokens=4)
    width = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = width | {"intermediate_size": 16, "image_size": 16, "patch_size": 8, "initializer_range": 0.5}
    text = width | {"model_type": "opt", "vocab_size": len(fast), "word_embed_proj_dim": 16, "ffn_dim": 16}
    text |= {"max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "init_std": 1.0}
    config = Blip2Config(
        vision_config=vision,
        qformer_config=width | {"intermediate_size": 16, "vocab_size": 8, "initializer_range": 0.5},
        text_config=text,
        num_query_tokens=4,
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def reds(pixel_values) -> list[int]:
    """The red value of each photo of a batch that the processor has encoded."""
    red = pixel_values[:, 0, 0, 0].float().numpy() * 0.26862954 + 0.48145466
    return np.round(red * 255).astype(int).tolist()


def write_photo_corpus(folder, photos: int = 12, users: int = 6, contents: Mapping[str, bytes] = NOTHING) -> None:
    """Users with two reviews of two photos each, which they share; the photo `red40` is of red value 40.

    Args:
        photos: up to 240, their red values spread evenly.
        contents: of some photos other bytes.
    """

    def user(number: int) -> dict:
        reviews = []
        for r in range(2):
            shown = [(2 * number + 2 * r + p) % photos * (240 // photos) for p in range(2)]
            ids = [f"red{red}" for red in shown]
            images = [
                {"bytes": contents.get(photo, png(red)["bytes"]), "path": f"{photo}.jpg"}
                for photo, red in zip(ids, shown, strict=True)
            ]
            words = [f"written under {red}" if red % 40 else "" for red in shown]
            review = {"review_id": f"{number}-{r}", "stars": 4.5, "photo_ids": ids, "images": images}
            reviews.append(review | {"photo_captions": words, "captions": [None, "old"]})
        return {"user_id": f"u{number}", "reviews": reviews, "profile": {"stars": number}}

    rows = [user(number) for number in range(users)]
    for room, shards in (("default", 2), ("full", 1)):
        (folder / "data" / room).mkdir(parents=True)
        for shard in range(shards):
            part = Dataset.from_list(rows[shard::shards], features=FEATURES)
            part.to_parquet(folder / "data" / room / f"train-{shard:05d}-of-{shards:05d}.parquet", batch_size=2)
    (folder / "README.md").write_text(CARD)
    (folder / "figure.png").write_bytes(png(1)["bytes"])


def captions_of(folder) -> dict[str, set]:
    """Photo -> the captions that it has in any row."""
    found = {}
    for path in folder.rglob("*.parquet"):
        for review in (review for row in pq.read_table(path)["reviews"].to_pylist() for review in row):
            for photo_id, text in zip(review["photo_ids"], review["captions"], strict=True):
                found.setdefault(photo_id, set()).add(text)
    return found


def log_calls(monkeypatch) -> list[list[int]]:
    """The photos that a BLIP-2 is given from now on, batch by batch."""
    seen, generate = [], Blip2ForConditionalGeneration.generate

    def logged(self, pixel_values, **options):
        seen.append(reds(pixel_values))
        return generate(self, pixel_values, **options)

    monkeypatch.setattr(Blip2ForConditionalGeneration, "generate", logged)
    return seen


def run_caption(model, dataset, output, **flags) -> dict:
    flags = {"dtype": "float32", "batch_size": 5, "num_workers": 0, "num_beams": 2, "max_new_tokens": 6} | flags
    flags = {"model": model, "dataset": dataset, "output": output} | flags
    return caption.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])
