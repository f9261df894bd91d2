"""Text encoder-decoders of transformers as systems: what the shared joint step and the evaluation ask of them.

Shapes: batch users, seq text tokens, d_model the encoder's width.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from mmprofile import FusedEncoderOutput
from systems.system import Inputs, SequenceToSequence


class TextEncoderDecoder(SequenceToSequence):
    """A model that sees no photo. It stands before the class of transformers in the bases."""

    get_encoder: Callable[..., Any]

    def text_features(self, input_ids=None, attention_mask=None, inputs_embeds=None) -> BaseModelOutput:
        """The encoder's output, `last_hidden_state` (batch, seq, d_model)."""
        return self.get_encoder()(input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds)

    def fuse(
        self, text: torch.Tensor, attention_mask: torch.Tensor, photo_features: None = None, image_mask: None = None
    ) -> FusedEncoderOutput:
        """What the decoder attends to: the text as it is, (batch, seq, d_model), with its mask (batch, seq)."""
        return FusedEncoderOutput(last_hidden_state=text, attention_mask=attention_mask)

    def model_inputs(self, inputs: Inputs) -> Inputs:
        if "encoder_outputs" in inputs:
            return inputs
        encoded: Any = self.encode(**inputs)
        return {"encoder_outputs": encoded, "attention_mask": encoded.attention_mask}

    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> FusedEncoderOutput:
        """As `text_features`, with the mask."""
        states: Any = self.text_features(input_ids, attention_mask).last_hidden_state
        return self.fuse(states, attention_mask)
