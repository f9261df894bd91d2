"""COOPNet (Li et al., ICASSP 2021, "COOPNet: Multi-Modal Cooperative Gender Prediction in Social Media User
Profiling"): a classifier of texts and photos, which are mapped into one space, exchange there what they know, and
decide together. Texts are read by a hierarchical attention network, see `hierarchical_reader.py`.

Of the source its abstract alone was read: what the modalities exchange is here tanh(W text + V photos), added to both,
and the three heads (text, photos, merged) have the same weight in the loss. What differs from it: it predicts a user's
gender, this one every attribute of a schema, by one logit a value (softmax for an attribute of one value, sigmoids and
the top `count` for others). Photos are [CLS] states of a ViT that is trained too, and the text says which of them
count. Its sentiment-enriched words are left out. At real size words start from the embeddings of `--text_model`,
scaled to a deviation of 1, and all else but the ViT from random weights.

A user without photos has no loss of the heads of photos and of both, exchanges nothing, and is answered by the text's
head; all others by the merged one.

Shapes, beside those of `systems/system.py`:
    values  of all attributes, side by side in schema order
    width   of a state, twice `hidden_size`
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, ViTConfig, ViTModel
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec

from baselines.checkpoints import load_checkpoint
from baselines.hierarchical_reader import HierarchicalReader
from baselines.value_sets import best_profiles, split_values, value_probabilities
from mmprofile import SECTION_MARKS, Profile, ProfileSchema
from systems.presets import tiny_vision_config
from systems.system import EXPLORED, Inputs, System, SystemModel, answer, to_device


class CoopNetConfig(PreTrainedConfig):
    """Configuration of `CoopNet`.

    Args:
        vision_config: ViT's, or its fields.
        vocab_size: of the tokenizer.
        embedding_size: of a word's embedding.
        hidden_size: of a GRU's state, in each of its two directions.
        mark_ids: the tokens that begin a section.
        profile_schema: a schema's list of attributes; None until it is known.
    """

    model_type = "mmprofile_coopnet"
    sub_configs_defaults = {"vision_config": SubConfigSpec(ViTConfig)}

    vision_config: Any = None
    vocab_size: int = 32128
    embedding_size: int = 768
    hidden_size: int = 256
    mark_ids: list[int] | None = None
    profile_schema: list[dict] | None = None
    pad_token_id: int | None = None
    eos_token_id: int | None = None
    tie_word_embeddings: bool = False


class Logits(NamedTuple):
    """What the heads say, each (batch, values), and of whom (batch,): users without photos have `text` alone."""

    text: torch.Tensor
    image: torch.Tensor | None = None
    merged: torch.Tensor | None = None
    has_photos: torch.Tensor | None = None
    photo_weights: torch.Tensor | None = None  # (batch, images), a row sums to 1, or is 0

    @property
    def decided(self) -> torch.Tensor:
        """(batch, values), those that a user is answered by."""
        if self.merged is None or self.has_photos is None:
            return self.text
        return torch.where(self.has_photos[:, None], self.merged, self.text)


class CoopNet(SystemModel, PreTrainedModel):
    """The classifier; its heads are made once the schema is known."""

    config_class = CoopNetConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    trained_whole = ("reader", "visual_projection", "query", "key", "text_bridge", "image_bridge", "heads")

    def __init__(self, config: CoopNetConfig):
        super().__init__(config)
        width = 2 * config.hidden_size
        self.reader = HierarchicalReader(config.vocab_size, config.embedding_size, config.hidden_size)
        self.vision_model = ViTModel(config.vision_config, add_pooling_layer=False)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.text_bridge = nn.Linear(width, width)
        self.image_bridge = nn.Linear(width, width, bias=False)
        self.heads = self._make_heads() if config.profile_schema else nn.ModuleDict()
        self.post_init()

    def _make_heads(self) -> nn.ModuleDict:
        width, values = 2 * self.config.hidden_size, sum(len(a.values) for a in self.profile_schema.attributes)
        sizes = {"text": width, "image": width, "merged": 2 * width}
        return nn.ModuleDict({name: nn.Linear(size, values) for name, size in sizes.items()})

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            for weight in module.parameters(recurse=False):
                init.uniform_(weight, -(module.hidden_size**-0.5), module.hidden_size**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)

    def prepare(self, processor) -> None:
        tokens = [*SECTION_MARKS["sentinels"].values()]
        self.config.mark_ids = processor.tokenizer.convert_tokens_to_ids(tokens)
        self.config.profile_schema = processor.profile_schema.to_list()
        if not len(self.heads):
            self.heads = self._make_heads().to(self.device)
            self.heads.apply(self._init_weights)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.reader.embedding

    def set_input_embeddings(self, value: nn.Embedding):
        self.reader.embedding = value

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
    ) -> Logits:
        """Inputs as of `SystemModel.target_losses`."""
        text = self.reader(input_ids, attention_mask, self.config.mark_ids or [])  # (batch, width)
        if pixel_values is None or image_mask is None or not image_mask.any():
            return Logits(self.heads["text"](text))
        image, weights = self.look(text, pixel_values, image_mask)
        has_photos = image_mask.any(dim=1)
        shared = torch.tanh(self.text_bridge(text) + self.image_bridge(image)) * has_photos[:, None]
        text, image = text + shared, image + shared
        merged = self.heads["merged"](torch.cat([text, image], dim=-1))
        return Logits(self.heads["text"](text), self.heads["image"](image), merged, has_photos, weights)

    def look(
        self, text: torch.Tensor, pixel_values: torch.Tensor, image_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A user's photos as the text attends to them (batch, width), and their weights (batch, images); the vision
        tower runs on photos that are there alone."""
        states = self.visual_projection(self.vision_model(pixel_values[image_mask]).last_hidden_state[:, 0])
        photos = states.new_zeros(*image_mask.shape, states.shape[-1])
        photos[image_mask] = states
        query, key = self.query(text), self.key(photos)
        scores = (query[:, None] * key.shape[-1] ** -0.5 @ key.transpose(1, 2)).squeeze(1).float()
        weights = scores.masked_fill(~image_mask, torch.finfo(torch.float32).min).softmax(dim=-1) * image_mask
        return (weights[:, None].to(photos.dtype) @ photos).squeeze(1), weights

    def target_losses(self, inputs: Inputs, targets: Inputs) -> torch.Tensor:
        """(batch,), summed over attributes and heads; `targets` are `classes` (batch, values)."""
        logits, classes = self(**inputs), targets["classes"]
        losses = class_losses(self.profile_schema, logits.text, classes)
        if logits.image is None or logits.merged is None or logits.has_photos is None:
            return losses
        others = [class_losses(self.profile_schema, head, classes) for head in (logits.image, logits.merged)]
        return losses + torch.where(logits.has_photos, others[0] + others[1], 0)

    @torch.no_grad()
    def write_profiles(self, inputs: Inputs, processor, num_beams: int, constrained: bool = False) -> list[Profile]:
        """The most probable profile of each user: it is always one of the schema, and there is no search."""
        rows = self(**inputs).decided.double().cpu()
        return [best_profiles(self.profile_schema, row, 1)[0][0] for row in rows]

    @torch.no_grad()
    def profile_users(self, batch: Inputs, tokenizer, num_return_profiles: int = EXPLORED, **bounds) -> list[dict]:
        """As of `SystemModel`; the most probable profile is proved, and `probabilities` are over all profiles: of an
        attribute that takes several values, those of sets of so many (see `value_sets`), and they sum to its count."""
        self.check_bounds(bounds)
        inputs = to_device(batch, self)
        logits = self(**inputs)
        rows, weights = logits.decided.double().cpu(), logits.photo_weights
        answers = [self._answer(row, num_return_profiles) for row in rows]
        for user, found in enumerate(answers):
            if weights is not None and "error" not in found:
                found["image_weights"] = weights[user][inputs["image_mask"][user]].tolist()
        return answers

    def _answer(self, logits: torch.Tensor, number: int) -> dict:
        """Of one user, from (values,)."""
        schema = self.profile_schema
        if not logits.isfinite().all():
            return answer(schema, [])
        probabilities = {}
        for attribute, part in zip(schema.attributes, split_values(schema, logits), strict=True):
            shares = value_probabilities(part, attribute.count).tolist()
            probabilities[attribute.key] = dict(zip(attribute.values, shares, strict=True))
        found = answer(schema, best_profiles(schema, logits, number))
        return found | {"exact": True, "probabilities": probabilities, "image_weights": []}


