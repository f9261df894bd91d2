"""LLaVA (Liu et al., 2023, arXiv:2304.08485, and 2024, arXiv:2310.03744): photos as tokens of LLaMA's prompt.

The patch states of each photo, by CLIP, go through a projector of two layers and stand before the text, one block a
photo; see `baselines.causal` for the prompt. They are a sequence: another order of the photos is another prompt.

What differs from the source: any number of photos, where it has one; no chat template; and all is trained from the
first step on, where it trains its projector first and its vision tower never (`--freeze_vision` leaves that as it is).
At real size a photo is 576 tokens, of the 4096 that LLaMA was trained on.
"""

from typing import Any

import torch
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

from baselines.causal import NOTHING, CausalSystem
from baselines.checkpoints import checkpoint_config, load_checkpoint
from baselines.llama import tiny_llama_config
from systems.system import Inputs, System

PHOTO = -1  # in rows of tokens: a patch of a photo
CLIP = "clip_vision_model"


class Llava(CausalSystem, LlavaForConditionalGeneration):
    """LLaVA as a system. Its vision tower is CLIP's."""

    trained_whole = ("model.multi_modal_projector",)

    def prepare(self, processor) -> None:
        super().prepare(processor)
        layers = self.vision_model.encoder.layers
        read = self.config.vision_feature_layer % (len(layers) + 1)  # of all layers' states, the embeddings' first
        for part in (*layers[read:], self.vision_model.post_layernorm):  # no gradient comes there
            part.requires_grad_(False)

    @property
    def vision_model(self):
        return self.model.vision_tower

    def photo_places(self, inputs: Inputs) -> torch.Tensor:
        if "image_mask" not in inputs:
            return super().photo_places(inputs)
        there = inputs["image_mask"].repeat_interleave(self.config.image_seq_length, dim=1)
        return torch.where(there, PHOTO, NOTHING)

    def embed(self, rows: torch.Tensor, inputs: Inputs) -> dict[str, torch.Tensor]:
        embedded, is_photo = super().embed(rows, inputs), rows == PHOTO
        if "image_mask" in inputs and inputs["image_mask"].any():
            photos = inputs["pixel_values"][inputs["image_mask"]]
            found: Any = self.get_image_features(photos)
            tokens = torch.cat(found.pooler_output)  # (patches of all photos, hidden)
            if len(tokens) != len(photos) * self.config.image_seq_length:
                raise ValueError(
                    f"the vision tower makes {len(tokens) // len(photos)} tokens of a photo, the configuration says"
                    f" image_seq_length={self.config.image_seq_length}"
                )
            embeds = embedded["inputs_embeds"]
            embedded["inputs_embeds"] = embeds.masked_scatter(is_photo[..., None], tokens.to(embeds.dtype))
        return embedded


# Checkpoints name weights in an older way, which transformers knows of its own classes alone.
register_checkpoint_conversion_mapping("Llava", get_checkpoint_conversion_mapping("llava") or [], overwrite=True)


def tiny(processor, image_size: int = 64, patch_size: int = 16) -> Llava:
    """About a million parameters, for the processor's tokenizer and photos; 16 tokens a photo."""
    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
        initializer_range=96**-0.5,  # as of `systems.presets.tiny_vision_config`
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=tiny_llama_config(processor),
        image_seq_length=(image_size // patch_size) ** 2,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = Llava(config)
    model.prepare(processor)
    return model


def pretrained(text_model: str, vision_model: None) -> Llava:
    config: Any = checkpoint_config(text_model, "llava")
    if (kind := config.vision_config.model_type) != CLIP:
        raise ValueError(f"the vision tower of {text_model!r} must be of type {CLIP!r}, it is of type {kind!r}")
    return load_checkpoint(Llava, text_model)


LLAVA = System(
    name="llava",
    title="LLaVA",
    about="A LLaMA decoder reads photos, seen by CLIP, and the text as a prompt, and writes the profile behind it",
    model_class=Llava,
    tiny=tiny,
    pretrained=pretrained,
    text_model="llava-hf/llava-1.5-7b-hf",
    paradigms=("multimodal", "combined"),
)
