"""Schemas that are hard in different ways, and tokenizers of different kinds trained on their profiles."""

from collections import Counter
from itertools import combinations, product
from math import log

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema

SPECIAL = ["<pad>", "</s>", "<unk>"]

SCHEMAS = {
    # one value begins another, in the middle and at the end of the line
    "prefixes": ProfileSchema(
        (
            ProfileAttribute("Place", ("Bar", "Bar Seat", "Bar Seat Left", "Barn")),
            ProfileAttribute("Drink", ("Tea", "Tea House", "Tea, black", "T")),
        )
    ),
    # three of five values, several words each, two and three with the same beginning
    "several": ProfileSchema(
        (
            ProfileAttribute("Likes", ("Home Services", "Home Care", "Local Services", "Spas", "Spas & Beauty"), 3),
            ProfileAttribute("Budget Range", ("Low", "High")),
            ProfileAttribute("Both", ("True", "False"), 2),
        )
    ),
    # attributes that begin alike and share their values
    "alike": ProfileSchema(
        tuple(ProfileAttribute(f"Preference {word}", ("True", "False", "Tr")) for word in ("A", "AB", "B"))
    ),
}


def all_profiles(schema: ProfileSchema) -> list[dict]:
    """In schema order."""
    choices = product(*(combinations(attribute.values, attribute.count) for attribute in schema.attributes))
    return [
        {a.key: v[0] if a.count == 1 else list(v) for a, v in zip(schema.attributes, values, strict=True)}
        for values in choices
    ]


def lines(*schemas: ProfileSchema) -> list[str]:
    return [schema.render(profile) for schema in schemas for profile in all_profiles(schema)]


def _finished(backend: Tokenizer, eos: bool = True) -> PreTrainedTokenizerFast:
    if eos:
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def unigram_tokenizer(pieces: int = 80) -> PreTrainedTokenizerFast:
    """T5's kind: pieces of words, a blank begins a word. The same in each process, as its trainer's are not."""
    words = sorted({"\u2581" + word for line in lines(*SCHEMAS.values()) for word in line.split()})
    counts = Counter(word[a:b] for word in words for a, b in combinations(range(len(word) + 1), 2))
    letters = [piece for piece in counts if len(piece) == 1]
    frequent = sorted(counts, key=lambda piece: (-counts[piece] * len(piece), piece))[:pieces]
    chosen = dict.fromkeys([*letters, *frequent])
    total = sum(counts[piece] for piece in chosen)
    scored = [(piece, log(counts[piece] / total)) for piece in chosen]
    backend = Tokenizer(models.Unigram([*((token, 0.0) for token in SPECIAL), *scored], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    return _finished(backend)


def byte_tokenizer(vocab_size: int = 300) -> PreTrainedTokenizerFast:
    """GPT-2's kind: merges of bytes within words. It writes no `</s>`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(lines(*SCHEMAS.values()), trainer)
    return _finished(backend, eos=False)


def phrase_tokenizer(vocab_size: int = 120) -> PreTrainedTokenizerFast:
    """Merges across blanks, so that a line's pieces have other ids than the line."""
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(lines(*SCHEMAS.values()), trainer)
    return _finished(backend)


def blind_tokenizer() -> PreTrainedTokenizerFast:
    """Knows the separators only: most values look the same to it."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, "|", "Tea", "Low"])}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finished(backend)


def word_tokenizer(schema: ProfileSchema) -> PreTrainedTokenizerFast:
    """The words and separators of the schema's lines."""
    split = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", "isolated")])
    texts = [text for a in schema.attributes for text in (a.name + ":", *a.values)]
    words = dict.fromkeys(word for text in texts for word in text.split())
    vocab = {word: number for number, word in enumerate([*SPECIAL, "|", ",", *words])}
    backend = Tokenizer(models.WordLevel(vocab, "<unk>"))
    backend.pre_tokenizer = split
    return _finished(backend)


TOKENIZERS = {
    "unigram": unigram_tokenizer,
    "bytes": byte_tokenizer,
    "phrases": phrase_tokenizer,
    "blind": blind_tokenizer,
}
