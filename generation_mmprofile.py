"""`generate_profiles`: the most probable profile under the schema, from T5's decoder.

A profile's score is the model's plain log-probability of its text, `</s>` included.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, cast

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from .calibration_mmprofile import (
    calibrated,
    check_decision,
    fit_of_views,
    marginal_profile,
    sure_parts,
    thresholds_of,
)
from .configuration_mmprofile import MMProfileConfig, Profile, ProfileSchema
from .fusion_mmprofile import Fusion, join_views
from .processing_mmprofile import max_profile_tokens
from .profile_constraint_mmprofile import AllowedTokens
from .profile_heuristic_mmprofile import SearchLimits
from .profile_predictions_mmprofile import ProfilePrediction
from .profile_prefixes_mmprofile import branch_table
from .profile_search_mmprofile import ProfileSearch
from .profile_trie_mmprofile import ProfileTrie, profile_trie
from .texts_mmprofile import shown
from .tree_decoder_mmprofile import NotFiniteError, TreeDecoder
from .user_views_mmprofile import UserViews, views_of_batch
from .view_weights_mmprofile import view_weights

# A call costs as much again as about 15 to 35 tokens on a CPU, as hundreds on a GPU.
EXPAND_ON_CPU, EXPAND_ON_GPU = 12, 16
EXPAND_ON_CPU_IN_VIEWS = 8  # a token costs as many times as much as a user has views, a call does not
WIDER_WITH_A_PROFILE = 4  # on a GPU: what a call then expands is needed for the proof rather than a guess
# The default bound on a search's tokens, as so many profiles have. It is far: of 250 users of a trained model none
# needs more than 18 for the proof, or 43 for half of the probability mass, and who needs few is not slowed by it.
PROFILES_PER_SEARCH = 64
CACHED_WIDTH = 8192  # on a CPU: rows that search together, times the width of the feed-forward layers


class ProfileGenerationMixin:
    """`generate_profiles` for a model with a `text_model` (T5) and an encoder that returns what its decoder sees."""

    config: MMProfileConfig
    text_model: T5ForConditionalGeneration
    fusion: Fusion
    get_encoder: Callable[..., Any]

    @torch.no_grad()
    def generate_profiles(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        *,
        tokenizer,
        num_return_profiles: int = 5,
        expand_per_call: int | None = None,
        max_calls: int | None = None,
        max_decoder_tokens: float | None = None,
        min_coverage: float = 0.0,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        schema: ProfileSchema | list | None = None,
        output_fusion: bool = False,
        output_vector: bool = False,
        views: Sequence[int] | None = None,
        combination: str | None = None,
        output_view_weights: bool = False,
    ) -> list[ProfilePrediction]:
        """Each user's most probable profile under the schema, and whether it is proved to be that.

        The profile is always a valid one, and by default it is proved, for all but a model that is sure of nothing
        (untrained, or with a large schema): a trained one needs the tokens of some 2 to 18 profiles, and the search
        ends after those of 64. `exact` tells whether it is. Nearer bounds (`max_calls`, `max_decoder_tokens`) make the
        search a beam; `max_decoder_tokens=math.inf` proves it whatever it takes.

        Args:
            input_ids: (batch, seq).
            attention_mask: (batch, seq), 1 where there is a token.
            pixel_values: (batch, images, 3, height, width).
            image_mask: (batch, images), True where there is a photo.
            tokenizer: the one that made the model's labels.
            num_return_profiles: explore at least so many profiles, if the schema has them and the bounds allow it. The
                best one is proved, the runners-up are the best of the others explored.
            expand_per_call: how many prefixes of a user a decoder call expands on the way to a first profile;
                thereafter, when most are needed for the proof, up to four times as many on a GPU. Few suit a CPU,
                where users who need fewer are padded at a cost, many save calls on a GPU; the default follows the
                device.
            max_calls: decoder calls for a user at most; default: no bound.
            max_decoder_tokens: tokens fed to the decoder for a user at most; default: those of 64 profiles.
                `math.inf` for no bound.
            min_coverage: go on until the profiles explored have this share of the schema's probability mass, from 0
                to 1, or the bounds are reached. With 1 and no bound all are explored and `probabilities` are the
                exact marginals.
            encoder_outputs: to skip the encoder; with its `attention_mask`, or with the argument of this name. Of a
                tuple the first is the state (batch, seq, d_model).
            schema: `ProfileSchema`, or its list of attributes; default: the config's.
            output_fusion: tell `image_weights` and `gate` too; `encoder_outputs` are to be made with it as well.
            output_vector: tell `vector` too, of the states that the decoder attends to.
            views: how many rows each user has, which stand one behind the other: parts of a history that the model
                reads one by one. The profile is the most probable one under all of them together, `log_probability`
                and `probabilities` are those of their combination. Default: one each.
            combination: of the views, "product", the mean of their log-probabilities, "mixture", the mean of their
                probabilities, or "states": the decoder attends to all of them at once. Default: the config's.
            output_view_weights: tell `view_weights` too, but of joined states.

        Returns:
            One prediction a user.

        Raises:
            ValueError: if a number is out of range, no input is given, or the encoder's outputs, the tokenizer, the
                mask or the views do not fit.
            NotFiniteError: a ValueError, if the model's logits for some users are not finite, as where they overflow
                in 16 bits. It has the `users`, and the others' `predictions`, with None for these.
        """
        trie = self._trie(schema, tokenizer)
        several = views is not None and any(count != 1 for count in views)
        expand = _expansions(self.text_model.device, expand_per_call, several)
        limits = self._limits(trie, num_return_profiles, expand, max_calls, max_decoder_tokens, min_coverage)
        if encoder_outputs is not None:
            encoded = checked_encoder_outputs(encoder_outputs, self.text_model.config.d_model)
        elif input_ids is None:
            raise ValueError("generate_profiles takes input_ids or encoder_outputs, got neither")
        elif len(input_ids):
            photos = {"pixel_values": pixel_values, "image_mask": image_mask, "output_fusion": output_fusion}
            encoded = self.get_encoder()(input_ids=input_ids, attention_mask=attention_mask, **photos)
        else:
            return []
        mask, state = _mask_of(encoded, attention_mask), encoded["last_hidden_state"]
        of_users = searched = views_of_batch(views, len(state), combination or self.config.combination)
        if not len(state):
            return []
        attended = state, mask
        if of_users.combination == "states":
            attended = join_views(state, mask, torch.from_numpy(of_users.counts))
            searched = UserViews([1] * of_users.users)
        weighed = output_view_weights and of_users.combination != "states"
        predictions, failure = self._search(trie, limits, *attended, searched, weighed)
        if output_fusion and self.fusion.weighs_photos:
            _tell_photo_weights(predictions, encoded, mask, image_mask, of_users)
        if output_vector:
            _tell_vectors(predictions, state, mask, of_users)
        if failure is not None:
            failure.predictions = predictions
            raise failure
        return cast("list[ProfilePrediction]", predictions)  # without a failure none is None

    def profile_users(self, batch: Mapping[str, torch.Tensor], tokenizer, **options) -> list[dict]:
        """Answers for users, as JSON has them; see the function `profile_users`."""
        return profile_users(self, tokenizer, batch, **options)

    def target_losses(self, inputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss of each user's target; see the function `target_losses`."""
        return target_losses(self, inputs, targets)

    def write_profiles(
        self, inputs: Mapping[str, torch.Tensor], processor, num_beams: int, constrained: bool = False
    ) -> list[Profile]:
        """A profile for each user by beam search; see the function `write_profiles`."""
        return write_profiles(self, inputs, processor, num_beams, constrained)

    def _trie(self, schema: ProfileSchema | list | None, tokenizer) -> ProfileTrie:
        """Of the schema, by default the config's; a `ValueError` where the model has not all the tokens."""
        trie = profile_trie(self.config.profile_schema if schema is None else ProfileSchema(schema), tokenizer)
        if trie.largest_token >= self.text_model.config.vocab_size:
            raise ValueError(
                f"the tokenizer writes token {trie.largest_token}, the model's vocabulary has"
                f" {self.text_model.config.vocab_size}"
            )
        return trie

    def _limits(
        self,
        trie: ProfileTrie,
        num_return_profiles: int,
        expand: tuple[int, int],
        max_calls: int | None,
        max_decoder_tokens: float | None,
        min_coverage: float,
    ) -> SearchLimits:
        """Defaults where None is given, `expand` of `_expansions`; a `ValueError` where one is out of range."""
        limits = SearchLimits(
            num_return_profiles,
            *expand,
            inf if max_calls is None else max_calls,
            PROFILES_PER_SEARCH * trie.longest if max_decoder_tokens is None else max_decoder_tokens,
            min_coverage,
        )
        limits.check(trie.longest)
        return limits

    def _search(
        self,
        trie: ProfileTrie,
        limits: SearchLimits,
        state: torch.Tensor,
        mask: torch.Tensor | None,
        views: UserViews,
        weighed: bool = False,
    ) -> tuple[list[ProfilePrediction | None], NotFiniteError | None]:
        """A prediction a user, None where the logits are not finite, and what says so."""
        predictions: list[ProfilePrediction | None] = []
        failure = None
        for users in views.parts(_rows_at_once(self.text_model)):
            rows = slice(None) if len(users) == views.users else torch.from_numpy(views.rows_of(users))
            of_rows, some = None if mask is None else mask[rows], views.of(users)
            found, error = self._search_together(trie, limits, state[rows], of_rows, some, weighed)
            predictions += found
            failure = error or failure
        failed = [user for user, prediction in enumerate(predictions) if prediction is None]
        return predictions, None if failure is None else NotFiniteError(failed, failure.dtype)

    def _search_together(
        self,
        trie: ProfileTrie,
        limits: SearchLimits,
        state: torch.Tensor,
        mask: torch.Tensor | None,
        views: UserViews,
        weighed: bool,
    ) -> tuple[list[ProfilePrediction | None], NotFiniteError | None]:
        """As `_search`, of users who share decoder calls. Where the logits of some are not finite, the search for the
        others begins anew: it happens seldom."""
        table = branch_table(trie, self.text_model.config.decoder_start_token_id)
        predictions: list[ProfilePrediction | None] = [None] * views.users
        left, failure = np.arange(views.users), None
        while len(left):
            rows = slice(None) if len(left) == views.users else torch.from_numpy(views.rows_of(left))
            some, of_rows = views.of(left), None if mask is None else mask[rows]
            decoder = TreeDecoder(self.text_model, state[rows], of_rows, trie.longest, some)
            search = ProfileSearch(table, limits, some)
            try:
                while call := search.select():
                    search.update(call, *decoder(search.prefixes, search.branches, call))
            except NotFiniteError as error:
                left, failure = np.delete(left, error.users), error
                continue
            for user, prediction in zip(left, search.predictions(), strict=True):
                predictions[user] = prediction
            for user, weights in zip(left, view_weights(search) if weighed else [], strict=weighed):
                found: Any = predictions[user]
                found.view_weights = weights
            break
        return predictions, failure


