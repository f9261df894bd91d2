"""Flan-T5 (Chung et al., 2022, arXiv:2210.11416) on text alone: the paper's own text tower, with no fusion anywhere.

As the source has it, but for what it is asked: fine-tuned to write profiles. It has no prompt; the text's sections
have marks instead, as those of mmprofile.
"""

from transformers import T5ForConditionalGeneration

from baselines.checkpoints import load_checkpoint
from baselines.encoder_decoders import TextEncoderDecoder
from systems.presets import tiny_t5_config
from systems.system import System


class FlanT5(TextEncoderDecoder, T5ForConditionalGeneration):
    """T5 as a system."""


def tiny(processor) -> FlanT5:
    # `generate` of transformers makes a cache of as many layers as the encoder has.
    return FlanT5(tiny_t5_config(len(processor.tokenizer), num_layers=2, num_decoder_layers=2))


def pretrained(text_model: str, vision_model: None) -> FlanT5:
    return load_checkpoint(FlanT5, text_model)


FLAN_T5 = System(
    name="flan_t5",
    title="Flan-T5",
    about="A T5 encoder-decoder reads the text",
    model_class=FlanT5,
    tiny=tiny,
    pretrained=pretrained,
    text_model="google/flan-t5-base",
)
