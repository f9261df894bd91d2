"""How photos join a text: `FUSIONS`, by the names that `MMProfileConfig.fusion` takes, and what comes out.

Shapes, throughout:
    batch   users
    seq     text tokens
    states  visual states a user, padded; `visual_mask` (batch, states) is True where there is one
    d_model width of T5
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput


@dataclass
class FusedEncoderOutput(BaseModelOutput):
    """What the decoder attends to.

    Args:
        last_hidden_state: H_fused (batch, seq, d_model); with `fusion="concat"` (batch, seq + states, d_model).
        attention_mask: (batch, seq or seq + states), 1 where the decoder may look.
        image_attentions: weights of the text-guided attention (batch, seq, images), if asked for; a row sums to 1,
            or is 0 for a user without photos.
        gate: the gate of Eq. 7 (batch, seq, d_model) in -1..1, if asked for; without photos there is one too, and
            nothing for it to let in.
    """

    attention_mask: torch.Tensor | None = None
    image_attentions: torch.Tensor | None = None
    gate: torch.Tensor | None = None


@dataclass
class MMProfileOutput(Seq2SeqLMOutput):
    """`Seq2SeqLMOutput` with `image_attentions` and `gate` of `FusedEncoderOutput`."""

    image_attentions: torch.Tensor | None = None
    gate: torch.Tensor | None = None


def join_views(
    state: torch.Tensor, mask: torch.Tensor | None, views: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of each user's views one behind the other, without the padding between them: what a decoder attends
    to that reads all of them at once (fusion-in-decoder). It costs what the rows cost, however many a user has.

    Args:
        state: (rows, seq, d_model); a user's rows stand one behind the other.
        mask: (rows, seq), 1 where there is a state; None: everywhere.
        views: (users,), how many rows each has.

    Returns:
        (users, joined seq, d_model), padded on the right with 0, and its mask (users, joined seq).
    """
    mask = (
        torch.ones(state.shape[:2], dtype=torch.long, device=state.device) if mask is None else mask.to(state.device)
    )
    if len(views) == len(state):
        return state, mask
    there, views = mask.bool(), views.to(state.device)
    owner = torch.arange(len(views), device=state.device).repeat_interleave(views)[:, None].expand_as(there)[there]
    lengths = torch.bincount(owner, minlength=len(views))
    place = torch.arange(len(owner), device=state.device) - (lengths.cumsum(0) - lengths)[owner]
    longest = int(lengths.max())
    joined = state.new_zeros(len(views), longest, state.shape[2]).index_put((owner, place), state[there])
    return joined, (torch.arange(longest, device=state.device) < lengths[:, None]).to(mask.dtype)


