"""The flags of caption.py. Imports neither torch nor datasets, so that --help is there at once."""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from cli.flags import dataclass_parser

SOURCES = ("blip2", "photo_captions")
DTYPES = ("bfloat16", "float16", "float32")


def _flag(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class CaptionArguments:
    """Every flag of caption.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    dataset: str = _flag("", "folder of a corpus as the builder writes it")
    output: str = _flag("", "folder for the captioned corpus; the start of a killed run is completed")
    overwrite_output: bool = _flag(False, "replace the output folder, and a started run of another model or corpus")
    source: str = _flag("blip2", "blip2, or photo_captions: what people wrote under their photos")

    model: str = _flag("Salesforce/blip2-opt-2.7b", "BLIP-2 checkpoint, by Hub name or folder")
    revision: str | None = _flag(None, "branch, tag or commit of a Hub model")
    dtype: str = _flag("bfloat16", "of the weights: bfloat16, float16 or float32")
    load_in_8bit: bool = _flag(False, "weights in 8 bits, by bitsandbytes")
    prompt: str = _flag("", "words that the caption goes on from, such as 'a photo of'; they are no part of it")
    num_beams: int = _flag(5, "of the beam search")
    max_new_tokens: int = _flag(30, "longest caption")
    no_repeat_ngram_size: int = _flag(0, "no sequence of so many tokens comes twice in a caption; 0 forbids none")

    batch_size: int = _flag(32, "photos a batch and process; what a kill makes each process do again")
    num_workers: int | None = _flag(None, "processes that decode photos, for each process; default: cores but one")
    max_photo_pixels: int = _flag(50_000_000, "a photo with more gets no caption")

    def __post_init__(self):
        for name in ("dataset", "output"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed")
        for name, choices in {"source": SOURCES, "dtype": DTYPES}.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {list(choices)}, got {getattr(self, name)!r}")
        least = {"num_beams": 1, "max_new_tokens": 1, "batch_size": 1, "num_workers": 0, "max_photo_pixels": 1}
        least |= {"no_repeat_ngram_size": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise ValueError(f"{name} is at least {number}, got {value}")


def argument_parser(description: str | None) -> HfArgumentParser:
    return dataclass_parser(CaptionArguments, description)
