"""OD-TUP (Wen, Huang and Li, "Towards Open-Domain Twitter User Profile Inference", Findings of ACL 2023): profiles
are generated behind a prompt of the attributes' names.

The names stand before the reviews in the encoder's input. What differs from the source: the attributes are the
schema's, so one call writes all their values, where the source's are open and each is asked for by itself; it starts
from Flan-T5.
"""

from typing import Any

import torch
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from baselines.checkpoints import load_checkpoint
from baselines.encoder_decoders import TextEncoderDecoder
from mmprofile import ATTRIBUTE_SEPARATOR, FusedEncoderOutput
from systems.presets import tiny_t5_config
from systems.system import System


class OdTup(TextEncoderDecoder, T5ForConditionalGeneration):
    """T5 with a prompt before each text; `config.prompt_ids` has its tokens."""

    def prepare(self, processor) -> None:
        names = ATTRIBUTE_SEPARATOR.join(attribute.name for attribute in processor.profile_schema.attributes)
        self.config.prompt_ids = processor.tokenizer(names, add_special_tokens=False).input_ids

    def text_features(self, input_ids=None, attention_mask=None, inputs_embeds=None) -> BaseModelOutput:
        """The encoder's output (batch, prompt + seq, d_model)."""
        embed: Any = self.get_input_embeddings()
        text = embed(input_ids) if inputs_embeds is None else inputs_embeds
        prompt = embed(torch.tensor(self.config.prompt_ids, device=text.device)).expand(len(text), -1, -1)
        mask = None if attention_mask is None else self._with_prompt(attention_mask)
        return self.get_encoder()(inputs_embeds=torch.cat([prompt.to(text), text], dim=1), attention_mask=mask)

    def fuse(self, text, attention_mask, photo_features=None, image_mask=None) -> FusedEncoderOutput:
        return super().fuse(text, self._with_prompt(attention_mask))

    def _with_prompt(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, prompt + seq), of a text's (batch, seq)."""
        return torch.nn.functional.pad(attention_mask, (len(self.config.prompt_ids), 0), value=1)


def tiny(processor) -> OdTup:
    return OdTup(tiny_t5_config(len(processor.tokenizer), num_layers=2, num_decoder_layers=2))


def pretrained(text_model: str, vision_model: None) -> OdTup:
    return load_checkpoint(OdTup, text_model)


OD_TUP = System(
    name="od_tup",
    title="OD-TUP",
    about="A T5 encoder-decoder reads the attributes' names as a prompt, and the text behind it",
    model_class=OdTup,
    tiny=tiny,
    pretrained=pretrained,
    text_model="google/flan-t5-base",
)
