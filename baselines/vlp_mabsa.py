"""VLP-MABSA (Ling, Yu and Xia, "Vision-Language Pre-Training for Multimodal Aspect-Based Sentiment Analysis",
ACL 2022, arXiv:2204.07955) without its pre-training: BART reads photos and text as one sequence and writes profiles.

What differs from the source:
- Visual states are a ViT's, [CLS] and every patch of each photo, in the place of a detector's 36 regions.
- A bias of their projection marks them, in the place of tokens around them.
- They take none of BART's positions: a text has the same ones with photos and without, the order of photos changes
  nothing, and there may be more states than BART has positions.
- BART's own language model head writes, in the place of pointers to spans of the text.
- The source's pre-training tasks, and the checkpoints that they made, are not to be had.

Shapes: batch users, seq text tokens, images photos a user, states of all of a user's photos together, d_model the
encoder's width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import Seq2SeqLMOutput

from baselines.bart import check_positions, tiny_bart_config
from baselines.checkpoints import load_checkpoint
from mmprofile import FusedEncoderOutput
from systems.presets import tiny_vision_config
from systems.system import SequenceToSequence, System


class VlpMabsaConfig(PreTrainedConfig):
    """Configuration of `VlpMabsa`.

    Args:
        text_config: BART's, or its fields.
        vision_config: ViT's, or its fields.
    """

    model_type = "mmprofile_vlp_mabsa"
    sub_configs_defaults = {"text_config": SubConfigSpec(BartConfig), "vision_config": SubConfigSpec(ViTConfig)}

    text_config: Any = None
    vision_config: Any = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
            setattr(self, name, getattr(self.text_config, name))

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """BART's; of its decoder alone, if asked for, with the decoder's number of layers."""
        return self.text_config.get_text_config(decoder=decoder, encoder=encoder)


class PhotoTextEncoder(nn.Module):
    """What `generate` takes for the encoder: `encode` of a model, which it does not own."""

    def __init__(self, encode: Callable[..., FusedEncoderOutput]):
        super().__init__()
        self._encode = encode

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> FusedEncoderOutput:
        return self._encode(input_ids, attention_mask, pixel_values, image_mask)


class VlpMabsa(SequenceToSequence, PreTrainedModel, GenerationMixin):
    """VLP-MABSA as a system. A user without photos has what BART of the same weights makes of the text."""

    config_class = VlpMabsaConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    text_model: Any  # a checker knows BART's parts as modules
    vision_model: Any

    def __init__(self, config: VlpMabsaConfig):
        super().__init__(config)
        self.text_model = BartForConditionalGeneration(config.text_config)
        self.vision_model = ViTModel(config.vision_config, add_pooling_layer=False)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.text_config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Linear):  # what joins the towers; these initialise their own
            init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def prepare(self, processor) -> None:
        """Raises a `ValueError` if BART has too few positions for the longest text."""
        check_positions(self.config.text_config, processor)

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return PhotoTextEncoder(self.encode) if modality is None else super().get_encoder(modality)

    def get_decoder(self) -> nn.Module:
        return self.text_model.get_decoder()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.text_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.text_model.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, *args, **options) -> nn.Embedding:
        return self.text_model.resize_token_embeddings(*args, **options)  # with a bias of its logits

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
    ) -> FusedEncoderOutput:
        """What the decoder attends to, (batch, states + seq, d_model), and its mask; arguments as of `forward`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        encoder = self.text_model.get_encoder()
        text = encoder.embed_tokens(input_ids) + encoder.embed_positions(input_ids)
        states, mask = text, attention_mask
        if pixel_values is not None:
            visual, visual_mask = self.visual_states(pixel_values, image_mask)
            states = torch.cat([visual.to(text.dtype), text], dim=1)
            mask = torch.cat([visual_mask.to(attention_mask.dtype), attention_mask], dim=1)
        # As BART's encoder goes on, which gives all of its input positions.
        states = encoder.layernorm_embedding(states)
        states = nn.functional.dropout(states, p=encoder.dropout, training=self.training)
        allowed = create_bidirectional_mask(config=encoder.config, inputs_embeds=states, attention_mask=mask)
        for layer in encoder.layers:
            states = layer(states, allowed)
        return FusedEncoderOutput(last_hidden_state=states, attention_mask=mask)

    def visual_states(
        self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The projected states of a user's photos, one photo behind another, (batch, states, d_model), 0 where there
        is no photo, and which are there, (batch, states). The vision tower runs on the photos that are there."""
        if image_mask is None:
            image_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        photos = pixel_values[image_mask.bool()]
        if not len(photos):
            nothing = photos.new_zeros(len(pixel_values), 0, self.config.text_config.d_model)
            return nothing, image_mask[:, :0]
        found = self.visual_projection(self.vision_model(photos).last_hidden_state)  # (photos, its states, d_model)
        padded = found.new_zeros(*image_mask.shape, *found.shape[1:])
        padded[image_mask.bool()] = found
        return padded.flatten(1, 2), image_mask.repeat_interleave(found.shape[1], dim=1)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values=None,
        cache=None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Next-token logits (batch, target, vocabulary) and, with labels, the loss.

        Args:
            input_ids: (batch, seq).
            attention_mask: (batch, seq), 1 where there is a token; default: everywhere.
            pixel_values: (batch, images, 3, height, width), normalised; None without photos.
            image_mask: (batch, images), True where there is a photo; default: everywhere.
            encoder_outputs: of `encode`, to skip the encoders.
            cache: keys and values of the tokens before; `past_key_values` to transformers before 5.24.
            labels: (batch, target), -100 where there is none.
            kwargs: of BART's decoder.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encode(input_ids, attention_mask, pixel_values, image_mask)  # pyright: ignore
        if isinstance(encoder_outputs, FusedEncoderOutput):
            attention_mask = encoder_outputs.attention_mask  # photos lengthen the sequence
        caches = {"past_key_values": past_key_values, "cache": cache}  # BART knows one of them
        return self.text_model(
            attention_mask=attention_mask,
            encoder_outputs=encoder_outputs,
            decoder_input_ids=decoder_input_ids,
            labels=labels,
            use_cache=use_cache,
            **{name: value for name, value in caches.items() if value is not None},
            **kwargs,
        )

    @classmethod
    def from_towers(cls, text_model: str, vision_model: str) -> "VlpMabsa":
        """A model from a BART and a ViT checkpoint, by Hub names or folders, and fresh weights for what joins them.

        Raises:
            ValueError: if a checkpoint is of another kind or lacks weights.
        """
        text = load_checkpoint(BartForConditionalGeneration, text_model)
        vision = load_checkpoint(ViTModel, vision_model, add_pooling_layer=False)
        config_class: Any = cls.config_class
        model = cls(config_class(text_config=text.config, vision_config=vision.config))
        model.text_model, model.vision_model = text, vision
        return model


def tiny_towers(processor) -> dict[str, Any]:
    """`text_config` and `vision_config` of about a million parameters together."""
    vision = tiny_vision_config(image_size=processor.image_processor.size["height"])
    return {"text_config": tiny_bart_config(processor), "vision_config": vision}


def tiny(processor) -> VlpMabsa:
    return VlpMabsa(VlpMabsaConfig(**tiny_towers(processor)))


VLP_MABSA = System(
    name="vlp_mabsa",
    title="VLP-MABSA without its pre-training",
    about="A BART encoder-decoder reads the states of a ViT, projected, and the text as one sequence",
    model_class=VlpMabsa,
    tiny=tiny,
    pretrained=VlpMabsa.from_towers,
    text_model="facebook/bart-base",
    vision_model="google/vit-base-patch16-224",
    paradigms=("multimodal", "combined"),
)
