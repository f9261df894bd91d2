"""Causal systems from checkpoints with tokenizers as LLaMA's and GLM's are: other openings, ends and padding."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

from baselines.table import SYSTEMS
from mmprofile.processing_mmprofile import MMProfileProcessor
from tests.baselines.causal_users import PROFILES, REVIEWS, causal_model, described
from tests.tiny_folder import SCHEMA, TEXTS
from training.model import fitting_tokenizer

LINES = TEXTS + [SCHEMA.render(profile) for profile in PROFILES]


def llamas_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of SentencePiece: `<s>` before a text, nothing behind it, and no padding."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def glms_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of bytes: two tokens before a text, and padding with the token of the end."""
    backend, special = Tokenizer(models.BPE()), ["<|endoftext|>", "[gMASK]", "<sop>"]
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters))
    opening = processors.TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=[("[gMASK]", 1), ("<sop>", 2)])
    backend.post_processor = processors.Sequence([processors.ByteLevel(), opening])
    end = special[0]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, pad_token=end, extra_special_tokens=special[1:]
    )


@pytest.mark.parametrize(
    ("name", "tokenizer", "opening"),
    [("llama", llamas_tokenizer(), [1]), ("chatglm", glms_tokenizer(), [1, 2]), ("llava", llamas_tokenizer(), [1])],
)
def test_a_checkpoint_with_its_own_tokenizer_learns_profiles_and_keeps_them(name, tokenizer, opening, tmp_path):
    config = causal_model(name).config
    config.get_text_config().vocab_size = len(tokenizer)
    config.get_text_config().pad_token_id = config.pad_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = SYSTEMS[name].model_class.__bases__[1](config)
    plain.save_pretrained(tmp_path / "before")
    tokenizer.save_pretrained(tmp_path / "before")

    model = described(SYSTEMS[name].pretrained(str(tmp_path / "before"), None), name)
    fitting = fitting_tokenizer(str(tmp_path / "before"), model)
    processor = MMProfileProcessor(ViTImageProcessorPil(), fitting, SCHEMA, max_text_tokens=100)
    model.prepare(processor)
    assert model.config.opening_ids == opening
    inputs = processor.pad_text([processor.encode_text(reviews) for reviews in REVIEWS])
    targets = {"labels": processor.encode_targets(PROFILES)}
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.target_losses(inputs, targets).sum().backward()
        optimizer.step()
    model.eval()
    assert model.write_profiles(inputs, processor, 2) == PROFILES
    answers = model.profile_users(inputs, fitting)
    assert [answer["profile"] for answer in answers] == PROFILES
    with torch.no_grad():
        losses = model.target_losses(inputs, targets).tolist()
    assert [-answer["log_probability"] for answer in answers] == pytest.approx(losses, rel=1e-3, abs=1e-5)

    model.save_pretrained(tmp_path / "after")
    processor.save_pretrained(tmp_path / "after")
    loaded = SYSTEMS[name].model_class.from_pretrained(tmp_path / "after").eval()
    assert loaded.write_profiles(inputs, MMProfileProcessor.from_pretrained(tmp_path / "after"), 2) == PROFILES
