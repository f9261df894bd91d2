"""The flags of caption.py. Imports neither torch nor datasets, so that --help is there at once."""

from dataclasses import dataclass

from cli.flags import check_choice, check_given, check_least, flag

SOURCES = ("blip2", "photo_captions")
DTYPES = ("bfloat16", "float16", "float32")


@dataclass
class CaptionArguments:
    """Every flag of caption.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    dataset: str = flag("", "folder of a corpus as the builder writes it")
    output: str = flag("", "folder for the captioned corpus; the start of a killed run is completed")
    overwrite_output: bool = flag(False, "replace the output folder, and a started run of another model or corpus")
    source: str = flag("blip2", "blip2, or photo_captions: what people wrote under their photos")

    model: str = flag("Salesforce/blip2-opt-2.7b", "BLIP-2 checkpoint, by Hub name or folder")
    revision: str | None = flag(None, "branch, tag or commit of a Hub model")
    dtype: str = flag("bfloat16", "of the weights: bfloat16, float16 or float32")
    load_in_8bit: bool = flag(False, "weights in 8 bits, by bitsandbytes")
    prompt: str = flag("", "words that the caption goes on from, such as 'a photo of'; they are no part of it")
    num_beams: int = flag(5, "of the beam search")
    max_new_tokens: int = flag(30, "longest caption")
    no_repeat_ngram_size: int = flag(0, "no sequence of so many tokens comes twice in a caption; 0 forbids none")

    batch_size: int = flag(32, "photos a batch and process; what a kill makes each process do again")
    num_workers: int | None = flag(None, "processes that decode photos, for each process; default: cores but one")
    max_photo_pixels: int = flag(50_000_000, "a photo with more gets no caption")

    def __post_init__(self):
        check_given(self, "dataset", "output")
        check_choice(self, "source", SOURCES)
        check_choice(self, "dtype", DTYPES)
        check_least(self, 1, "num_beams", "max_new_tokens", "batch_size", "max_photo_pixels")
        check_least(self, 0, "num_workers", "no_repeat_ngram_size")