def sparsemax(scores: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Euclidean projection of each row of scores onto the probability simplex (Martins and Astudillo, 2016).

    Args:
        scores: (..., n).
        mask: boolean, broadcastable to scores; False gets weight exactly 0.

    Returns:
        (..., n), rows sum to 1; a row with nothing unmasked is all 0.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    shifted = scores - scores.amax(dim=-1, keepdim=True)
    descending = shifted.sort(dim=-1, descending=True).values
    rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
    excess = descending.cumsum(dim=-1) - 1
    support = (rank * descending > excess).sum(dim=-1, keepdim=True).clamp(min=1)  # of NaN none is greater
    threshold = excess.gather(-1, support - 1) / support
    weights = (shifted - threshold).clamp(min=0)
    return weights if mask is None else weights * mask


class TGA(nn.Module):
    """Text-guided attention of Eq. 6: each text position attends to the user's photos, weights by sparsemax, one head.

    Its name does not end in Attention: transformers takes such a class for one that lacks its attention interface, and
    then sets no implementation on the towers, which have it.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, text: torch.Tensor, visual: torch.Tensor, visual_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        query, key, value = self.query(text), self.key(visual), self.value(visual)
        # Scaled before the product, which 16 bits may not hold.
        scores = query * key.shape[-1] ** -0.5 @ key.transpose(-1, -2)  # (batch, seq, states)
        # Half precision has too few digits for the threshold's running sum.
        precise = torch.promote_types(scores.dtype, torch.float32)
        weights = sparsemax(scores.to(precise), visual_mask[:, None]).to(value.dtype)
        return self.output(weights @ value), weights


class Fusion(nn.Module):
    """What a fusion is. A user without photos keeps H_txt to the bit, whatever the others of the batch have.

    Args:
        text_config: T5's, for its sizes and its dropout.

    Attributes:
        weighs_photos: whether `image_attentions` come out.
    """

    weighs_photos = False

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__()

    def forward(
        self, text: torch.Tensor, attention_mask: torch.Tensor, visual: torch.Tensor, visual_mask: torch.Tensor
    ) -> FusedEncoderOutput:
        """H_fused.

        Args:
            text: H_txt (batch, seq, d_model).
            attention_mask: (batch, seq), 1 where there is a token.
            visual: H_img (batch, states, d_model), at least one state; 0 where there is none.
            visual_mask: (batch, states), boolean.

        Returns:
            With `image_attentions` of each state, (batch, seq, states), and `gate`, where there are any; and with its
            `attention_mask`, where that is not the text's.
        """
        raise NotImplementedError

    def soften(self) -> None:
        """Called once on fresh weights beside a pre-trained T5, which is to start out nearly as it was."""


class ConcatFusion(Fusion):
    """Eq. 3, the paper's basic model: [H_txt; H_img]."""

    def forward(self, text, attention_mask, visual, visual_mask) -> FusedEncoderOutput:
        return FusedEncoderOutput(
            last_hidden_state=torch.cat([text, visual], dim=1),
            attention_mask=torch.cat([attention_mask, visual_mask.to(attention_mask.dtype)], dim=1),
        )


class GatedFusion(Fusion):
    """Eq. 6 to 8: H_fused = H_txt + tanh(W_T H_txt + W_I H_img') * H_img', H_img' = FFN(TGA(H_txt, H_img, H_img)).

    Nothing here has a bias, so a user without photos has H_img' = 0 and keeps H_txt to the bit: IF(img) of Eq. 8.
    """

    weighs_photos = True

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__(text_config)
        d_model, d_ff = text_config.d_model, text_config.d_ff
        self.attention = TGA(d_model)
        self.ffn_in = nn.Linear(d_model, d_ff, bias=False)
        self.ffn_out = nn.Linear(d_ff, d_model, bias=False)
        self.gate_text = nn.Linear(d_model, d_model, bias=False)
        self.gate_image = nn.Linear(d_model, d_model, bias=False)
        self.dropout = nn.Dropout(text_config.dropout_rate)

    def forward(self, text, attention_mask, visual, visual_mask) -> FusedEncoderOutput:
        attended, weights = self.attention(text, visual, visual_mask)
        image = self.ffn_out(self.dropout(torch.relu(self.ffn_in(attended))))  # (batch, seq, d_model)
        gate = self.gate(text, image)
        fused = text + gate * self.dropout(image)
        return FusedEncoderOutput(fused, image_attentions=weights, gate=gate)

    def gate(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Eq. 7, of H_txt and H_img'; all are (batch, seq, d_model)."""
        return torch.tanh(self.gate_text(text) + self.gate_image(image))

    def soften(self) -> None:
        self.ffn_out.weight.data.mul_(0.1)


FUSIONS: dict[str, type[Fusion]] = {"gated": GatedFusion, "concat": ConcatFusion}


class FusingEncoder(nn.Module):
    """What `generate` takes for the encoder: `encode` of a model, which it does not own. It names its arguments, as
    `generate` would else give it the decoder's too, and labels.

    Raises:
        ValueError: if there are views: `generate` has a row for each of the input's, and of users there are fewer.
    """

    def __init__(self, encode: Callable[..., FusedEncoderOutput]):
        super().__init__()
        self._encode = encode

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_fusion: bool = False,
        views: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> FusedEncoderOutput:
        if views is not None:
            raise ValueError(
                "generate takes users' views joined, encoder_outputs=model.encode(..., views=views) with its"
                " attention_mask; generate_profiles takes them by number"
            )
        return self._encode(
            input_ids,
            attention_mask,
            pixel_values,
            image_mask,
            inputs_embeds,
            output_fusion,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
