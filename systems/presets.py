"""The `tiny` preset: a T5-like tokenizer trained on the corpus, and a configuration small enough for a CPU.

It starts from random weights and needs no Hub; the paper's recipe takes Flan-T5 and ViT checkpoints instead.
"""

import json
import string
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import PreTrainedTokenizerFast, T5Config, ViTConfig, ViTImageProcessorPil

from mmprofile import ATTRIBUTE_SEPARATOR, MMProfileConfig, MMProfileProcessor, ProfileSchema

WORD_START = "\u2581"  # how Unigram pieces write a blank
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>"]  # T5's ids 0, 1 and 2
# T5's sentinels end the vocabulary, <extra_id_0> last of all.
SENTINELS = [f"<extra_id_{index}>" for index in reversed(range(100))]


def train_tokenizer(texts: Iterable[str], schema: ProfileSchema, vocab_size: int = 4000) -> PreTrainedTokenizerFast:
    """A tokenizer like T5's (Unigram over words that begin with a blank, `</s>` appended), trained on `texts`.

    Each word of the schema's names and values is one token, so that a profile is short; all letters of the texts and
    all printable ASCII are covered. The same texts give the same tokenizer.

    Args:
        texts: the corpus, e.g. the reviews and captions of the training split.
        vocab_size: the most tokens, the 100 sentinels included; a small corpus gives fewer. The model's
            `vocab_size` is `len(tokenizer)`.

    Raises:
        ValueError: if `vocab_size` has no room for the letters, the schema and the sentinels.
    """
    texts, words = list(texts), _schema_words(schema)
    letters = set(string.digits + string.ascii_letters + string.punctuation + WORD_START).union(*words, *texts)
    letters = sorted(letter for letter in letters if not letter.isspace())
    # Without room for one piece beside the letters the trainer keeps all pieces that it has.
    needed = len(SPECIAL_TOKENS) + len(letters) + 1 + len(words) + len(SENTINELS)
    if vocab_size < needed:
        raise ValueError(f"{len(letters)} letters, schema and sentinels need vocab_size={needed}, got {vocab_size}")
    # No normalizer: a value is read back as the schema spells it.
    backend = Tokenizer(Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    trainer = UnigramTrainer(
        vocab_size=vocab_size - len(words) - len(SENTINELS),
        special_tokens=SPECIAL_TOKENS,
        unk_token="<unk>",
        initial_alphabet=letters,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    pieces = _reproducible(json.loads(backend.to_str())["model"]["vocab"])
    backend.model = Unigram(_with_words(pieces, words), unk_id=2)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=SENTINELS,
        model_input_names=["input_ids", "attention_mask"],
    )


def tiny_config(
    schema: ProfileSchema, vocab_size: int, image_size: int = 64, patch_size: int = 8, **sizes
) -> MMProfileConfig:
    """A configuration with T5's and ViT's architectures and about a million parameters.

    Args:
        schema: the attributes of a profile.
        vocab_size: `len(tokenizer)`.
        image_size: height and width of a photo in pixels.
        patch_size: of the squares that it is cut into.
        sizes: further ones of `tiny_t5_config` and, with `vision_` before their names, of `tiny_vision_config`.
    """
    vision = {name: size for name, size in sizes.items() if name.startswith("vision_")}
    text = {name: size for name, size in sizes.items() if name not in vision}
    vision = {name.removeprefix("vision_"): size for name, size in vision.items()}
    return MMProfileConfig(
        text_config=tiny_t5_config(vocab_size, **text),
        vision_config=tiny_vision_config(image_size, patch_size, **vision),
        profile_schema=schema,
    )


def tiny_t5_config(
    vocab_size: int,
    d_model: int = 96,
    d_kv: int = 24,
    num_heads: int = 4,
    d_ff: int = 256,
    num_layers: int = 1,
    num_decoder_layers: int = 2,
    dropout_rate: float = 0.0,
) -> T5Config:
    return T5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_kv=d_kv,
        num_heads=num_heads,
        d_ff=d_ff,
        num_layers=num_layers,
        num_decoder_layers=num_decoder_layers,
        dropout_rate=dropout_rate,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,  # pyright: ignore[reportCallIssue]  # any configuration takes it, as any generates
    )


def tiny_vision_config(
    image_size: int = 64,
    patch_size: int = 8,
    hidden_size: int = 96,
    layers: int = 2,
    heads: int = 4,
    intermediate_size: int = 256,
) -> ViTConfig:
    return ViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        image_size=image_size,
        patch_size=patch_size,
        # ViT's 0.02 is for its 768 channels; with few it leaves the states of different photos all but the same.
        initializer_range=hidden_size**-0.5,
    )


def tiny_processor(
    texts: Iterable[str], schema: ProfileSchema, vocab_size: int = 4000, image_size: int = 64, **options
) -> MMProfileProcessor:
    """A processor with `train_tokenizer`'s tokenizer and photos of `image_size` pixels square, normalised to -1..1.

    Args:
        options: passed on to `MMProfileProcessor`, e.g. `max_text_tokens`.
    """
    image_processor = ViTImageProcessorPil(
        size={"height": image_size, "width": image_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return MMProfileProcessor(image_processor, train_tokenizer(texts, schema, vocab_size), schema, **options)


def _schema_words(schema: ProfileSchema) -> list[str]:
    texts = [ATTRIBUTE_SEPARATOR]
    texts += [text for attribute in schema.attributes for text in (attribute.name, *attribute.values)]
    return sorted({word.rstrip(":") for text in texts for word in text.split()})


def _reproducible(pieces: list) -> list[tuple[str, float]]:
    """The trainer's pieces and scores (log-probabilities) without what differs from run to run.

    The trainer walks through hash maps: pieces with equal scores come in any order, sums differ in their last digits,
    and letters too rare to be estimated get the lowest score plus a step of 0.0001 each, in any order.
    """
    special, pieces = pieces[: len(SPECIAL_TOKENS)], pieces[len(SPECIAL_TOKENS) :]
    lowest = min(score for _, score in pieces)
    rare = lowest + 0.0001 * sum(len(piece) == 1 for piece, _ in pieces)
    scored = [(piece, round(lowest if len(piece) == 1 and score <= rare else score, 2)) for piece, score in pieces]
    return [(piece, score) for piece, score in special] + sorted(scored, key=lambda item: (-item[1], item[0]))


def _with_words(pieces: list[tuple[str, float]], words: list[str]) -> list[tuple[str, float]]:
    """Each word a piece of its own, as probable as the most probable piece, so that it is never split."""
    highest = pieces[len(SPECIAL_TOKENS)][1]
    scores = dict(pieces) | {WORD_START + word: highest for word in words}
    return list(scores.items())