def sum_target_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(batch,), the cross entropies of a user's tokens together: who is in a batch with whom does not change them.

    Args:
        logits: (batch, target, vocabulary).
        labels: (batch, target), -100 where there is none.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), labels.to(logits.device), ignore_index=-100, reduction="none"
    )
    return losses.sum(dim=1)


def target_losses(model, inputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The negative log-likelihood of each user's target (Eq. 4), summed over its tokens.

    Args:
        model: of this package, by any copy of its code.
        inputs: `input_ids`, `attention_mask` (batch, seq) and perhaps `pixel_values`, `image_mask`; or in place of all
            `encoder_outputs` of `encode`.
        targets: `labels` (batch, target), -100 where there is none.

    Returns:
        (batch,), with gradients.
    """
    return sum_target_losses(model(**inputs, labels=targets["labels"]).logits, targets["labels"])


@torch.no_grad()
def write_profiles(
    model, inputs: Mapping[str, torch.Tensor], processor, num_beams: int, constrained: bool = False, start: int = 1
) -> list[Profile]:
    """A profile for each user by beam search: an attribute that was not understood is None.

    Args:
        model, inputs: as of `target_losses`.
        processor: the model's.
        num_beams: at least one.
        constrained: no token is written that no profile of the processor's schema has there.
        start: tokens that `generate` returns before a profile's.
    """
    search: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": max_profile_tokens(processor)}
    if constrained:
        trie = profile_trie(processor.profile_schema, processor.tokenizer)
        search["prefix_allowed_tokens_fn"] = AllowedTokens(trie, processor.tokenizer.pad_token_id, start)
    return processor.decode_profiles(model.generate(**inputs, **search))


def profile_users(
    model,
    tokenizer,
    batch: Mapping[str, torch.Tensor],
    decision: str = "joint",
    min_precision: float | None = None,
    calibrated_as: Sequence[int] | None = None,
    **options,
) -> list[dict]:
    """Profiles of a batch, as JSON has them.

    Unlike `generate_profiles`, whose `probabilities` are the model's own, it tells those of the calibration, see
    `calibrations` of `MMProfileConfig`; `log_probability` and the runners-up stay the model's.

    Args:
        model: on any device; the batch is moved there.
        tokenizer: the processor's.
        batch: as the processor's `pad_users` returns it.
        decision: "joint", the profile that is most probable as a whole, or "marginal", of each attribute the value, or
            values, most probable by themselves: more of them are right, and no proof is of the whole. "weighted" is
            that with each value's probability weighed for more Macro-F1, see `calibrations` of `MMProfileConfig`.
        min_precision: the share of values, above 0 and below 1, that are to be right where one is decided; see
            `calibrations` of `MMProfileConfig`.
        calibrated_as: of each user, the number of views for which the calibration is; default: of those given.
        options: of `generate_profiles`: `num_return_profiles`, `min_coverage`, `max_calls` and others.

    Returns:
        For each user `profile` (attribute key -> value or list of values), its `text`, `log_probability` (None where
        it was decided by marginals and is not among the profiles explored) and whether it is `exact`, proved the most
        probable as a whole; with `min_precision`, `decided`, the profile with None for what is not sure enough, which
        for an attribute that never reaches the precision is always so; `probabilities` (key -> value -> calibrated
        probability, in schema order; an attribute's sum to its count); the share `coverage` of the schema's
        probability mass that the profiles explored have; `runners_up`, each a `profile`, `text` and `log_probability`;
        `image_weights`, the photos' sparsemax attention (Eq. 6) averaged over the text's positions, summing to 1; and
        `gate`, the mean of Eq. 7's gate, see `ProfilePrediction`; with `output_vector` the user's `vector` too. A user
        of whom the model computes what is not finite has an `error` alone, a sentence.

    Raises:
        ValueError: as `generate_profiles`, or if there is no such decision, `min_precision` is out of range, or
            nothing is fitted for it.
    """
    schema, calibrations = _schema_and_calibrations(model.config, options.get("schema"))
    combination = options.get("combination") or getattr(model.config, "combination", "product")
    check_decision(calibrations, combination, decision, min_precision)
    inputs = {name: tensor.to(model.device, non_blocking=True) for name, tensor in batch.items()}
    problem = None
    try:
        predictions = model.generate_profiles(**inputs, tokenizer=tokenizer, output_fusion=True, **options)
    except ValueError as error:
        # Of another copy of the class, where the model is of one.
        predictions, problem = getattr(error, "predictions", None), getattr(error, "problem", None)
        if predictions is None:
            raise
    given = [1] * len(predictions) if options.get("views") is None else options["views"]
    counts = given if calibrated_as is None else calibrated_as
    fit_of = {count: fit_of_views(calibrations, combination, count) for count in set(counts)}
    there = [user for user, found in enumerate(predictions) if found is not None]
    shares = calibrated(schema, [predictions[n].probabilities for n in there], [fit_of[counts[n]] for n in there])
    answers = [{"error": problem} for _ in predictions]
    for user, probabilities in zip(there, shares, strict=True):
        fit = fit_of[counts[user]] or {}
        of_values = fit.get("value_weights") if decision == "weighted" else None
        profile = predictions[user].profile
        if decision != "joint":
            profile = marginal_profile(schema, probabilities, of_values)
        thresholds = None if min_precision is None else thresholds_of(schema, fit, min_precision)
        answers[user] = _answer(predictions[user], schema, profile, probabilities, thresholds)
    return answers


def _schema_and_calibrations(config, asked: ProfileSchema | list | None) -> tuple[ProfileSchema, dict | None]:
    """The schema, and what was fitted for it: nothing for another than the config's, nor for a checkpoint whose own
    code is older."""
    own = config.profile_schema
    if asked is not None and (other := ProfileSchema(asked)) != own:
        return other, None
    return own, getattr(config, "calibrations", None)


def _answer(found, schema, profile, probabilities, thresholds) -> dict:
    explored = [(found.profile, found.log_probability), *found.runners_up]
    others = [(other, score) for other, score in explored if other != profile]
    decided = {} if thresholds is None else {"decided": sure_parts(profile, probabilities, thresholds)}
    answer = {
        "profile": profile,
        **decided,
        "text": schema.render(profile),
        "log_probability": next((score for other, score in explored if other == profile), None),
        "exact": found.exact and profile == found.profile,
        "probabilities": probabilities,
        "coverage": found.coverage,
        "runners_up": [
            {"profile": other, "text": schema.render(other), "log_probability": score} for other, score in others
        ],
        "image_weights": found.image_weights,
        "gate": found.gate,
    }
    vector = getattr(found, "vector", None)  # which a model by an older copy of this code does not tell
    return answer if vector is None else answer | {"vector": vector}


def checked_encoder_outputs(given, d_model: int) -> ModelOutput:
    """What skips the encoder; of a tuple a `BaseModelOutput`, as T5 makes it.

    Raises:
        ValueError: if it has no state (batch, seq, d_model).
    """
    outputs = BaseModelOutput(*given[:3]) if isinstance(given, tuple | list) else given
    state = outputs.get("last_hidden_state") if isinstance(outputs, ModelOutput) else None
    if not isinstance(state, torch.Tensor) or state.ndim != 3 or state.shape[2] != d_model:
        found = f"a state {tuple(state.shape)}" if isinstance(state, torch.Tensor) else shown(given)
        raise ValueError(
            "encoder_outputs are what `encode` returns, or a tuple that begins with the state (batch, seq,"
            f" d_model={d_model}), got {found}"
        )
    return outputs


def _mask_of(encoded: ModelOutput, given: torch.Tensor | None) -> torch.Tensor | None:
    """(batch, seq), of the encoder's states: its own, as concatenated photos lengthen the sequence, or the one given.

    Raises:
        ValueError: if it is of another shape.
    """
    mask, shape = encoded.get("attention_mask", given), encoded["last_hidden_state"].shape[:2]
    if mask is not None and mask.shape != shape:
        raise ValueError(f"the encoder's states are of (batch, seq) {tuple(shape)}, the mask of {tuple(mask.shape)}")
    return mask


def _expansions(device: torch.device, asked: int | None, in_views: bool = False) -> tuple[int, int]:
    """Prefixes a call on the way to a first profile, and thereafter; `in_views` where a user has several."""
    on_cpu = EXPAND_ON_CPU_IN_VIEWS if in_views else EXPAND_ON_CPU
    default, wider = (on_cpu, 1) if device.type == "cpu" else (EXPAND_ON_GPU, WIDER_WITH_A_PROFILE)
    number = default if asked is None else asked
    return number, wider * number


def _rows_at_once(text_model) -> int | None:
    """Of users whose search shares decoder calls: on a CPU as many as have their states in its cache."""
    on_cpu = text_model.device.type == "cpu"
    return max(1, CACHED_WIDTH // text_model.config.d_ff) if on_cpu else None


def _tell_photo_weights(
    predictions: list[ProfilePrediction | None],
    encoded: ModelOutput,
    attention_mask: torch.Tensor | None,
    image_mask: torch.Tensor | None,
    views: UserViews,
) -> None:
    """Over the positions that hold text; of several views those with photos count alike."""
    attentions, gate = encoded.get("image_attentions"), encoded.get("gate")  # (rows, seq, images or d_model)
    if attentions is None:
        for prediction in filter(None, predictions):
            prediction.image_weights = []
        return
    text = attentions.new_ones(attentions.shape[:2]) if attention_mask is None else attention_mask
    text = text.to(attentions.device, torch.float32)
    text = (text / text.sum(dim=1, keepdim=True)).unsqueeze(2)  # each row's sum to 1
    weights = (attentions.float() * text).sum(dim=1).tolist()
    gates = [None] * len(weights)
    if gate is not None:
        gates = (gate.float().mean(dim=2, keepdim=True) * text).sum(dim=(1, 2)).tolist()
    there = image_mask
    if there is None:  # without photos all weights are 0
        there = (attentions.sum(dim=(1, 2)) > 0).unsqueeze(1).expand(-1, attentions.shape[2])
    rows = list(zip(weights, gates, there.bool().tolist(), strict=True))
    ends = views.counts.cumsum()
    for prediction, first, end in zip(predictions, ends - views.counts, ends, strict=True):
        if prediction is None:
            continue
        seeing = [row for row in rows[first:end] if any(row[2])]
        prediction.image_weights = [
            weight / len(seeing)
            for of_view, _, photos in seeing
            for weight, photo in zip(of_view, photos, strict=True)
            if photo
        ]
        means = [mean for _, mean, _ in seeing if mean is not None]
        prediction.gate = sum(means) / len(means) if means else None


def _tell_vectors(
    predictions: list[ProfilePrediction | None], state: torch.Tensor, mask: torch.Tensor | None, views: UserViews
) -> None:
    """The mean over the positions that the mask shows, in 32 bits, and of several views the mean of theirs."""
    state = state.float()
    shown = state.new_ones(state.shape[:2]) if mask is None else mask.to(state.device, torch.float32)
    shares = shown / shown.sum(dim=1, keepdim=True).clamp(min=1)
    rows = (shares.unsqueeze(1) @ state).squeeze(1).cpu().numpy()  # (rows, d_model)
    vectors = np.add.reduceat(rows, views.counts.cumsum() - views.counts) / views.counts[:, None].astype(np.float32)
    for prediction, vector in zip(predictions, vectors.tolist(), strict=True):
        if prediction is not None:
            prediction.vector = vector