def class_losses(schema: ProfileSchema, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(batch,), of one head, summed over attributes: the cross entropy of the softmax where an attribute has one
    value, else the sum of the values' binary cross entropies.

    Args:
        logits, classes: (batch, values).
    """
    losses = logits.new_zeros(len(logits), dtype=torch.float32)
    parts = split_values(schema, logits.float()), split_values(schema, classes.float().to(logits.device))
    for attribute, given, wanted in zip(schema.attributes, *parts, strict=True):
        if attribute.count == 1:
            losses = losses + cross_entropy(given, wanted, reduction="none")
        else:
            losses = losses + binary_cross_entropy_with_logits(given, wanted, reduction="none").sum(dim=-1)
    return losses


def tiny(processor) -> CoopNet:
    tokenizer = processor.tokenizer
    config = CoopNetConfig(
        vision_config=tiny_vision_config(),
        vocab_size=len(tokenizer),
        embedding_size=96,
        hidden_size=64,
        profile_schema=processor.profile_schema.to_list(),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = CoopNet(config)
    model.prepare(processor)
    return model


def pretrained(text_model: str, vision_model: str) -> CoopNet:
    text: Any = AutoModel.from_pretrained(text_model, dtype=torch.float32)
    embedding = text.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        kind = text.config.model_type
        raise ValueError(
            f"{text_model!r} must be of a text model, with embeddings of words, it is of the type {kind!r}"
        )
    tower: Any = load_checkpoint(ViTModel, vision_model, add_pooling_layer=False)
    vocab_size, size = embedding.weight.shape
    model = CoopNet(CoopNetConfig(vision_config=tower.config, vocab_size=vocab_size, embedding_size=size))
    model.vision_model = tower
    with torch.no_grad():
        model.reader.embedding.weight.copy_(embedding.weight / embedding.weight.std())
    return model


COOPNET = System(
    name="coopnet",
    title="COOPNet",
    about="A hierarchical attention network reads the text, which attends to photos by ViT; three heads classify",
    model_class=CoopNet,
    tiny=tiny,
    pretrained=pretrained,
    text_model="google/flan-t5-base",
    vision_model="google/vit-base-patch16-224",
    paradigms=("multimodal", "combined"),
    needs_classes=True,
)
