"""Whether the weights that are shown beside a profile tell what it rests on: a deletion test (the comprehensiveness of
DeYoung et al., 2020, against a random deletion).

Of each user that photo is taken away which has most weight, and in its place another one, drawn at random; the same
for views. Weights are faithful where the profile that was written becomes less probable without the first than without
the second.

Shapes, throughout:
    users  of a batch
    rows   of a batch, each a view; those of a user stand one behind the other
    views  of the user who has most; who has fewer is padded
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from mmprofile import ATTRIBUTE_SEPARATOR, FusedEncoderOutput, Profile, UserViews, join_views
from prediction.linear import fast_linears
from scoring.bootstrap import mean_intervals
from scoring.evaluation import TARGETS

USERS, HISTORY_USERS = 250, 30  # of a split, the first ones; a whole history takes many views, and these a search each
FEWEST = 30  # of fewer users the bootstrap's interval is too narrow
EXPLORED = 10  # profiles of a search at least, among which a profile is so probable
ROWS = 64  # whose logits over the vocabulary are held at once
DELETIONS = ("top", "random")
READ_BY = ("text_features", "photo_features", "fuse", "generate_profiles")  # of a model that tells weights


def deletion_test(model, loader, processor, accelerator: Accelerator, name: str, seed: int = 0) -> dict[str, dict]:
    """How much less probable the profile that a model writes becomes, without the photo or the view that has most
    weight and without another one, over all processes.

    A photo is one of those of all the user's views, its weight `ProfilePrediction.image_weights`. It is masked in all
    its pixels; its caption stays. Measured is the natural logarithm of the profile's probability under the user's
    views together, as `log_probability` has it. A view's weight is `view_weights`; measured is the logarithm of the
    profile's probability among the profiles that a search explores, with all views or by another search without that
    view.

    Args:
        model: the bare model of a system, see `systems.system`; it is left in evaluation mode. One that tells no
            weights has nothing to test.
        loader: batches of `training.batching.EvaluationCollator`, prepared by the accelerator; of all its users.
        processor: `MMProfileProcessor`.
        accelerator: gathers the users of all processes, each once.
        name: for the progress bar.
        seed: of the random deletions. Which one it is depends on the user's text, and not on the others of the batch.

    Returns:
        For "photos" and "views", as far as a user has two of them: `users`, how many have; `top` and `random`, the
        mean falls in nats; their `difference` and its 95 % `interval` over users; `more`, the share of users with whom
        the first is the larger; `faithful`, whether the interval is above 0, None where there are too few users to
        say. Of photos `attributes` too, where the tokenizer tells tokens' places: key -> `top` and `random`, of the
        attribute's part of the text behind the parts before it; they add up to the whole's.
    """
    model.eval()
    if not all(hasattr(model, method) for method in READ_BY):
        return {}
    rows: list[dict] = []
    for batch in tqdm(loader, desc=name, leave=False, disable=not accelerator.is_local_main_process):
        inputs = {key: tensor.to(model.device) for key, tensor in batch.items() if key not in TARGETS}
        with torch.no_grad(), fast_linears(model.device):
            found = _falls_of_batch(_Batch(model, processor, inputs), seed)
        rows += accelerator.gather_for_metrics(found, use_gather_object=True)
    parts = {part: [row[part] for row in rows if row.get(part)] for part in ("photos", "views")}
    return {part: summarise_falls(falls) for part, falls in parts.items() if falls}


def summarise_falls(users: Sequence[Mapping[str, Mapping[str, float]]]) -> dict:
    """What `deletion_test` returns of photos or views.

    Args:
        users: of each for "top" and "random" how far the parts of the logarithm fell: attribute key -> nats; or "" of
            what is not known by attribute.
    """
    keys = list(users[0]["top"])
    falls = np.array([[[user[kind][key] for key in keys] for kind in DELETIONS] for user in users])  # (users, 2, keys)
    top, random = falls.sum(axis=2).T
    (ends,) = mean_intervals((top - random)[:, None])
    found = {
        "users": len(users),
        "top": float(top.mean()),
        "random": float(random.mean()),
        "difference": float((top - random).mean()),
        "interval": ends,
        "more": float((top > random).mean()),
        "faithful": ends[0] > 0 if len(users) >= FEWEST else None,
    }
    if keys != [""]:
        means = falls.mean(axis=0).T.tolist()
        found["attributes"] = {
            key: dict(zip(DELETIONS, mean, strict=True)) for key, mean in zip(keys, means, strict=True)
        }
    return found


class _Batch:
    """Users who are read again and again with less: what does not change is computed once.

    Attributes:
        ids, text_mask: (rows, seq).
        image_mask: (rows, images); None without photos.
        views: of the users.
        weighs_photos, weighs_views: which weights are told; of none there is nothing to test.
    """

    def __init__(self, model, processor, inputs: Mapping[str, torch.Tensor]):
        self.model, self.processor = model, processor
        self.ids, self.text_mask = inputs["input_ids"], inputs["attention_mask"]
        counts = inputs["views"].tolist() if "views" in inputs else [1] * len(self.ids)
        self.views = UserViews(counts, getattr(model.config, "combination", "product"))
        self.image_mask, self._photos = inputs.get("image_mask"), None
        self.weighs_photos = self.image_mask is not None and model.fusion.weighs_photos
        self.weighs_views = self.views.most > 1 and self.views.combination != "states"
        if not (self.weighs_photos or self.weighs_views):
            return
        self._text = model.text_features(self.ids, self.text_mask).last_hidden_state
        if self.image_mask is not None:
            self._photos = model.photo_features(inputs["pixel_values"], self.image_mask)
        self._encoded = self._encode(np.arange(len(self.ids)), self.image_mask, output_fusion=True)

    def rows(self, user: int) -> np.ndarray:
        return self.views.rows_of(np.array([user]))

    def generator(self, user: int, *seed: int) -> np.random.Generator:
        """Of what the user wrote, without padding."""
        texts = [self.ids[row][self.text_mask[row] > 0].cpu().numpy().tobytes() for row in self.rows(user)]
        return np.random.default_rng([*seed, zlib.crc32(b"".join(texts))])

    def search(self) -> list:
        """A prediction a user, with weights; None of whom the logits are not finite."""
        options: dict[str, Any] = {"output_view_weights": True} if self.weighs_views else {}
        if self.weighs_photos:
            options |= {"output_fusion": True, "image_mask": self.image_mask}
        return self._search(self._encoded, self.views, **options)

    def search_without(self, rows: np.ndarray, views: UserViews) -> list:
        """Likewise of some users, of whom these rows are left."""
        at = torch.from_numpy(rows)
        state, mask = self._encoded.last_hidden_state, self._encoded.attention_mask
        return self._search(FusedEncoderOutput(last_hidden_state=state[at], attention_mask=mask[at]), views)

    def scores(self, users: np.ndarray, image_mask: torch.Tensor | None, label: "_Labels") -> np.ndarray:
        """(these users, views, parts), the logarithm of the probability of each one's label up to the end of each
        part; of joined states there is one view."""
        some, rows = self.views.of(users), self.views.rows_of(users)
        encoded: Any = self._encode(rows, image_mask)
        state, mask = encoded.last_hidden_state, encoded.attention_mask
        if some.combination == "states":
            state, mask = join_views(state, mask, torch.from_numpy(some.counts))
            some = UserViews([1] * some.users)
        owner, view = np.nonzero(some.there)
        of_rows = users[owner]
        values = _log_probabilities(self.model, state, mask, label.ids[torch.from_numpy(of_rows)])
        found = np.zeros((some.users, some.most, label.parts))
        for part in range(label.parts):
            found[owner, view, part] = np.where(label.part_of[of_rows] <= part, values, 0).sum(axis=1)
        return found

    def _encode(self, rows: np.ndarray, image_mask: torch.Tensor | None, **options) -> Any:
        """What the model's `encode` returns of some rows, with the photos that this mask (rows, images) leaves."""
        at = torch.from_numpy(rows)
        photos = None if self._photos is None else self._photos[at]
        mask = None if image_mask is None else image_mask[at]
        return self.model.fuse(self._text[at], self.text_mask[at], photos, mask, **options)

    def _search(self, encoded: Any, views: UserViews, **options) -> list:
        if self.views.most > 1:  # code from before there were views need not know them
            options["views"] = views.counts.tolist()
        if self.weighs_views:
            options["num_return_profiles"] = EXPLORED
        try:
            tokenizer = self.processor.tokenizer
            return self.model.generate_profiles(encoder_outputs=encoded, tokenizer=tokenizer, **options)
        except ValueError as error:  # of any copy of the model's code
            predictions = getattr(error, "predictions", None)
            if predictions is None:
                raise
            return predictions


