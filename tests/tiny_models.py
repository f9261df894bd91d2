"""Small models with random weights, and inputs for them."""

import torch
from transformers import T5Config, T5ForConditionalGeneration, ViTConfig

from mmprofile.configuration_mmprofile import MMProfileConfig
from mmprofile.fusion_mmprofile import GatedFusion
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration

VOCAB_SIZE = 100
IMAGE_SIZE = 32
PATCHES = 16
D_MODEL = 32


def tiny_t5_config(**fields) -> T5Config:
    sizes = {"vocab_size": VOCAB_SIZE, "d_model": D_MODEL, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2}
    return T5Config(**sizes | {"decoder_start_token_id": 0} | fields)


def tiny_vit_config(**fields) -> ViTConfig:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    # The usual 0.02 would leave the [CLS] states of different photos all but the same.
    return ViTConfig(**sizes | {"image_size": IMAGE_SIZE, "patch_size": 8, "initializer_range": 0.3} | fields)


def tiny_config(text: dict | None = None, vision: dict | None = None, **fields) -> MMProfileConfig:
    """Fields of T5, of ViT, and of `MMProfileConfig`."""
    return MMProfileConfig(
        text_config=tiny_t5_config(**text or {}), vision_config=tiny_vit_config(**vision or {}), **fields
    )


def tiny_model(seed: int = 0, **options) -> MMProfileForConditionalGeneration:
    """In evaluation mode, with photos that count as much as the text; options as of `tiny_config`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MMProfileForConditionalGeneration(tiny_config(**options)).eval()
        if isinstance(model.fusion, GatedFusion):  # a fresh model listens to photos little
            ffn_out = model.fusion.ffn_out
            torch.nn.init.normal_(ffn_out.weight, std=2 * ffn_out.in_features**-0.5)
    return model


def same_t5(model: MMProfileForConditionalGeneration) -> T5ForConditionalGeneration:
    """transformers' own T5 with the model's weights."""
    t5 = T5ForConditionalGeneration(model.config.text_config).eval()
    t5.load_state_dict(model.text_model.state_dict())
    return t5


def random_text(users: int = 3, seq: int = 10, target: int = 6, seed: int = 1) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask and labels; the second user's are padded."""
    generator = torch.Generator().manual_seed(seed)
    batch = {
        "input_ids": torch.randint(3, VOCAB_SIZE, (users, seq), generator=generator),
        "attention_mask": torch.ones(users, seq, dtype=torch.long),
        "labels": torch.randint(3, VOCAB_SIZE, (users, target), generator=generator),
    }
    batch["input_ids"][1:2, seq // 2 :] = 0
    batch["attention_mask"][1:2, seq // 2 :] = 0
    batch["labels"][1:2, target // 2 :] = -100
    return batch


def random_photos(users: int = 3, images: int = 4, seed: int = 2) -> dict[str, torch.Tensor]:
    """pixel_values and image_mask: all photos, a gap in the middle, none, and so on by turns."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(users, images, dtype=torch.bool)
    mask[1::3, 1 : images - 1] = False
    mask[2::3] = False
    return {
        "pixel_values": torch.randn(users, images, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
        "image_mask": mask,
    }


def random_batch(**options) -> dict[str, torch.Tensor]:
    return random_text(**options) | random_photos(users=options.get("users", 3))


def photos_seen(model: MMProfileForConditionalGeneration) -> list[int]:
    """How many photos each call of the vision tower gets; calls to come are appended."""
    calls = []

    def note(module, args, kwargs):
        calls.append(len(args[0] if args else kwargs["pixel_values"]))

    model.vision_model.register_forward_pre_hook(note, with_kwargs=True)
    return calls
