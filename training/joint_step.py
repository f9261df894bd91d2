"""The joint step (section 5 of the paper): a batch -> the losses of all objectives, the same targets for all.

The naive step goes view by view over a system's `target_losses`; the shared step computes once what views have in
common, for systems whose encoder and decoder can be asked apart.

Shapes: batch users, images photos a user, seq text tokens, target label tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmprofile import View, join_padded, join_views
from scoring.evaluation import TARGETS
from training.objectives import blacken

# What the shared step asks of a model.
SHARED = ("get_input_embeddings", "text_features", "fuse", "prepare_decoder_input_ids_from_labels")


@dataclass
class JointOutput:
    """The weighted mean `loss` and each objective's own, by name."""

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]


class JointStep(nn.Module):
    """Turns one batch into the losses of all objectives; this is the module that Accelerate prepares.

    Args:
        model: of a system.
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
                there is none, and perhaps `classes` (batch, values); where rows are views of users, `views` (users,),
                how many each one has, and labels are of users; if any user has a photo, `pixel_values`
                (batch, images, 3, height, width), `image_mask` (batch, images) and, with masked photos, `pixel_mask`
                (batch, images, height, width); with `vision_states`, the tower's of the photos (photos, ...), pixels
                are for masked photos alone; `objectives`, if not all are to be computed, the names of those drawn:
                `loss` is then the plain mean of theirs, since the weights are in the draw.
        """
        drawn = batch.get("objectives")
        names = list(self.views) if drawn is None else drawn
        found = self.losses_of([self.views[name] for name in names], batch)
        losses = dict(zip(names, found, strict=True))
        weights = self.weights if drawn is None else dict.fromkeys(names, 1 / len(names))
        loss: Any = sum(weights[name] * value for name, value in losses.items())
        return JointOutput(loss, losses)

    def losses_of(self, views: Sequence[View], batch: dict) -> list[torch.Tensor]:
        """Of each view the loss, the mean over the batch's target tokens."""
        raise NotImplementedError

    def _pixels(self, name: str, batch: dict) -> torch.Tensor:
        clean = batch["pixel_values"]
        return clean if name == "photos" else blacken(clean, batch["pixel_mask"], self.black)


class NaiveJointStep(JointStep):
    """View by view over the model's `target_losses`: any system trains by it.

    Args:
        model: needs `target_losses`, see `systems.system.SystemModel`.
    """

    def losses_of(self, views: Sequence[View], batch: dict) -> list[torch.Tensor]:
        targets = {name: batch[name] for name in TARGETS if name in batch}
        tokens = (batch["labels"] >= 0).sum()
        return [self.model.target_losses(self.inputs_of(view, batch), targets).sum() / tokens for view in views]

    def inputs_of(self, view: View, batch: dict) -> dict[str, torch.Tensor]:
        """What a view shows of a batch."""
        inputs = dict(batch["texts"][view.text])
        if "views" in batch:
            inputs["views"] = batch["views"]
        if view.photos and "image_mask" in batch:
            inputs |= {"pixel_values": self._pixels(view.photos, batch), "image_mask": batch["image_mask"]}
        return inputs


class SharedJointStep(JointStep):
    """What views share is computed once: each text is encoded once and each set of photos once, all sets in one pass
    of the vision tower; the decoder passes over texts of like length are one.

    Args:
        model: needs what `SHARED` names and `forward(encoder_outputs=, decoder_inputs_embeds=)`; where photos are
            seen, `photo_features`, and `project_states` for batches with such states.
    """

    def losses_of(self, views: Sequence[View], batch: dict) -> list[torch.Tensor]:
        # No sets: their order, and with it the last digits of the gradients, differs from one process to the next.
        embedded, target = self._embed([view.text for view in views], batch)
        texts = {name: self._encode_text(embeds, batch["texts"][name]) for name, embeds in embedded.items()}
        photos = self._encode_photos([view.photos for view in views], batch)
        fused = []
        for view in views:
            attention_mask = batch["texts"][view.text]["attention_mask"]
            features = photos.get(view.photos) if view.photos else None
            output = self.model.fuse(texts[view.text], attention_mask, features, batch.get("image_mask"))
            if "views" in batch:
                states, mask = join_views(output.last_hidden_state, output.attention_mask, batch["views"])
                output.last_hidden_state, output.attention_mask = states, mask
            fused.append(output)
        return self._decode(fused, target, batch["labels"])

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


def joint_step(
    model: nn.Module,
    views: dict[str, View],
    black: torch.Tensor,
    weights: dict[str, float] | None = None,
    in_step: bool = False,
) -> JointStep:
    """The shared step where the model has what it asks for, else the naive one; arguments as of `JointStep`."""
    shares = all(hasattr(model, name) for name in SHARED)
    return (SharedJointStep if shares else NaiveJointStep)(model, views, black, weights, in_step)
