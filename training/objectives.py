"""Unified joint training (section 5 of the paper): several objectives on one batch, the same labels for all.

What the model sees under each objective and paradigm is the table `OBJECTIVES` of the configuration. The corruptions
are random functions of a generator alone, so that a user's views do not depend on the process or the worker that makes
them.

Shapes: batch users, images photos a user, seq text tokens, target label tokens.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mmprofile import OBJECTIVES, PARADIGMS, View, check_objectives, join_padded

SCHEDULES = ("all", "sampled")
TEXT_PARTS = ("reviews", "captions", "masked_captions", "masked_profile")
PHOTO_SETS = ("photos", "masked_photos")
# Letters of scripts that put no blanks between words: Thai, Lao, Tibetan and Burmese; Khmer; kana; ideographs.
UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


def select_views(paradigm: str, objectives: Iterable[str]) -> dict[str, View]:
    """The views of some objectives, in the table's order.

    Raises:
        ValueError: if the paradigm or an objective is unknown, none or one twice is given, or a view of theirs names
            what cannot be shown.
    """
    if paradigm not in PARADIGMS:
        raise ValueError(f"paradigm must be one of {list(PARADIGMS)}, got {paradigm!r}")
    chosen = check_objectives(objectives)
    views = {name: views[paradigm] for name, views in OBJECTIVES.items() if name in chosen}
    for name, view in views.items():
        _check_view(name, view)
    return views


def text_parts(text: str) -> set[str]:
    """The parts of a view's text, of `TEXT_PARTS`."""
    return set(text.split("+"))


def _check_view(objective: str, view: View) -> None:
    parts = text_parts(view.text)
    if not parts <= set(TEXT_PARTS) or not parts & {"reviews", "masked_profile"}:
        raise ValueError(
            f"the text of objective {objective!r} is of {list(TEXT_PARTS)}, joined by '+', the first or the last"
            f" among them, got {view.text!r}"
        )
    if {"captions", "masked_captions"} <= parts:
        raise ValueError(f"objective {objective!r} shows captions masked or as they are, got {view.text!r}")
    if view.photos not in (None, *PHOTO_SETS):
        raise ValueError(f"the photos of objective {objective!r} are None or of {PHOTO_SETS}, got {view.photos!r}")


def check_probability(name: str, value: float) -> float:
    """The value, if it is a probability; else a `ValueError`."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability from 0 to 1, got {value}")
    return value


def mask_captions(captions: Sequence[str], probability: float, mask_token: str, rng: np.random.Generator) -> list[str]:
    """Each word becomes `mask_token` with the given probability (section 5.2); for words count the letters of scripts
    that write none apart."""
    masked = []
    for caption in captions:
        runs = [_words(run) for run in caption.split()]
        hidden = iter(rng.random(sum(map(len, runs))) < probability)
        masked.append(" ".join("".join(mask_token if next(hidden) else word for word in words) for words in runs))
    return masked


def _words(run: str) -> list[str]:
    """The words of a text without blanks: it is one, but for letters of `UNSPACED`, each of which is one by itself.
    Punctuation and vowel signs stay with the letter before them."""
    words = [""]
    for letter in run:
        after_unspaced = UNSPACED.match(words[-1]) and letter.isalnum()
        if words[-1] and (after_unspaced or UNSPACED.match(letter)) and unicodedata.category(letter)[0] != "M":
            words.append("")
        words[-1] += letter
    return words


def mask_profile(keys: Sequence[str], probability: float, rng: np.random.Generator) -> list[str]:
    """The attributes to mask, each with the given probability, at least one (section 5.1)."""
    masked = [key for key, draw in zip(keys, rng.random(len(keys)), strict=True) if draw < probability]
    return masked or [keys[int(rng.integers(len(keys)))]]


def mask_pixels(shape: Sequence[int], probability: float, rng: np.random.Generator) -> torch.Tensor:
    """Which pixels turn black, True with the given probability, of any shape (section 5.1)."""
    return torch.from_numpy(rng.random(shape, dtype=np.float32) < probability)


def blacken(pixel_values: torch.Tensor, pixel_mask: torch.Tensor, black: torch.Tensor) -> torch.Tensor:
    """Photos with their masked pixels black, all channels at once.

    Args:
        pixel_values: (batch, images, channels, height, width), normalised.
        pixel_mask: (batch, images, height, width), True turns black.
        black: (channels,), what normalisation makes of a black pixel: 0 there would be mid-grey.
    """
    black = black.to(pixel_values)[:, None, None]
    return torch.where(pixel_mask[:, :, None], black, pixel_values)


@dataclass
class JointOutput:
    """The weighted mean `loss` and each objective's own, by name."""

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]


