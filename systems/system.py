"""What train.py, its evaluation and predict.py ask of a system, and nothing else of which system it is.

Shapes, throughout:
    batch   users
    seq     text tokens
    images  photos a user, padded; `image_mask` (batch, images) is True where there is one
    target  tokens of a profile's text and `</s>`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmprofile import AllowedTokens, Profile, ProfileSchema, profile_trie, sum_target_losses, write_profiles

Inputs = Mapping[str, torch.Tensor]
EXPLORED = 5  # profiles of a user that predict.py explores, at least


@dataclass(frozen=True)
class System:
    """How a system is called, and how its model begins.

    Args:
        name: of `--system`, of `baselines.table.SYSTEMS`, and in a checkpoint's configuration.
        title: what tables and model cards call it, e.g. "Flan-T5".
        about: for the model card, how it works: "A T5 encoder-decoder reads the text"; "" where the card says more.
        model_class: a `PreTrainedModel` with `target_losses` and `write_profiles`, which loads its own checkpoints.
        tiny: (processor of `presets.tiny_processor`, options of `takes` by name) -> a small model of random weights.
        pretrained: (text_model, vision_model, options of `takes` by name) -> a model of these checkpoints' weights.
        text_model: the Hub name that `--text_model` stands for where it is not given.
        vision_model: likewise; None for a system that has no vision tower of its own.
        paradigms: of section 5 that it can be trained by, its own first: "unimodal" alone for one that sees no photo.
        takes: flags of a new model that it knows beside the towers, of `fusion` and `vision_feature`.
        needs_classes: whether its targets are `classes` too, see `target_classes`.
        reads_views: whether it reads a whole history, in several views of which it makes one profile; its
            configuration then has `view_reviews` and `combination`.
    """

    name: str
    title: str
    about: str
    model_class: Any
    tiny: Callable[..., Any]
    pretrained: Callable[..., Any]
    text_model: str
    vision_model: str | None = None
    paradigms: tuple[str, ...] = ("unimodal",)
    takes: tuple[str, ...] = ()
    needs_classes: bool = False
    reads_views: bool = False

    @property
    def own_paradigm(self) -> str:
        """That which it is trained by where none is asked for."""
        return self.paradigms[0]

    @property
    def sees_photos(self) -> bool:
        """Whether it ever can."""
        return self.paradigms != ("unimodal",)

    def check_paradigm(self, paradigm: str) -> str:
        """The paradigm, if the system can be trained by it; else a `ValueError` that names both."""
        if paradigm not in self.paradigms:
            raise ValueError(f"{self.name} is trained by the paradigms {list(self.paradigms)}, got {paradigm!r}")
        return paradigm


class SystemModel:
    """What a baseline's model has beside its two methods, for a `PreTrainedModel` that stands behind it in the bases:

        class Bart(SystemModel, BartForConditionalGeneration): ...

    The configuration has `system`, `profile_schema` (a list), `paradigm` and `objectives`, as JSON has them.
    """

    config: Any
    generation_config: Any
    generate: Callable[..., Any]
    companions = ("requirements.txt", "LICENSE")  # files beside its checkpoints
    trained_whole: tuple[str, ...] = ()  # what joins the towers, by name, where the model has no `text_model`

    def prepare(self, processor) -> None:
        """Takes from the processor what the model needs beside its weights, into its configuration, once, before
        training; by default nothing."""

    def target_losses(self, inputs: Inputs, targets: Inputs) -> torch.Tensor:
        """The loss of each user's target, summed over what it is made of (Eq. 4: the tokens of a profile).

        Args:
            inputs: of one view: `input_ids`, `attention_mask` (batch, seq), padded on the right; where a user has a
                photo and the view shows it, `pixel_values` (batch, images, 3, height, width), normalised, and
                `image_mask`.
            targets: `labels` (batch, target), -100 where there is none; where `System.needs_classes`, `classes`
                (batch, values) too, see `target_classes`.

        Returns:
            (batch,), with gradients.
        """
        raise NotImplementedError

    def write_profiles(self, inputs: Inputs, processor, num_beams: int, constrained: bool = False) -> list[Profile]:
        """A profile for each user, as the processor reads it: None for what was not understood.

        Args:
            inputs: as of `target_losses`.
            processor: the model's `MMProfileProcessor`.
            num_beams: of the beam search, where there is one.
            constrained: write no token that no profile of the schema has there.
        """
        raise NotImplementedError

    def explore_profiles(self, inputs: Inputs, tokenizer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The most probable profiles of each user that a beam search within the schema finds.

        Returns:
            Token ids (batch, number, seq) from the first of a profile on, and log-probabilities (batch, number), the
            highest first.
        """
        raise NotImplementedError

    @property
    def profile_schema(self) -> ProfileSchema:
        return ProfileSchema(self.config.profile_schema)

    def check_bounds(self, bounds: Mapping) -> None:
        """Raises a `ValueError` where `profile_users` would not take these bounds of `generate_profiles`."""
        if bounds.get("output_vector"):
            system = self.config.system
            raise ValueError(
                f"--vectors true asks for the mean of mmprofile's fused states, which {system} does not have"
            )
        taken = ("num_return_profiles", "output_fusion", "output_vector")
        given = {name: value for name, value in bounds.items() if value and name not in taken}
        if given:
            system = self.config.system
            raise ValueError(
                f"the bounds {given} are of mmprofile's search for profiles, which {system} does not make"
            )

    def profile_users(self, batch: Inputs, tokenizer, num_return_profiles: int = EXPLORED, **bounds) -> list[dict]:
        """Answers for users as of `mmprofile.profile_users`, by `explore_profiles`: `exact` is False, and
        `probabilities` are shares among the profiles explored.

        Raises:
            ValueError: if there is one of the other bounds of `generate_profiles`.
        """
        self.check_bounds(bounds)
        schema, inputs = self.profile_schema, to_device(batch, self)
        with torch.no_grad():
            tokens, scores = self.explore_profiles(inputs, tokenizer, num_return_profiles)
        answers = []
        for rows, logs in zip(tokens.tolist(), scores.float().tolist(), strict=True):
            texts = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            explored: dict[str, tuple[Profile, float]] = {}
            for text, log in zip(texts, logs, strict=True):  # beams of a schema with few profiles may be alike
                profile = schema.parse(text, strict=False)
                if None not in profile.values() and log > -torch.inf:
                    explored.setdefault(schema.render(profile), (profile, log))
            answers.append(answer(schema, list(explored.values())))
        return answers


