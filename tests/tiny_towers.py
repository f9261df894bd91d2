"""Small vision models of other kinds than ViT, with random weights."""

from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.tiny_models import IMAGE_SIZE

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
PHOTO = {"image_size": IMAGE_SIZE, "patch_size": 8}
MLP = {"intermediate_size": 32}
TEXT = SIZES | MLP | {"vocab_size": 30}
# Kind -> how many states stand before the patches'.
OTHERS = {"dinov2": 1, "dinov2_with_registers": 5, "siglip": 0, "siglip_vision_model": 0, "clip": 1}


def tiny_tower(kind: str) -> PreTrainedModel:
    """In evaluation mode. CLIP's and SigLIP's have a text tower too."""
    vision = SIZES | MLP | PHOTO
    # With the usual 0.02 the states of different photos are all but the same.
    dino = SIZES | PHOTO | {"mlp_ratio": 2, "initializer_range": 0.3, "layerscale_value": 1.0}
    models = {
        "dinov2": lambda: Dinov2Model(Dinov2Config(**dino)),
        "dinov2_with_registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**dino)),
        "siglip": lambda: SiglipModel(SiglipConfig(text_config=TEXT | {"projection_size": 16}, vision_config=vision)),
        "siglip_vision_model": lambda: SiglipVisionModel(SiglipVisionConfig(**vision)),
        "clip": lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8)),
    }
    return models[kind]().eval()