class _Labels:
    """The profiles written.

    Attributes:
        ids: (users, target), -100 where there is none.
        part_of: (users, target), to which part of the text a token belongs: to which attribute, where the tokenizer
            tells.
        keys: of the parts; "" of the whole.
    """

    def __init__(self, processor, profiles: Sequence[Profile]):
        schema, tokenizer = processor.profile_schema, processor.tokenizer
        self.ids = processor.encode_targets(profiles)
        self.part_of, self.keys = np.zeros(self.ids.shape, np.int64), [""]
        if not tokenizer.is_fast:
            return
        self.keys = list(schema.keys)
        for row, text in enumerate(map(schema.render, profiles)):
            ends = np.cumsum([len(part) + len(ATTRIBUTE_SEPARATOR) for part in text.split(ATTRIBUTE_SEPARATOR)])
            # What stands between two attributes is of the first. Behind the text there is `</s>`, of no place.
            first = [start for start, _ in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
            self.part_of[row, : len(first)] = np.maximum.accumulate(np.searchsorted(ends, first, side="right"))

    @property
    def parts(self) -> int:
        return len(self.keys)


def _log_probabilities(model, state: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(rows, target), of each token of the labels behind those before it; 0 where there is none."""
    found = []
    parts = (tensor.split(ROWS) for tensor in (state, mask, labels.to(state.device)))
    for of_state, of_mask, of_labels in zip(*parts, strict=True):
        encoded = FusedEncoderOutput(last_hidden_state=of_state, attention_mask=of_mask)
        logits = model(encoder_outputs=encoded, attention_mask=of_mask, labels=of_labels).logits
        of_labels = of_labels.to(logits.device)
        values = logits.float().log_softmax(dim=-1).gather(2, of_labels.clamp(min=0)[..., None])[..., 0]
        found.append(values.masked_fill(of_labels < 0, 0).cpu())
    return torch.cat(found).double().numpy()


def _falls_of_batch(batch: _Batch, seed: int) -> list[dict]:
    """Of each user what `summarise_falls` takes of "photos" and of "views", as far as there are two."""
    if not (batch.weighs_photos or batch.weighs_views):
        return [{} for _ in range(batch.views.users)]
    predictions = batch.search()
    answered = [prediction for prediction in predictions if prediction is not None]
    found: list[dict] = [{} for _ in predictions]
    if answered:
        labels = _Labels(batch.processor, [(prediction or answered[0]).profile for prediction in predictions])
        whole = batch.scores(np.arange(len(predictions)), batch.image_mask, labels)
        _add_photo_falls(found, batch, predictions, labels, whole, seed)
        _add_view_falls(found, batch, predictions, whole[:, :, -1], seed)
    return found


def _add_photo_falls(found, batch: _Batch, predictions: Sequence, labels: _Labels, whole: np.ndarray, seed: int):
    """`whole` (users, views, parts), of `_Batch.scores`."""
    if not batch.weighs_photos or batch.image_mask is None:
        return
    chosen = {}
    for user, prediction in enumerate(predictions):
        rows = batch.rows(user)
        # (photos, 2), row and place of each, in the order of the weights.
        photos = np.argwhere(batch.image_mask[torch.from_numpy(rows)].cpu().numpy())
        if prediction is not None and len(photos) > 1:
            pair = _top_and_random(prediction.image_weights, batch.generator(user, seed, 0))
            chosen[user] = np.stack([rows[photos[pair, 0]], photos[pair, 1]], axis=1)
    if not chosen:
        return
    users = np.array(list(chosen))
    before = _combined(batch.views.of(users), whole[users])
    for place, kind in enumerate(DELETIONS):
        image_mask = batch.image_mask.clone()
        for photos in chosen.values():
            image_mask[tuple(photos[place])] = False
        after = _combined(batch.views.of(users), batch.scores(users, image_mask, labels))
        falls = np.diff(before - after, axis=1, prepend=0)
        for user, of_user in zip(chosen, falls.tolist(), strict=True):
            found[user].setdefault("photos", {})[kind] = dict(zip(labels.keys, of_user, strict=True))


def _add_view_falls(found, batch: _Batch, predictions: Sequence, whole: np.ndarray, seed: int) -> None:
    """`whole` (users, views), of `_Batch.scores`."""
    chosen = {
        user: _top_and_random(prediction.view_weights, batch.generator(user, seed, 1))
        for user, prediction in enumerate(predictions)
        if batch.weighs_views and prediction is not None and batch.views.counts[user] > 1
    }
    if not chosen:
        return
    users = np.array(list(chosen))
    some, fewer = batch.views.of(users), UserViews(batch.views.counts[users] - 1, batch.views.combination)
    before = _combined(some, whole[users, :, None])[:, 0]
    for place, kind in enumerate(DELETIONS):
        rows = [np.delete(batch.rows(user), pair[place]) for user, pair in chosen.items()]
        # A view behind the one removed takes its place; padding stays behind all.
        left = np.stack([np.delete(whole[user], pair[place]) for user, pair in chosen.items()])
        after = _combined(fewer, left[:, :, None])[:, 0]
        searched = batch.search_without(np.concatenate(rows), fewer)
        for number, user in enumerate(chosen):
            own = predictions[user]
            fall = _log_share(own, own.profile, before[number]) - _log_share(
                searched[number], own.profile, after[number]
            )
            found[user].setdefault("views", {})[kind] = {"": fall}


def _top_and_random(weights: Sequence[float], generator: np.random.Generator) -> list[int]:
    """The place of the highest weight, the first of equals, and one of the others."""
    top = int(np.argmax(weights))
    other = int(generator.integers(len(weights) - 1))
    return [top, other + (other >= top)]


def _combined(views: UserViews, scores: np.ndarray) -> np.ndarray:
    """(users, parts), of the logarithms under each view (users, views, parts)."""
    if scores.shape[1] == 1:  # one view each, or joined states
        return scores[:, 0]
    users = np.arange(views.users)
    return np.stack([views.combined(users, part[:, : views.most]) for part in np.moveaxis(scores, 2, 0)], axis=1)


def _log_share(prediction, profile: Profile, score: float) -> float:
    """The logarithm of a profile's share among those that a search explored, and itself; its score is its own."""
    explored = [(prediction.profile, prediction.log_probability), *prediction.runners_up]
    others = [other_score for other, other_score in explored if other != profile]
    return float(score - np.logaddexp.reduce([score, *others]))
