"""A folder as training leaves it for the Hub, with a tiny model of random weights."""

import json
import os
from pathlib import Path

import torch

from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.fusion_mmprofile import GatedFusion
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from publishing.hub_folder import save_hub_folder
from systems.presets import tiny_config, tiny_processor

SCHEMA = ProfileSchema(
    (
        {"name": "Mood", "values": ["Calm", "Loud", "Shy"]},
        {"name": "Favorite Food", "values": ["Pizza", "Soup", "Cake"], "count": 2},
    )
)
TEXTS = ["The pizza was great and the staff was kind .", "Loud music , cold soup , never again ."]


def save_tiny_folder(folder: str | os.PathLike, schema: ProfileSchema = SCHEMA, seed: int = 0, **fields) -> None:
    """`fields` are of `MMProfileConfig`. Photos count as much as text."""
    processor = tiny_processor(TEXTS, schema, vocab_size=500, image_size=32, max_text_tokens=64, max_images=4)
    config = tiny_config(schema, len(processor.tokenizer), image_size=32, d_model=32, d_kv=8, d_ff=64, num_layers=1)
    for name, value in fields.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MMProfileForConditionalGeneration(config).eval()
        if isinstance(model.fusion, GatedFusion):  # a fresh model listens to photos little
            torch.nn.init.normal_(model.fusion.ffn_out.weight, std=0.3)
    save_hub_folder(model, processor, folder)


def make_older(folder: str | os.PathLike) -> None:
    """The folder as code before sections' marks left it: its processor neither knows of marks nor counts tokens."""
    folder = Path(folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    del settings["section_marks"]
    (folder / "processor_config.json").write_text(json.dumps(settings))
    code = (folder / "processing_mmprofile.py").read_text()
    (folder / "processing_mmprofile.py").write_text(code.replace("encode_sections", "encode_in_older_code"))