def answer(schema: ProfileSchema, explored: Sequence[tuple[Profile, float]]) -> dict:
    """As of `mmprofile.profile_users`, from a user's explored profiles and their log-probabilities, the best first."""
    if not explored:
        return {"error": "the model's probabilities are not finite"}
    weights = torch.tensor([log for _, log in explored], dtype=torch.float64)
    shares = weights.softmax(0).tolist()
    probabilities = {a.key: dict.fromkeys(a.values, 0.0) for a in schema.attributes}
    for (profile, _), share in zip(explored, shares, strict=True):
        for key, value in profile.items():
            for one in [value] if isinstance(value, str) else value or ():
                probabilities[key][one] += share
    runners_up = [{"profile": p, "text": schema.render(p), "log_probability": log} for p, log in explored[1:]]
    return {
        "profile": explored[0][0],
        "text": schema.render(explored[0][0]),
        "log_probability": explored[0][1],
        "exact": False,
        "probabilities": probabilities,
        "coverage": min(1.0, weights.exp().sum().item()),
        "runners_up": runners_up,
        "image_weights": None,
        "gate": None,
    }


def to_device(batch: Inputs, model: Any) -> dict[str, torch.Tensor]:
    """A batch where the model is."""
    return {name: tensor.to(model.device, non_blocking=True) for name, tensor in batch.items()}


def target_classes(schema: ProfileSchema, profiles: Sequence[Profile]) -> torch.Tensor:
    """(batch, values), float: 1 at the values of each profile, all attributes' side by side in schema order."""
    return torch.tensor([_row(schema, schema.validate(profile)) for profile in profiles])


def _row(schema: ProfileSchema, profile: Profile) -> list[float]:
    row = []
    for attribute in schema.attributes:
        value = profile[attribute.key]
        chosen = [value] if isinstance(value, str) else value or []
        row += [float(one in chosen) for one in attribute.values]
    return row


# ---------------------------------------------------------------------------------------------------------------------
# Encoder-decoders of transformers


class SequenceToSequence(SystemModel):
    """The two methods by `forward` and `generate` of transformers."""

    def model_inputs(self, inputs: Inputs) -> Inputs:
        """A view's inputs as `forward` and `generate` take them; by default as they are."""
        return inputs

    def target_losses(self, inputs: Inputs, targets: Inputs) -> torch.Tensor:
        model: Any = self
        logits = model(**self.model_inputs(inputs), labels=targets["labels"], use_cache=False).logits
        return sum_target_losses(logits, targets["labels"])

    @torch.no_grad()
    def write_profiles(self, inputs: Inputs, processor, num_beams: int, constrained: bool = False) -> list[Profile]:
        return write_profiles(self, self.model_inputs(inputs), processor, num_beams, constrained)

    def explore_profiles(self, inputs: Inputs, tokenizer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return beam_search(self, self.model_inputs(inputs), tokenizer, number, start=1)


def beam_search(model: Any, inputs: Inputs, tokenizer, number: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What `SystemModel.explore_profiles` returns, by `generate`; `start` tokens stand before a profile's."""
    trie = profile_trie(model.profile_schema, tokenizer)
    number = min(number, trie.size)
    found = model.generate(
        **inputs,
        num_beams=max(number, min(EXPLORED, trie.size)),
        num_return_sequences=number,
        max_new_tokens=trie.longest,
        prefix_allowed_tokens_fn=AllowedTokens(trie, tokenizer.pad_token_id, start),
        length_penalty=0.0,  # a score is the sum over the tokens
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    if "sequences_scores" not in found:  # of one beam
        scores = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
        logs = torch.where(found.sequences[:, -scores.shape[1] :] != tokenizer.pad_token_id, scores, 0).sum(dim=1)
    else:
        logs = found.sequences_scores
    users = len(found.sequences) // number
    return found.sequences[:, start:].unflatten(0, (users, number)), logs.view(users, number)
