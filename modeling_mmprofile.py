"""The multimodal user profile model: a T5 encoder-decoder and a vision tower, joined by a fusion.

Shapes, throughout:
    batch   users
    seq     text tokens
    images  photos a user, padded; `image_mask` (batch, images) is True where there is one
    states  visual states a user: images, or images x patches with `vision_feature="patches"`
    d_model width of T5
"""

import copy
import shutil
from collections.abc import Collection
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging
from transformers.utils.generic import ModelOutput, TransformersKwargs
from transformers.utils.hub import cached_file

from .configuration_mmprofile import MMProfileConfig
from .fusion_mmprofile import FUSIONS, FusedEncoderOutput, FusingEncoder, Fusion, MMProfileOutput, join_views
from .generation_mmprofile import ProfileGenerationMixin, checked_encoder_outputs
from .int8_mmprofile import ATTENTION, attention_beside_int8, quantize_linears, quantize_model
from .pipeline_mmprofile import CUSTOM_PIPELINES  # imported here, its file travels with the model's
from .texts_mmprofile import shown
from .user_deletions_mmprofile import EncodedHistory
from .user_explanations_mmprofile import explain_user

logger = logging.get_logger(__name__)

# Of configurations whose models take videos, or have states behind those of the patches.
UNFIT_VISION = ("num_frames", "num_detection_tokens")
TEXT_MODELS = ("t5", "mt5", "umt5")  # the search for profiles calls their decoders' blocks
AUTO_CLASSES = ("AutoModel", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText")
# What `forward` hands on to T5, of what transformers' own programs give any model.
HANDED_ON = {*TransformersKwargs.__annotations__, "cache_position", "return_dict"}
QUANTIZATIONS = ("int8", "bfloat16", "fastest")
# On a CPU: tokens, or patches, that go through a tower together, times the width of its feed-forward layers. What
# stands between the layers then stays in the cache, and needs no new memory each time.
CACHED_STATES = 2**21
COMPANIONS = ("handler.py", "requirements.txt", "LICENSE")  # of a checkpoint, beside weights and imported code


class MMProfilePreTrainedModel(PreTrainedModel):
    """Weights and loading, shared by the models of this package."""

    config_class = MMProfileConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules = [fusion.__name__ for fusion in FUSIONS.values()]  # the towers add theirs
    _supports_sdpa = True

    def save_pretrained(self, save_directory, *args, **kwargs):
        # transformers knows one Auto class a model; the others are written here.
        module = __name__.rpartition(".")[2]
        class_name = f"{module}.{MMProfileForConditionalGeneration.__name__}"
        self.config.auto_map = dict.fromkeys(AUTO_CLASSES, class_name)
        self.config.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)  # loading a pipeline changes it in place
        super().save_pretrained(save_directory, *args, **kwargs)
        self._save_companions(save_directory)

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        self._save_companions(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _save_companions(self, folder):
        """The files of the checkpoint that the model came from which no Python code imports."""
        if not self.name_or_path:
            return
        options: dict[str, Any] = {"revision": getattr(self.config, "_commit_hash", None)}
        options |= {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors")}
        for name in COMPANIONS:
            try:
                found = cached_file(self.name_or_path, name, **options)
            except OSError as error:  # a folder that is gone, a repository that asks for a token
                logger.warning("%s of %s is not to be had and not saved: %s", name, self.name_or_path, error)
                found = None
            if found and Path(found).resolve() != (Path(folder) / name).resolve():
                shutil.copyfile(found, Path(folder) / name)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Linear):  # the fusion's; the towers initialise their own
            init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


def _text_class(config: PreTrainedConfig) -> Any:
    if config.model_type not in TEXT_MODELS:
        name = config.name_or_path or "text_config"
        raise ValueError(f"{name!r} must be of one of the types {list(TEXT_MODELS)}, it is {config.model_type!r}")
    return MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)]


