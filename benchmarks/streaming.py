"""A training split that is streamed beside one that is read whole: users a second and memory of the loader.

    python -m benchmarks.streaming --output benchmarks/results/streaming_cpu.json

A synthetic corpus is written as Parquet; each style loads it in a process of its own and prepares batches as train.py
does, from rows to tensors, without the model: of the objective `fusion` alone, beside whose little work reading shows
most. The two have their turns one after the other, so that both see the same machine; then the streamed one goes on
through the whole split. Paces are medians of the turns, by the clock and by the processor's seconds.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import streaming_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    streaming_parser(__doc__).parse_known_args()

import io
import multiprocessing
import os
import statistics
import tempfile
import time
from itertools import islice

import numpy as np
import psutil
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from benchmarks.machine import cpu_name, tell
from mmprofile import ProfileSchema
from systems.presets import tiny_processor
from training.arguments import JointTrainingArguments
from training.data import corpus_texts, load_corpus, training_loader

FILES, ROW_GROUP, PHOTOS = 20, 100, 200  # of the corpus: files, users a row group, different photos
STYLES = {"whole": False, "streamed": True}


def write_corpus(folder: Path, users: int, reviews: int) -> None:
    """Users of so many reviews of about sixty words, each with a photo and a caption; photos come again and again."""
    schema, rng = ProfileSchema(), np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeioulmnrst"), rng.integers(2, 9))) for _ in range(2000)])
    photos = []
    for _ in range(PHOTOS):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PILImage.fromarray(pixels).resize((128, 128)).save(buffer, "JPEG")
        photos.append({"bytes": buffer.getvalue(), "path": None})
    labels = {a.key: ClassLabel(names=list(a.values)) for a in schema.attributes}
    labels = {a.key: List(labels[a.key], a.count) if a.count > 1 else labels[a.key] for a in schema.attributes}
    review = {"text": Value("string"), "images": List(Image()), "captions": List(Value("string"))}
    features = Features({"user_id": Value("string"), "reviews": List(review), "profile": labels})

    def user(name: str) -> dict:
        profile = {a.key: rng.permutation(len(a.values))[: a.count].tolist() for a in schema.attributes}
        profile = {a.key: sorted(profile[a.key]) if a.count > 1 else profile[a.key][0] for a in schema.attributes}
        texts = [" ".join(words[rng.integers(0, len(words), rng.integers(40, 80))]) for _ in range(reviews)]
        written = [
            {"text": text, "images": [photos[rng.integers(PHOTOS)]], "captions": [" ".join(text.split()[:6])]}
            for text in texts
        ]
        return {"user_id": name, "reviews": written, "profile": profile}

    sizes = {f"train-{n:05d}-of-{FILES:05d}": len(part) for n, part in enumerate(np.array_split(range(users), FILES))}
    for file, size in (sizes | {"validation": 8, "test": 8}).items():
        rows = [user(f"{file}-{number}") for number in range(size)]
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{file}.parquet", batch_size=ROW_GROUP)


def serve(corpus: str, streaming: bool, buffer: int, batch_size: int, pipe) -> None:
    """Loads the corpus; then takes so many batches of an epoch as it is asked for, and tells what that took."""
    torch.set_num_threads(1)
    arguments = JointTrainingArguments(
        dataset=corpus,
        output_dir="none",
        objectives=["fusion"],
        batch_size=batch_size,
        streaming=streaming,
        shuffle_buffer=buffer,
    )
    split = load_corpus(arguments)["train"]
    schema = ProfileSchema.from_features(split.features["profile"])
    texts = islice(corpus_texts(split), 4000)
    loader = training_loader(split, tiny_processor(texts, schema, max_text_tokens=600), arguments)
    batches, process = iter(loader), psutil.Process()
    pipe.send(process.memory_info().rss)
    while (number := pipe.recv()) is not None:
        wall, cpu = time.perf_counter(), time.process_time()
        taken = sum(len(batch["labels"]) for batch in islice(batches, number))
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        pipe.send({"users": taken, **seconds, "memory": process.memory_info().rss})


def compare(corpus: str, options) -> dict:
    start = multiprocessing.get_context("spawn")
    pipes, before, turns = {}, {}, {style: [] for style in STYLES}
    for style, streaming in STYLES.items():
        pipes[style], end = start.Pipe()
        arguments = (corpus, streaming, options.buffer, options.batch_size, end)
        start.Process(target=serve, args=arguments, daemon=True).start()
        before[style] = pipes[style].recv()

    def turn(style: str) -> int:
        pipes[style].send(options.turn)
        turns[style].append(pipes[style].recv())
        return turns[style][-1]["users"]

    for _ in range(options.turns):
        for style in STYLES:
            turn(style)
    while turn("streamed"):
        print(f"{sum(part['users'] for part in turns['streamed'])} users streamed", file=sys.stderr)
    for pipe in pipes.values():
        pipe.send(None)
    return {style: summary(turns[style], options.turns, before[style]) for style in STYLES}


def summary(turns: list[dict], compared: int, before: int) -> dict:
    """Medians over the turns that both styles had, and memory in MB over all."""
    paces = {
        f"users_per_{of}_second": statistics.median(t["users"] / t[of] for t in turns[:compared])
        for of in ("wall", "cpu")
    }
    memory = [turn["memory"] / 1e6 for turn in turns]
    tenth = max(len(memory) // 10, 1)
    return paces | {
        "users": sum(turn["users"] for turn in turns),
        "memory_before": before / 1e6,
        "memory_after_a_tenth": memory[tenth - 1],
        "memory_most_after_a_tenth": max(memory[tenth - 1 :]),
        "memory_at_the_end": memory[-1],
    }


def main(argv: list[str] | None = None) -> dict:
    options = streaming_parser(__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = f"{folder}/cache"  # of the processes that are started
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        write_corpus(corpus, options.users, options.reviews)
        size = sum(path.stat().st_size for path in corpus.iterdir()) / 1e6
        found = compare(str(corpus), options)
    results = {
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "torch": torch.__version__},
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        "corpus": {"megabytes": size, "files": FILES, "users_a_row_group": ROW_GROUP},
        **found,
        **{
            f"streamed_over_whole_{of}": found["streamed"][f"users_per_{of}_second"]
            / found["whole"][f"users_per_{of}_second"]
            for of in ("wall", "cpu")
        },
    }
    tell(results, options.output)
    return results


if __name__ == "__main__":
    main()
