"""AoM (Zhou et al., "AoM: Detecting Aspect-oriented Information for Multimodal Aspect-Based Sentiment Analysis",
Findings of ACL 2023, arXiv:2306.01004) without its lexicon and parser: VLP-MABSA whose encoder's states are mixed with
those of aspects, and passed along a graph of like states.

What differs from the source, beside what does of VLP-MABSA:
- Aspects are the tokens of the attributes' names, which stand between photos and text, as profiles have no spans of
  the text for aspects; the source takes the nouns that a parser finds.
- The attention adds an aspect's and a state's features before the tanh. The source sets them side by side, and so the
  softmax over aspects forgets the state: all states would share one mean of the aspects.
- The graph has no syntax (a parser's) and its states no sentiment (a lexicon's, SenticNet): tokens are linked as alike
  as they are, visual states with aspects alone. Where a cosine is below 0 there is no link.
- No pre-training on whether a photo and a text belong together.

Shapes: as in `vlp_mabsa.py`; nodes are photos' states, aspects and text tokens, in this order.
"""

from typing import Any

import torch
from torch import nn

from baselines.bart import check_positions
from baselines.vlp_mabsa import VlpMabsa, VlpMabsaConfig, tiny_towers
from mmprofile import FusedEncoderOutput
from systems.system import System

GRAPH_SHARE = 0.5  # of the graph's states beside the encoder's, as in the source's code


class AomConfig(VlpMabsaConfig):
    """As `VlpMabsaConfig`.

    Args:
        aspect_ids: tokens of the attributes' names, see `Aom.prepare`.
    """

    model_type = "mmprofile_aom"

    aspect_ids: list[int] | None = None


class A3M(nn.Module):
    """The aspect-aware attention module. Its name does not end in Attention: transformers takes such a class for one
    that lacks its attention interface."""

    def __init__(self, d_model: int):
        super().__init__()
        self.aspect = nn.Linear(d_model, d_model)
        self.state = nn.Linear(d_model, d_model, bias=False)
        self.score = nn.Linear(d_model, 1, bias=False)  # softmax forgets what all aspects have added
        self.keep = nn.Linear(2 * d_model, 1)

    def forward(self, states: torch.Tensor, aspects: torch.Tensor) -> torch.Tensor:
        """Each state (batch, nodes, d_model) with its mean of the aspects (batch, aspects, d_model), by a gate."""
        features = torch.tanh(self.state(states)[:, :, None] + self.aspect(aspects)[:, None])
        weights = self.score(features).squeeze(-1).softmax(dim=-1)  # (batch, nodes, aspects)
        attended = weights.to(aspects.dtype) @ aspects
        keep = torch.sigmoid(self.keep(torch.cat([states, attended], dim=-1)))
        return keep * states + (1 - keep) * attended


class GraphConvolution(nn.Module):
    """One layer: H -> ReLU(A H W / (1 + the row's sum of A) + b)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.linear = nn.Linear(d_model, d_model)

    def forward(self, states: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
        """(batch, nodes, d_model), of `links` (batch, nodes, nodes), at least 0."""
        degrees = 1 + links.sum(dim=-1, keepdim=True)
        means = (links @ states.to(links.dtype)) / degrees  # in float32, as the links are
        return torch.relu(self.linear(means.to(states.dtype)))


def associate(states: torch.Tensor, mask: torch.Tensor, photos: int, aspects: int) -> torch.Tensor:
    """The links between nodes (batch, nodes, nodes), float32, in 0..1: the cosines of states, where they are positive.

    Photos' states are linked with aspects and each with itself alone, what is not there with itself alone. As in the
    source's code, no gradient passes through the links.

    Args:
        states: (batch, nodes, d_model).
        mask: (batch, nodes), 1 where there is a node.
        photos: how many of the nodes, the first ones, are photos' states.
        aspects: how many are aspects, behind these.
    """
    units = nn.functional.normalize(states.detach().float(), dim=-1)
    links = (units @ units.transpose(1, 2)).clamp(min=0).float()
    kind = torch.arange(states.shape[1], device=states.device)
    is_photo, is_aspect = kind < photos, (kind >= photos) & (kind < photos + aspects)
    is_text = ~is_photo
    fits = (is_text[:, None] & is_text) | (is_photo[:, None] & is_aspect) | (is_aspect[:, None] & is_photo)
    there = mask.bool()
    links = links * (fits & there[:, :, None] & there[:, None])
    links.diagonal(dim1=1, dim2=2).fill_(1)
    return links


class Aom(VlpMabsa):
    """AoM as a system."""

    config_class = AomConfig

    def __init__(self, config: AomConfig):
        super().__init__(config)
        d_model = config.text_config.d_model
        self.aspect_attention = A3M(d_model)
        self.graph = nn.ModuleList([GraphConvolution(d_model) for _ in range(2)])
        self.post_init()

    def prepare(self, processor) -> None:
        """Takes the names of the schema's attributes for aspects.

        Raises:
            ValueError: if BART has too few positions for them and the longest text.
        """
        names = " ".join(attribute.name for attribute in processor.profile_schema.attributes)
        aspects = processor.tokenizer(names, add_special_tokens=False).input_ids
        check_positions(self.config.text_config, processor, names=len(aspects))
        self.config.aspect_ids = aspects

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
    ) -> FusedEncoderOutput:
        """What the decoder attends to, (batch, nodes, d_model), and its mask."""
        if not self.config.aspect_ids:
            raise ValueError("the model has no aspect_ids yet: call prepare(processor) first")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        aspects = input_ids.new_tensor(self.config.aspect_ids).expand(len(input_ids), -1)
        input_ids = torch.cat([aspects, input_ids], dim=1)
        attention_mask = torch.cat([attention_mask.new_ones(aspects.shape), attention_mask], dim=1)
        encoded: Any = super().encode(input_ids, attention_mask, pixel_values, image_mask)
        states, mask = encoded.last_hidden_state, encoded.attention_mask
        photos, count = states.shape[1] - input_ids.shape[1], aspects.shape[1]
        states = self.aspect_attention(states, states[:, photos : photos + count])
        links, passed = associate(states, mask, photos, count), states
        for layer in self.graph:
            passed = layer(passed, links)
        return FusedEncoderOutput(last_hidden_state=states + GRAPH_SHARE * passed, attention_mask=mask)


def tiny(processor) -> Aom:
    towers = tiny_towers(processor)
    towers["text_config"].max_position_embeddings += 16 * len(processor.profile_schema.attributes)
    return Aom(AomConfig(**towers))


AOM = System(
    name="aom",
    title="AoM without its lexicon and parser",
    about="A BART encoder-decoder reads the states of a ViT, projected, the attributes' names and the text as one"
    " sequence; attention to the names and a graph convolution refine what it has read",
    model_class=Aom,
    tiny=tiny,
    pretrained=Aom.from_towers,
    text_model="facebook/bart-base",
    vision_model="google/vit-base-patch16-224",
    paradigms=("multimodal", "combined"),
)
