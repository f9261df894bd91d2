"""BLIP-2 and what it looks at: photos decoded and encoded batch by batch, and a caption for each."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# torch takes seconds to import, and captions that people wrote do without: functions import it that need it.
from dataset_script.captions.store import Survey, read_photos

if TYPE_CHECKING:
    from dataset_script.captions.arguments import CaptionArguments

# Of a model in a folder: the digest of these files stands for a commit.
FOLDER_REVISION = "sha256:"
MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")


def identify_model(name: str, revision: str | None) -> str:
    """The commit of a Hub model, or a digest of a folder's files.

    Raises:
        ValueError: if there is no such model, or it is no BLIP-2.
    """
    from transformers import AutoConfig
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        path = cached_file(name, "config.json", revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no model {name!r}: {error}") from None
    if config.model_type != "blip-2":
        raise ValueError(f"{name!r} must be a BLIP-2, it is of type {config.model_type!r}")
    if config.image_token_index is None:
        raise ValueError(f"{name!r} is an old BLIP-2, without image_token_index; take a newer revision")
    if not Path(name).is_dir():
        commit = extract_commit_hash(path, None)
        assert commit is not None, path
        return commit
    digest = hashlib.sha256()
    for file in sorted(file for pattern in MODEL_FILES for file in Path(name).glob(pattern)):
        with open(file, "rb") as content:
            digest.update(f"{file.name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return f"{FOLDER_REVISION}{digest.hexdigest()}"


class Captioner:
    """BLIP-2 on one device."""

    def __init__(self, arguments: "CaptionArguments", revision: str, device):
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

        hub = {} if Path(arguments.model).is_dir() else {"revision": revision}
        self.processor = AutoProcessor.from_pretrained(arguments.model, **hub)
        options = {"dtype": getattr(torch, arguments.dtype)} | hub
        if arguments.load_in_8bit:
            options |= {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": device}}
        model = AutoModelForImageTextToText.from_pretrained(arguments.model, **options)
        self.model: Any = (model if arguments.load_in_8bit else model.to(device)).eval()
        self.device, self.dtype = device, getattr(torch, arguments.dtype)
        self.search = {"num_beams": arguments.num_beams, "max_new_tokens": arguments.max_new_tokens}
        self.search |= {"no_repeat_ngram_size": arguments.no_repeat_ngram_size}
        # Without a prompt the model itself starts the text, as BLIP-2's authors do for captions.
        self.prompt = self._encode(arguments.prompt) if arguments.prompt else {}

    def _encode(self, prompt: str) -> dict:
        """`input_ids` and `attention_mask` (1, seq) of a prompt with room for the photo before it.

        The model's configuration says how much room, and by which token: a processor may not know, or know otherwise,
        and the model would write without having seen the photo.
        """
        import torch

        words = self.processor.tokenizer([prompt], return_tensors="pt")["input_ids"]
        config = self.model.config
        room = torch.full((1, config.num_query_tokens), config.image_token_index)
        input_ids = torch.cat([room, words], 1).to(self.device)
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}

    def __call__(self, pixel_values) -> list[str]:
        """The captions of photos (batch, 3, height, width) that the image processor has encoded."""
        pixel_values = pixel_values.to(self.device, self.dtype, non_blocking=True)
        prompt = {name: row.expand(len(pixel_values), -1) for name, row in self.prompt.items()}
        tokens = self.model.generate(pixel_values, **prompt, do_sample=False, **self.search)
        if prompt and not self.model.config.is_encoder_decoder:
            tokens = tokens[:, prompt["input_ids"].shape[1] :]  # a decoder repeats the prompt
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


class PhotoBatch(NamedTuple):
    """`pixel_values` (batch, 3, height, width) of the photos `ids`; `problems` says why others cannot be read."""

    ids: list[str]
    pixel_values: Any
    problems: dict[str, str]


class PhotoBatches:
    """Photos read, decoded and encoded, a batch an index; for the workers of a data loader.

    Args:
        shards: the paths of the corpus' files.
        survey: of them.
        chosen: numbers of the survey's photos, in order; each row group is read as often as it is come back to.
    """

    def __init__(self, shards: Sequence[Path], survey: Survey, chosen: np.ndarray, image_processor, arguments):
        # Imported before workers are forked, so that each need not.
        import torch

        from mmprofile import load_rgb

        self._load, self._join = load_rgb, torch.cat
        self.shards, self.image_processor = shards, image_processor
        self.ids, self.places = survey.ids.take(chosen), survey.places[chosen]
        self.batch_size, self.max_pixels = arguments.batch_size, arguments.max_photo_pixels
        self._at: tuple[int, int] | None = None  # shard and row group
        self._photos: Any = None

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __getitem__(self, index: int) -> PhotoBatch:
        batch = slice(index * self.batch_size, (index + 1) * self.batch_size)
        ids, pixels, problems = [], [], {}
        for photo_id, place in zip(self.ids[batch].to_pylist(), self.places[batch].tolist(), strict=True):
            try:
                photo = self._load(self._read(*place), self.max_pixels)
            except ValueError as error:
                problems[photo_id] = str(error)
            else:
                # One by one: a batch of photos as large as they come may not fit the memory.
                pixels.append(self.image_processor(photo, return_tensors="pt")["pixel_values"])
                ids.append(photo_id)
        return PhotoBatch(ids, self._join(pixels) if pixels else None, problems)

    def _read(self, shard: int, group: int, number: int) -> bytes:
        if self._at != (shard, group):
            self._photos, self._at = read_photos(self.shards[shard], group), (shard, group)
        content = self._photos[number].as_py()
        if content is None:
            raise ValueError("the shard has not the photo's bytes")
        return content


def caption_rows(captioner: Captioner, batches: Iterable[PhotoBatch]) -> Iterator[list[dict]]:
    """For each batch its rows of `captions.store.CAPTION_SCHEMA`."""
    for batch in batches:
        captions = captioner(batch.pixel_values) if batch.ids else []
        rows = [{"photo_id": i, "caption": caption} for i, caption in zip(batch.ids, captions, strict=True)]
        yield rows + [{"photo_id": i, "problem": problem} for i, problem in batch.problems.items()]
