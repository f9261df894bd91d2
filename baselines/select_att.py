"""SelectAtt (Li et al., ACL 2022, "On Vision Features in Multimodal Machine Translation"): selective attention over
the patches of photos, and a sigmoid gate, between a text encoder and its decoder.

What differs from the source: T5 and ViT are trained further, where the source trains a small Transformer of its own
beside a frozen ViT; a user has several photos, whose patches are attended to side by side; patch states are projected
to the text's width first, as mmprofile's, and no layer has a bias (a key's can change no softmax). A user without
photos keeps the text unfused. As the source's, the gate starts at a half, and a pre-trained T5 not as it was.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from mmprofile import FusedEncoderOutput, Fusion, MMProfileConfig, MMProfileForConditionalGeneration
from systems.presets import tiny_t5_config, tiny_vision_config
from systems.system import System


class SelectiveFusion(Fusion):
    """(1 - g) text + g attended, g = sigmoid(W text + U attended) per position and channel; one head attends with the
    text as query and the patches as keys and values. Shapes as in `fusion_mmprofile.py`."""

    weighs_photos = True

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__(text_config)
        d_model = text_config.d_model
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.gate_text = nn.Linear(d_model, d_model, bias=False)
        self.gate_image = nn.Linear(d_model, d_model, bias=False)

    def forward(self, text, attention_mask, visual, visual_mask) -> FusedEncoderOutput:
        attended, weights = self.attend(text, visual, visual_mask)
        gate = torch.sigmoid(self.gate_text(text) + self.gate_image(attended))
        fused = (1 - gate) * text + gate * attended  # (batch, seq, d_model)
        has_photos = visual_mask.any(dim=1)[:, None, None]
        return FusedEncoderOutput(torch.where(has_photos, fused, text), image_attentions=weights, gate=gate)

    def attend(
        self, text: torch.Tensor, visual: torch.Tensor, visual_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each position finds in the patches (batch, seq, d_model), and their weights (batch, seq, states): a row
        sums to 1, or is 0 for a user without photos."""
        query, key, value = self.query(text), self.key(visual), self.value(visual)
        scores = query * key.shape[-1] ** -0.5 @ key.transpose(-1, -2)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        there = visual_mask[:, None]
        scores = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
        weights = (scores.softmax(dim=-1) * there).to(value.dtype)
        return self.output(weights @ value), weights


class SelectAttConfig(MMProfileConfig):
    """As `MMProfileConfig`, of which `fusion` stands for nothing."""

    model_type = "mmprofile_select_att"
    _auto_class = None  # no code of the model goes with a checkpoint, the processor's alone

    vision_feature: str = "patches"

    def to_dict(self) -> dict:
        return {name: value for name, value in super().to_dict().items() if name != "fusion"}


class SelectAtt(MMProfileForConditionalGeneration):
    """T5 and ViT as mmprofile's, with its search for profiles and its joint step, and `SelectiveFusion` between."""

    config_class = SelectAttConfig
    _auto_class = None
    companions = ("requirements.txt", "LICENSE")  # beside checkpoints
    _no_split_modules = [SelectiveFusion.__name__]

    @staticmethod
    def fusion_class(config: MMProfileConfig) -> type[Fusion]:
        return SelectiveFusion

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As any model's of transformers: mmprofile's own would name classes that load this one wrongly."""
        PreTrainedModel.save_pretrained(self, save_directory, *args, **kwargs)


def tiny(processor) -> SelectAtt:
    text, vision = tiny_t5_config(len(processor.tokenizer)), tiny_vision_config()
    return SelectAtt(SelectAttConfig(text_config=text, vision_config=vision, profile_schema=processor.profile_schema))


def pretrained(text_model: str, vision_model: str) -> Any:
    return SelectAtt.from_text_vision_pretrained(text_model, vision_model, dtype=torch.float32)


SELECT_ATT = System(
    name="select_att",
    title="SelectAtt",
    about="A T5 encoder-decoder reads the text, which attends to the patches of photos by ViT through a sigmoid gate",
    model_class=SelectAtt,
    tiny=tiny,
    pretrained=pretrained,
    text_model="google/flan-t5-base",
    vision_model="google/vit-base-patch16-224",
    paradigms=("multimodal", "combined"),
    reads_views=True,
)