class JointTrainingModel(nn.Module):
    """Turns one batch into the losses of all objectives; this is the module that Accelerate prepares.

    What objectives share is computed once: each text is encoded once and each set of photos once, all sets in one pass
    of the vision tower; the decoder passes over texts of like length are one.

    Args:
        model: needs `get_input_embeddings`, `text_features`, `photo_features`, `fuse`,
            `prepare_decoder_input_ids_from_labels` and `forward(encoder_outputs=, decoder_inputs_embeds=)`;
            `project_states` for batches with such states.
        views: of `select_views`.
        black: (channels,), the processor's `black`.
        weights: objective -> its weight in the mean, positive; default: equal.
        in_step: whether all processes have to call the same layers, as where FSDP spreads the weights: then the
            lengths of a process' own texts decide on no pass.

    Raises:
        ValueError: if the weights are not of the views' objectives, or not positive.
    """

    black: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        views: dict[str, View],
        black: torch.Tensor,
        weights: dict[str, float] | None = None,
        in_step: bool = False,
    ):
        super().__init__()
        weights = dict.fromkeys(views, 1.0) if weights is None else weights
        if set(weights) != set(views) or min(weights.values()) <= 0:
            raise ValueError(f"each of {list(views)} needs a weight above 0, got {weights}")
        self.model: Any = model  # of which a checker knows only that it is a module
        self.views = views
        self.in_step = in_step
        self.weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        self.register_buffer("black", black, persistent=False)

    def forward(self, batch: dict) -> JointOutput:
        """The losses of a batch as `batching.JointCollator` makes it.

        Args:
            batch: `texts`, name -> {input_ids, attention_mask} (batch, seq); `labels` (batch, target), -100 where
                there is none; if any user has a photo, `pixel_values` (batch, images, 3, height, width),
                `image_mask` (batch, images) and, with masked photos, `pixel_mask` (batch, images, height, width);
                with `vision_states`, the tower's of the photos (photos, ...), pixels are for masked photos alone;
                `objectives`, if not all are to be computed, the names of those drawn: `loss` is then the plain mean
                of theirs, since the weights are in the draw.
        """
        drawn = batch.get("objectives")
        names = list(self.views) if drawn is None else drawn
        views = [self.views[name] for name in names]
        # No sets: their order, and with it the last digits of the gradients, differs from one process to the next.
        embedded, target = self._embed([view.text for view in views], batch)
        texts = {name: self._encode_text(embeds, batch["texts"][name]) for name, embeds in embedded.items()}
        photos = self._encode_photos([view.photos for view in views], batch)
        fused = []
        for view in views:
            attention_mask = batch["texts"][view.text]["attention_mask"]
            features = photos.get(view.photos) if view.photos else None
            fused.append(self.model.fuse(texts[view.text], attention_mask, features, batch.get("image_mask")))
        losses = dict(zip(names, self._decode(fused, target, batch["labels"]), strict=True))
        weights = self.weights if drawn is None else dict.fromkeys(names, 1 / len(names))
        loss: Any = sum(weights[name] * value for name, value in losses.items())
        return JointOutput(loss, losses)

    def _embed(self, names: list[str], batch: dict) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Each text's embeddings and the decoder's (batch, target, d_model), looked up at once.

        The gradient of a lookup is as large as the vocabulary, however few the tokens: it is made and added up once.
        """
        texts = {name: batch["texts"][name]["input_ids"] for name in dict.fromkeys(names)}
        ids = [*texts.values(), self.model.prepare_decoder_input_ids_from_labels(batch["labels"])]
        embeds = self.model.get_input_embeddings()(torch.cat([part.flatten() for part in ids]))
        parts = embeds.split([part.numel() for part in ids])
        *embedded, target = (states.view(*part.shape, -1) for states, part in zip(parts, ids, strict=True))
        return dict(zip(texts, embedded, strict=True)), target

    def _encode_text(self, embeds: torch.Tensor, text: dict) -> torch.Tensor:
        features = self.model.text_features(inputs_embeds=embeds, attention_mask=text["attention_mask"])
        return features.last_hidden_state

    def _encode_photos(self, names: list[str | None], batch: dict) -> dict[str, torch.Tensor]:
        """The features of each set of photos, if there are any, by one pass of the vision tower over all sets."""
        image_mask, features = batch.get("image_mask"), {}
        if image_mask is None:
            return features
        sets = [name for name in dict.fromkeys(names) if name]
        if "vision_states" in batch and "photos" in sets:
            features["photos"] = self.model.project_states(batch["vision_states"], image_mask)
            sets.remove("photos")
        if sets:
            pixels = torch.cat([self._pixels(name, batch) for name in sets])
            parts = self.model.photo_features(pixels, image_mask.repeat(len(sets), 1)).chunk(len(sets))
            features |= zip(sets, parts, strict=True)
        return features

    def _pixels(self, name: str, batch: dict) -> torch.Tensor:
        clean = batch["pixel_values"]
        return clean if name == "photos" else blacken(clean, batch["pixel_mask"], self.black)

    def _decode(self, fused: list, target: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """One decoder pass for all objectives with long texts, and one for those with short ones, unless the processes
        have to pass through the model's layers together."""
        lengths = [output.last_hidden_state.shape[1] for output in fused]
        # Padded to 600 tokens, a masked profile of 50 would cost the decoder as much as the reviews.
        is_short = [2 * length <= max(lengths) and not self.in_step for length in lengths]
        losses: dict[int, torch.Tensor] = {}
        for short in sorted(set(is_short)):
            chosen = [number for number, it_is in enumerate(is_short) if it_is == short]
            found = self._decode_group([fused[number] for number in chosen], target, labels)
            for number, loss in zip(chosen, found, strict=True):
                losses[number] = loss
        return [losses[number] for number in range(len(fused))]

    def _decode_group(self, fused: list, target: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """One decoder pass, the encoder outputs padded to the longest."""
        states = join_padded([output.last_hidden_state for output in fused])
        masks = join_padded([output.attention_mask for output in fused])
        logits = self.model(
            encoder_outputs=(states,),
            attention_mask=masks,
            decoder_inputs_embeds=target.repeat(len(fused), 1, 1),
            use_cache=False,
        ).logits  # (objectives * batch, target, vocabulary)
        return [
            nn.functional.cross_entropy(part.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
            for part in logits.chunk(len(fused))
        ]
