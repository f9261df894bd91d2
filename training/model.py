"""The model that train.py trains, with the flags that say what of it is trained and how fast."""

from typing import Any

import torch
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from baselines.table import find_system
from files.checkpoint_code import load_model, load_processor, system_of
from files.checkpoint_files import exact_revision
from mmprofile import (
    MASK_TOKEN,
    SECTION_MARKS,
    MMProfileProcessor,
    ProfileSchema,
    max_profile_tokens,
)
from systems.presets import tiny_processor
from systems.system import System, SystemModel
from training.arguments import JointTrainingArguments
from training.data import corpus_texts
from training.lora import add_lora

PAD_TOKEN = "<pad>"  # of a tokenizer that has none


def build_model(arguments: JointTrainingArguments, schema: ProfileSchema, train_split: Dataset):
    """The model and processor to train: a checkpoint, the system's tiny preset, or pre-trained towers.

    Raises:
        ValueError: if a checkpoint is not to be had, is of another system, or its schema is not the corpus'; or a flag
            is for a model with other parts.
    """
    try:
        model, processor = _load_or_make(arguments, schema, train_split)
    except OSError as error:
        names = arguments.model or f"{arguments.text_model}, {arguments.vision_model}"
        raise ValueError(f"{names}: no checkpoint to be had: {error}") from error
    describe_system(model, processor, arguments)
    processor.max_images = max(processor.max_images, arguments.num_reviews * arguments.num_images)
    if arguments.freeze_vision:
        if not hasattr(model, "vision_model"):
            raise ValueError(f"{arguments.system} has no vision tower, got freeze_vision=True")
        model.vision_model.requires_grad_(False)
    if arguments.lora_rank is not None:
        add_lora(model, arguments)
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable()
    torch.set_float32_matmul_precision(arguments.matmul_precision)
    if arguments.compile:
        compile_layers(model)
    return model, processor


def describe_system(model: Any, processor: MMProfileProcessor, arguments: JointTrainingArguments) -> None:
    """Has the configurations tell what the model is, what it was trained on and how it writes."""
    config = model.config
    config.system, config.profile_schema = arguments.system, processor.profile_schema.to_list()
    config.paradigm, config.objectives = arguments.paradigm, list(arguments.views)
    if find_system(arguments.system).reads_views:
        arguments.decide_views(config.combination, config.view_reviews)
        config.combination, config.view_reviews = arguments.combination, arguments.view_reviews
    if isinstance(model, SystemModel):
        model.prepare(processor)
    model.generation_config = GenerationConfig(
        num_beams=arguments.num_beams,
        max_new_tokens=max_profile_tokens(processor),
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def _load_or_make(arguments: JointTrainingArguments, schema: ProfileSchema, train_split: Dataset):
    system = find_system(arguments.system)
    if arguments.model:
        # By the classes that are saved here, unless asked: code that came with an older checkpoint lacks some.
        revision = exact_revision(arguments.model, arguments.model_revision)
        processor, config = load_processor(arguments.model, revision, arguments.trust_remote_code)
        if (made := system_of(config)) != arguments.system:
            raise ValueError(f"{arguments.model!r} is a checkpoint of the system {made!r}, got {arguments.system!r}")
        if getattr(config, "linear_weights", "float") != "float":
            raise ValueError(f"{arguments.model!r} is quantized, for inference; train what it was made of")
        model = load_model(arguments.model, revision, arguments.trust_remote_code)
        if processor.profile_schema != schema:
            raise ValueError(
                f"{arguments.model!r} writes profiles of {processor.profile_schema.to_list()},"
                f" the corpus has {schema.to_list()}"
            )
        processor.max_text_tokens = arguments.max_text_tokens
        return model, processor
    options = {name: getattr(arguments, name) for name in system.takes}
    if arguments.text_model == "tiny":
        texts, sizes = corpus_texts(train_split), {"max_text_tokens": arguments.max_text_tokens}
        processor = tiny_processor(texts, schema, vocab_size=arguments.vocab_size, **sizes)
        return system.tiny(processor, **options), processor
    model = system.pretrained(arguments.text_model, arguments.vision_model, **options)
    tokenizer = fitting_tokenizer(str(arguments.text_model), model)
    images = image_processor(system, arguments)
    return model, MMProfileProcessor(images, tokenizer, schema, max_text_tokens=arguments.max_text_tokens)


def image_processor(system: System, arguments: JointTrainingArguments) -> Any:
    """Of the vision tower's checkpoint, or of the one that holds both towers; a system that sees no photo has any."""
    if not system.sees_photos:
        return ViTImageProcessorPil()
    return AutoImageProcessor.from_pretrained(arguments.vision_model or arguments.text_model)


def fitting_tokenizer(name: str, model: Any) -> Any:
    """A checkpoint's tokenizer as the processor needs it: with a padding token and T5's sentinels, and `</s>` behind
    every text and nothing before it; the model's vocabulary grows with it."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.eos_token is None:
        raise ValueError(f"{name!r}: a profile ends with the tokenizer's eos_token, and it has none")
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if tokenizer("").input_ids != [tokenizer.eos_token_id]:
        tokenizer = ending_each_text(tokenizer)
    add_sentinels(tokenizer, model)
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def ending_each_text(tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with `</s>` behind every text and nothing before it, of the general class: that of BART and others
    puts its own tokens around texts again whenever it is loaded."""
    end = [(tokenizer.eos_token, tokenizer.eos_token_id)]
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=end)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None}
    others = [token for token in tokenizer.all_special_tokens if token not in special.values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **special,
        extra_special_tokens=others,
        model_input_names=["input_ids", "attention_mask"],
    )


