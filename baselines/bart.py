"""BART (Lewis et al., 2019, arXiv:1910.13461) on text alone, fine-tuned to write profiles.

What differs from the source: texts are tokenised as mmprofile's, their sections marked by tokens of their own, which
BART's vocabulary gets, and begin with no `<s>`.
"""

from transformers import BartConfig, BartForConditionalGeneration

from baselines.checkpoints import load_checkpoint
from baselines.encoder_decoders import TextEncoderDecoder
from systems.system import System


class Bart(TextEncoderDecoder, BartForConditionalGeneration):
    """BART as a system."""

    def prepare(self, processor) -> None:
        """Raises a `ValueError` if there are too few positions for the longest text."""
        check_positions(self.config, processor)


def check_positions(config: BartConfig, processor, names: int = 0) -> None:
    """Raises a `ValueError` if BART has too few positions for so many tokens of attributes' names and the longest
    text."""
    before = f"{names} tokens of attributes' names and " if names else ""
    if names + processor.max_text_tokens > config.max_position_embeddings:
        raise ValueError(
            f"{before}max_text_tokens={processor.max_text_tokens} need as many positions, BART has"
            f" max_position_embeddings={config.max_position_embeddings}"
        )


def tiny_bart_config(processor, dropout: float = 0.0) -> BartConfig:
    """About a million parameters, for the processor's tokenizer and texts."""
    tokenizer = processor.tokenizer
    return BartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max(1024, processor.max_text_tokens + 64),
        d_model=96,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        dropout=dropout,
        init_std=0.05,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,  # as BART's own
        forced_eos_token_id=None,
    )


def tiny(processor) -> Bart:
    return Bart(tiny_bart_config(processor))


def pretrained(text_model: str, vision_model: None) -> Bart:
    return load_checkpoint(Bart, text_model)


BART = System(
    name="bart",
    title="BART",
    about="A BART encoder-decoder reads the text",
    model_class=Bart,
    tiny=tiny,
    pretrained=pretrained,
    text_model="facebook/bart-base",
)