def _vision_class(config: PreTrainedConfig) -> tuple[Any, dict]:
    """A vision tower's class, and its arguments beside the configuration: a pooling layer that can be left out is one
    that most checkpoints have no trained weights of."""
    cuts_patches = all(hasattr(config, size) for size in ("hidden_size", "image_size", "patch_size"))
    unfit = [f"{field}={getattr(config, field)}" for field in UNFIT_VISION if getattr(config, field, None)]
    if not cuts_patches or unfit or type(config) not in MODEL_MAPPING:
        name, given = config.name_or_path or "vision_config", " with ".join([repr(config.model_type), *unfit])
        raise ValueError(
            f"{name!r} must be of a vision model that cuts photos in patches, their states last, it is {given}"
        )
    vision_class: Any = MODEL_MAPPING[type(config)]
    pools = "add_pooling_layer" in signature(vision_class).parameters
    return vision_class, {"add_pooling_layer": False} if pools else {}


def _load_tower(tower: Any, checkpoint: str, **options) -> Any:
    model, found = tower.from_pretrained(checkpoint, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{checkpoint!r} lacks {len(missing)} weights of {tower.__name__}, e.g. {missing[0]!r}")
    return model


def _sides(size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    """Height and width, as a vision configuration has them: two numbers, or one for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _check_views(views: torch.Tensor, rows: int) -> None:
    if views.dim() != 1 or views.is_floating_point() or int(views.min()) < 1 or int(views.sum()) != rows:
        raise ValueError(f"views are each user's number of rows, {rows} together, got {shown(views.tolist())}")


def _lay_out_biases(text_model: Any) -> None:
    """Has the first layer of T5's encoder be given the biases of distances in the order, and the type, in which
    attention reads them, else each layer copies them: at base size and 600 tokens 17 MB."""

    def contiguous(attention, arguments, options):
        if options.get("position_bias") is None:
            length = arguments[0].shape[1]
            bias = attention.compute_bias(length, length, device=arguments[0].device)
            has_16_bits = attention.config._attn_implementation == ATTENTION
            options["position_bias"] = (bias.bfloat16() if has_16_bits else bias).contiguous()
        return arguments, options

    attention = text_model.encoder.block[0].layer[0].SelfAttention
    if text_model.config.model_type != "umt5":  # each of whose layers has its own
        attention.register_forward_pre_hook(contiguous, with_kwargs=True)


def _in_parts(inputs: torch.Tensor) -> bool:
    """Whether a tower takes what a batch has little by little."""
    return inputs.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def _refuse_unknown(arguments: Collection[str]) -> None:
    """A misspelt name would else be taken, and change nothing."""
    if unknown := sorted(set(arguments) - HANDED_ON):
        raise TypeError(f"unexpected keyword arguments: {', '.join(unknown)}")


class MMProfileForConditionalGeneration(ProfileGenerationMixin, MMProfilePreTrainedModel, GenerationMixin):
    """Generates a user's profile from reviews and photos (sections 4 and 5 of the paper).

    With no photo the model is T5: the same weights give the same logits, to the bit.
    """

    text_model: Any  # what of T5's, mT5's and umT5's is called has no type in common
    vision_model: Any

    def __init__(self, config: MMProfileConfig):
        super().__init__(config)
        self.text_model = _text_class(config.text_config)(config.text_config)
        _lay_out_biases(self.text_model)
        vision_class, options = _vision_class(config.vision_config)
        self.vision_model = vision_class(config.vision_config, **options)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.text_config.d_model, bias=False)
        # Others fit their positions to the photo unasked, as DINOv2 does.
        self._fixed_size = "interpolate_pos_encoding" in signature(self.vision_model.forward).parameters
        self.fusion = self.fusion_class(config)(config.text_config)
        if config.linear_weights == "int8":
            quantize_linears(self, config.float_linears or ())
        self.post_init()
        if config.linear_weights == "int8":
            self._attend_beside_int8()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, quantization: str | None = None, **kwargs):
        """As of transformers, and for inference on a CPU quantized.

        Args:
            quantization: see `quantize`; None: as the checkpoint is, as is a quantized one whatever is asked.

        Raises:
            ValueError: if there is no such quantization.
        """
        if quantization not in (None, *QUANTIZATIONS):
            raise ValueError(f"quantization is one of {list(QUANTIZATIONS)} or None, got {quantization!r}")
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model: Any = loaded[0] if isinstance(loaded, tuple) else loaded
        if quantization and model.config.linear_weights == "float":
            model.quantize(quantization)
        return loaded

    def quantize(self, weights: str = "int8"):
        """This model for inference on a CPU, which cannot be trained any more; it is saved, and loaded, as it is.

        Args:
            weights: "int8", the linear layers' with 8 bits; "bfloat16"; or "fastest", what this CPU computes
                fastest with, see `int8_mmprofile.fastest_weights`.

        Raises:
            ValueError: if there is no such quantization, or the model is quantized.
        """
        if weights not in QUANTIZATIONS:
            raise ValueError(f"quantization is one of {list(QUANTIZATIONS)}, got {weights!r}")
        if self.config.linear_weights != "float":
            raise ValueError(f"the model is quantized: its linear_weights are {self.config.linear_weights}")
        left = quantize_model(self, weights)
        if left is not None:
            self.config.linear_weights, self.config.float_linears = "int8", left
            self._attend_beside_int8()
        return self.eval()

    def _attend_beside_int8(self) -> None:
        """Unless another attention than PyTorch's was asked for."""
        for tower in (self.text_model, self.vision_model):
            if tower.config._attn_implementation == "sdpa":
                tower.set_attn_implementation(attention_beside_int8())

    @staticmethod
    def fusion_class(config: MMProfileConfig) -> type[Fusion]:
        """How photos join the text, by the configuration; a subclass may have one that is not in the table."""
        return FUSIONS[config.fusion]

    @classmethod
    def from_text_vision_pretrained(cls, text: str, vision: str, dtype: str | torch.dtype = "auto", **config):
        """A model from two pre-trained towers and a fusion with fresh weights.

        Args:
            text: a checkpoint of T5, mT5 or umT5, by Hub name or folder, e.g. "google/flan-t5-base".
            vision: one of a model with a state per patch, likewise, e.g. "google/vit-base-patch16-224" or
                "facebook/dinov2-base"; of a model of photos and texts, as CLIP and SigLIP are, the vision part.
            dtype: of the weights, as in `from_pretrained`.
            config: further fields of `MMProfileConfig`.

        Raises:
            ValueError: if a checkpoint is of another kind or lacks weights, or the vision tower has no state per patch
                or, with `vision_feature="cls"`, none of a whole photo.
        """
        text_class, vision_config = _text_class(AutoConfig.from_pretrained(text)), AutoConfig.from_pretrained(vision)
        vision_config = getattr(vision_config, "vision_config", vision_config)
        vision_class, options = _vision_class(vision_config)
        text_model = _load_tower(text_class, text, dtype=dtype)
        vision_model = _load_tower(vision_class, vision, config=vision_config, dtype=dtype, **options)
        made: Any = cls.config_class  # a subclass may have its own
        model: Any = cls(made(text_config=text_model.config, vision_config=vision_model.config, **config))
        model = model.to(text_model.dtype)
        model.fusion.soften()
        model.text_model, model.vision_model = text_model, vision_model.to(text_model.dtype)
        _lay_out_biases(text_model)
        black = torch.zeros(1, 3, *_sides(vision_config.image_size), dtype=model.dtype)
        try:
            with torch.no_grad():
                model.eval().photo_states(black)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # of any model's code
            raise ValueError(f"{str(vision)!r} gives no states of photos: {error}") from error
        return model

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return FusingEncoder(self.encode) if modality is None else super().get_encoder(modality)

    def get_decoder(self) -> nn.Module:
        return self.text_model.get_decoder()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.text_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.text_model.set_output_embeddings(new_embeddings)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return self.text_model.prepare_decoder_input_ids_from_labels(labels)

    def text_features(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs) -> BaseModelOutput:
        """H_txt of Eq. 1, `last_hidden_state` (batch, seq, d_model)."""
        _refuse_unknown(kwargs)
        return self.text_model.encoder(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )

    def _read_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutput:
        """`text_features` of few rows at a time without the padding around them, which is 0."""
        config, seq = self.config.text_config, input_ids.shape[1]
        together = max(1, CACHED_STATES // (seq * config.d_ff))
        states = None
        for start in range(0, len(input_ids), together):
            rows = slice(start, start + together)
            there = attention_mask[rows].bool().any(dim=0).nonzero()
            columns = slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(seq)
            part: Any = self.text_features(input_ids[rows, columns], attention_mask[rows, columns]).last_hidden_state
            if part.shape[:2] == input_ids.shape:
                return BaseModelOutput(last_hidden_state=part)
            if states is None:
                states = part.new_zeros(*input_ids.shape, part.shape[2])
            states[rows, columns] = part
        return BaseModelOutput(last_hidden_state=states)

    def photo_features(self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None) -> torch.Tensor:
        """H_img of Eq. 2, projected. The vision tower runs on the photos that are there, never on padding.

        Args:
            pixel_values: (batch, images, 3, height, width), normalised.
            image_mask: (batch, images) boolean; default: every photo is there.

        Returns:
            (batch, images, d_model) with `vision_feature="cls"`, else (batch, images, patches, d_model); 0 where
            there is no photo.

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        image_mask = self._checked_image_mask(pixel_values, image_mask)
        if torch.compiler.is_exporting():  # a graph has no shape that depends on a mask: every slot, padding to 0
            states = self.visual_projection(self.photo_states(pixel_values.flatten(0, 1)))
            states = states.unflatten(0, image_mask.shape)
            return states * image_mask.view(*image_mask.shape, *[1] * (states.dim() - 2)).to(states.dtype)
        photos = pixel_values[image_mask]
        if not len(photos):
            patches = () if self.config.vision_feature == "cls" else (self._patches(photos),)
            return photos.new_zeros(*image_mask.shape, *patches, self.config.text_config.d_model)
        together = len(photos)
        if _in_parts(photos):
            width = self._patches(photos) * 4 * self.config.vision_config.hidden_size
            together = max(1, CACHED_STATES // width)
        return self.project_states(torch.cat([self.photo_states(few) for few in photos.split(together)]), image_mask)

    def photo_states(self, photos: torch.Tensor) -> torch.Tensor:
        """What of the vision tower's output the model looks at.

        The patches' states are the last ones; [CLS], registers and the like stand before them. For the whole photo
        ("cls") stands the state that the tower pools, where it does: SigLIP's attention over the patches, [CLS] after
        its norm of CLIP and DINOv2; else the first state, ViT's [CLS].

        Args:
            photos: (photos, 3, height, width), normalised.

        Returns:
            (photos, hidden) with `vision_feature="cls"`, else (photos, patches, hidden).

        Raises:
            ValueError: if photos are not of the tower's size, or it has no such states.
        """
        size = tuple(photos.shape[2:])
        if self._fixed_size and size != _sides(self.config.vision_config.image_size):
            expected = _sides(self.config.vision_config.image_size)
            raise ValueError(f"the vision tower takes photos of {expected} pixels, got {size}")
        output = self.vision_model(photos)
        states = output.last_hidden_state  # (photos, others + patches, hidden)
        others = states.shape[1] - self._patches(photos) if states.dim() == 3 else -1
        pooled = output.get("pooler_output")
        if others < 0 or (self.config.vision_feature == "cls" and pooled is None and not others):
            kind = self.config.vision_config.model_type
            wanted = "per patch" if others < 0 else "of a whole photo: vision_feature='patches' looks at its others"
            raise ValueError(f"the vision tower, of type {kind!r}, has no state {wanted}")
        if self.config.vision_feature == "patches":
            return states[:, others:]
        return states[:, 0] if pooled is None else pooled

    def _patches(self, photos: torch.Tensor) -> int:
        height, width = _sides(self.config.vision_config.patch_size)
        return (photos.shape[-2] // height) * (photos.shape[-1] // width)

    def project_states(self, states: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """`photo_features` of photos whose `photo_states` are known, in the order of the mask's True."""
        states = self.visual_projection(states)
        features = states.new_zeros(*image_mask.shape, *states.shape[1:])
        features[image_mask.to(features.device)] = states
        return features

    def fuse(
        self,
        text: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        photo_features: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        output_fusion: bool = False,
    ) -> FusedEncoderOutput:
        """H_fused, by the fusion of the config; without photos H_txt.

        Args:
            text: H_txt (batch, seq, d_model).
            attention_mask: (batch, seq), 1 where there is a token.
            photo_features: as `photo_features` returns them; None without photos.
            image_mask: (batch, images); default: every photo is there.
            output_fusion: also return `image_attentions` and `gate`, where the fusion has any.

        Raises:
            ValueError: if the mask is not of as many users and photos as the features.
        """
        if attention_mask is None:
            attention_mask = torch.ones(text.shape[:2], dtype=torch.long)
        attention_mask = attention_mask.to(text.device)
        if photo_features is None or photo_features.shape[1] == 0:
            return FusedEncoderOutput(last_hidden_state=text, attention_mask=attention_mask)
        if image_mask is None:
            image_mask = torch.ones(photo_features.shape[:2], dtype=torch.bool, device=text.device)
        if image_mask.shape != photo_features.shape[:2]:
            given, expected = tuple(image_mask.shape), tuple(photo_features.shape[:2])
            raise ValueError(f"image_mask is of {given} photos, photo_features are of {expected}")
        image_mask = image_mask.to(text.device, torch.bool)
        images, states = image_mask.shape[1], photo_features.flatten(1, -2).shape[1]
        visual = photo_features.flatten(1, -2).to(text.device, text.dtype)  # (batch, states, d_model)
        visual_mask = image_mask.repeat_interleave(states // images, dim=1)
        fused = self.fusion(text, attention_mask, visual, visual_mask)
        mask = attention_mask if fused.attention_mask is None else fused.attention_mask
        output = FusedEncoderOutput(fused.last_hidden_state, attention_mask=mask)
        if output_fusion:
            output.gate = fused.gate
            if fused.image_attentions is not None:  # of each state: a photo's are summed
                output.image_attentions = fused.image_attentions.unflatten(2, (images, -1)).sum(dim=-1)
        return output

    def encode(
        self,
        input_ids=None,
        attention_mask=None,
        pixel_values=None,
        image_mask=None,
        inputs_embeds=None,
        output_fusion: bool = False,
        views: torch.Tensor | None = None,
        **kwargs,
    ) -> FusedEncoderOutput:
        """Text and photos to H_fused; arguments and errors as in `forward`. What `output_fusion` tells is of the rows,
        joined or not."""
        kwargs.pop("return_dict", None)
        is_plain = inputs_embeds is None and not any(kwargs.values())
        if is_plain and input_ids is not None and attention_mask is not None and _in_parts(input_ids):
            text = self._read_texts(input_ids, attention_mask)
        else:
            text = self.text_features(input_ids, attention_mask, inputs_embeds, **kwargs)
        states, features = text.last_hidden_state, None
        assert states is not None
        if pixel_values is not None:
            if len(pixel_values) != len(states):
                raise ValueError(f"pixel_values are of {len(pixel_values)} users, the text of {len(states)}")
            features = self.photo_features(pixel_values, image_mask)
        output = self.fuse(states, attention_mask, features, image_mask, output_fusion)
        output.hidden_states, output.attentions = text.hidden_states, text.attentions
        if views is not None:
            _check_views(views, len(states))
            state: Any = output.last_hidden_state
            output.last_hidden_state, output.attention_mask = join_views(state, output.attention_mask, views)
        return output

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: ModelOutput | tuple | None = None,
        past_key_values=None,
        cache=None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_fusion: bool = False,
        views: torch.Tensor | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs,
    ) -> MMProfileOutput | tuple:
        """Next-token logits (Eq. 5) and, with labels, the loss (the mean of Eq. 4's negative logarithm per token).

        Args:
            input_ids: (batch, seq).
            attention_mask: (batch, seq), 1 where there is a token.
            pixel_values: (batch, images, 3, height, width), normalised; None without photos.
            image_mask: (batch, images), True where there is a photo; default: everywhere.
            encoder_outputs: of `encode`, to skip the encoders.
            cache: keys and values of the tokens before; `past_key_values` to transformers before 5.24.
            labels: (batch, target), -100 where there is none.
            output_fusion: also return `image_attentions` and `gate`.
            views: (users,), how many rows each user has, which stand one behind the other: the decoder attends to the
                states of all of them (`combination="states"`), and labels are of users. None: one each.
            num_items_in_batch: divide the summed loss by this number (the Trainer's, over accumulated batches).

        Raises:
            ValueError: if photos are not of as many users as the text, the mask is not of the photos' shape, views
                are not the rows together, or `encoder_outputs` have no state.
            TypeError: if there is an argument that neither this model nor T5 knows.
        """
        _refuse_unknown(kwargs)
        if encoder_outputs is None:
            encoder_outputs = self.encode(
                input_ids, attention_mask, pixel_values, image_mask, inputs_embeds, output_fusion, views, **kwargs
            )
        else:
            encoder_outputs = checked_encoder_outputs(encoder_outputs, self.config.text_config.d_model)
        if isinstance(encoder_outputs, FusedEncoderOutput):
            attention_mask = encoder_outputs.attention_mask
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        caches = {"past_key_values": past_key_values, "cache": cache}  # T5 knows one of them
        decoded = self.text_model(
            attention_mask=attention_mask,
            encoder_outputs=encoder_outputs,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            **{name: value for name, value in caches.items() if value is not None},
            use_cache=use_cache,
            **kwargs,
        )
        loss = None if labels is None else self._token_loss(decoded.logits, labels, num_items_in_batch)
        output = MMProfileOutput(loss=loss, **decoded)  # in the order of its fields: the loss comes first
        if isinstance(encoder_outputs, FusedEncoderOutput):
            output.image_attentions, output.gate = encoder_outputs.image_attentions, encoder_outputs.gate
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def explain_user(self, history: EncodedHistory, processor, **options) -> dict:
        """A user's answer, and what each review and photo did; see the function `explain_user`."""
        return explain_user(self, processor, history, **options)

    @staticmethod
    def _token_loss(logits: torch.Tensor, labels: torch.Tensor, num_items: int | torch.Tensor | None) -> torch.Tensor:
        reduction = "mean" if num_items is None else "sum"
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.to(logits.device).flatten(), ignore_index=-100, reduction=reduction
        )
        return loss if num_items is None else loss / num_items

    def _checked_image_mask(self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None) -> torch.Tensor:
        if pixel_values.dim() != 5:
            raise ValueError(
                f"pixel_values have shape (batch, images, channels, height, width), got {tuple(pixel_values.shape)}"
            )
        if image_mask is None:
            return torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        if image_mask.shape != pixel_values.shape[:2]:
            raise ValueError(
                f"image_mask has the first two sizes of pixel_values, {tuple(pixel_values.shape[:2])},"
                f" got {tuple(image_mask.shape)}"
            )
        return image_mask.to(pixel_values.device, torch.bool)


MMProfileForConditionalGeneration.register_for_auto_class(AUTO_CLASSES[0])