def add_sentinels(tokenizer, model: Any) -> None:
    """Gives a tokenizer the sentinels of T5 that the processor needs and it lacks, as mT5's or BART's, with untrained
    embeddings; mT5's vocabulary has rows to spare for them."""
    needed = [MASK_TOKEN, *SECTION_MARKS["sentinels"].values()]
    lacking = [token for token in needed if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id)]
    tokenizer.add_special_tokens({"extra_special_tokens": lacking}, replace_extra_special_tokens=False)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        _grow_vocabulary(model, len(tokenizer))


def _grow_vocabulary(model: Any, size: int) -> None:
    """Rows for more tokens; where the head has weights of its own, as mT5's has, its new rows are the mean row. A
    classifier has no head of words."""
    head: Any = model.get_output_embeddings()
    own = None
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        own = head.weight.detach()
    known = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(size, mean_resizing=False)
    _draw_rows(model.get_input_embeddings().weight.data, known)
    if own is not None:  # resizing gave the head the embeddings
        head = model.get_output_embeddings()
        rows = torch.cat([own, own.mean(dim=0).expand(size - len(own), -1)])
        head.weight = torch.nn.Parameter(rows)


def _draw_rows(rows: torch.Tensor, known: int) -> None:
    """Rows behind the first `known` like these, each another: LoRA leaves them as they are, and one mark is to be told
    from the next. Resizing draws them all but alike."""
    mean, deviation = rows[:known].float().mean(dim=0), rows[:known].float().std(dim=0)
    rows[known:] = (mean + deviation * torch.randn(len(rows) - known, rows.shape[1]).to(mean)).to(rows.dtype)


def to_training(joint: torch.nn.Module, model: Any, arguments: JointTrainingArguments):
    """Dropout everywhere but in a frozen vision tower; `joint` holds the model."""
    joint.train()
    if arguments.freeze_vision:
        model.vision_model.eval()


def compile_layers(model: Any) -> None:
    """Has each layer compiled when it is first called, for any number of users, tokens and photos.

    The layers and not the model: layers of one kind share their code, and no choice between users with photos and
    without breaks it in two. Names of weights stay as they are.
    """
    fusion = getattr(model, "fusion", None)
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) or layer is fusion:
            layer.compile(dynamic=True)
