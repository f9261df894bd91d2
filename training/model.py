"""The model that train.py trains, with the flags that say what of it is trained and how fast."""

from typing import Any

import torch
from datasets import Dataset
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from files.checkpoint_code import load_model, load_processor
from files.checkpoint_files import exact_revision
from mmprofile import (
    MASK_TOKEN,
    SECTION_MARKS,
    MMProfileForConditionalGeneration,
    MMProfileProcessor,
    ProfileSchema,
)
from scoring.evaluation import max_profile_tokens
from systems.presets import tiny_config, tiny_processor
from training.arguments import JointTrainingArguments
from training.data import corpus_texts
from training.lora import add_lora


def build_model(arguments: JointTrainingArguments, schema: ProfileSchema, train_split: Dataset):
    """The model and processor to train: a checkpoint, the tiny preset, or two pre-trained towers.

    Raises:
        ValueError: if a checkpoint is not to be had, or its schema is not the corpus'.
    """
    try:
        model, processor = _load_or_make(arguments, schema, train_split)
    except OSError as error:
        names = arguments.model or f"{arguments.text_model}, {arguments.vision_model}"
        raise ValueError(f"{names}: no checkpoint to be had: {error}") from error
    model.generation_config = GenerationConfig(
        num_beams=arguments.num_beams,
        max_new_tokens=max_profile_tokens(processor),
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.config.paradigm, model.config.objectives = arguments.paradigm, list(arguments.views)
    processor.max_images = max(processor.max_images, arguments.num_reviews * arguments.num_images)
    if arguments.freeze_vision:
        model.vision_model.requires_grad_(False)
    if arguments.lora_rank is not None:
        add_lora(model, arguments)
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable()
    torch.set_float32_matmul_precision(arguments.matmul_precision)
    if arguments.compile:
        compile_layers(model)
    return model, processor


def _load_or_make(arguments: JointTrainingArguments, schema: ProfileSchema, train_split: Dataset):
    if arguments.model:
        # By the classes that are saved here, unless asked: code that came with an older checkpoint lacks some.
        revision = exact_revision(arguments.model, arguments.model_revision)
        processor, _ = load_processor(arguments.model, revision, arguments.trust_remote_code)
        model = load_model(arguments.model, revision, arguments.trust_remote_code)
        if processor.profile_schema != schema:
            raise ValueError(
                f"{arguments.model!r} writes profiles of {processor.profile_schema.to_list()},"
                f" the corpus has {schema.to_list()}"
            )
        processor.max_text_tokens = arguments.max_text_tokens
    elif arguments.text_model == "tiny":
        texts = corpus_texts(train_split)
        processor = tiny_processor(
            texts, schema, vocab_size=arguments.vocab_size, max_text_tokens=arguments.max_text_tokens
        )
        config = tiny_config(schema, len(processor.tokenizer))
        config.fusion, config.vision_feature = arguments.fusion, arguments.vision_feature
        model = MMProfileForConditionalGeneration(config)
    else:
        model = MMProfileForConditionalGeneration.from_text_vision_pretrained(
            arguments.text_model,
            arguments.vision_model,
            dtype=torch.float32,
            fusion=arguments.fusion,
            vision_feature=arguments.vision_feature,
            profile_schema=schema,
        )
        tokenizer = AutoTokenizer.from_pretrained(arguments.text_model)
        add_sentinels(tokenizer, model)
        processor = MMProfileProcessor(
            AutoImageProcessor.from_pretrained(arguments.vision_model),
            tokenizer,
            schema,
            max_text_tokens=arguments.max_text_tokens,
        )
    return model, processor


def add_sentinels(tokenizer, model: MMProfileForConditionalGeneration) -> None:
    """Gives a tokenizer the sentinels of T5 that the processor needs and it lacks, as mT5's does, with untrained
    embeddings; mT5's vocabulary has rows to spare for them."""
    needed = [MASK_TOKEN, *SECTION_MARKS["sentinels"].values()]
    lacking = [token for token in needed if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id)]
    tokenizer.add_special_tokens({"extra_special_tokens": lacking}, replace_extra_special_tokens=False)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        _grow_vocabulary(model, len(tokenizer))


def _grow_vocabulary(model: MMProfileForConditionalGeneration, size: int) -> None:
    """Rows for more tokens; where the head has weights of its own, as mT5's has, its new rows are the mean row."""
    head: Any = model.get_output_embeddings()
    own = None if head.weight is model.get_input_embeddings().weight else head.weight.detach()
    model.resize_token_embeddings(size)
    if own is not None:  # resizing gave the head the embeddings
        head = model.get_output_embeddings()
        rows = torch.cat([own, own.mean(dim=0).expand(size - len(own), -1)])
        head.weight = torch.nn.Parameter(rows)


def to_training(joint: torch.nn.Module, model: MMProfileForConditionalGeneration, arguments: JointTrainingArguments):
    """Dropout everywhere but in a frozen vision tower; `joint` holds the model."""
    joint.train()
    if arguments.freeze_vision:
        model.vision_model.eval()


def compile_layers(model: MMProfileForConditionalGeneration) -> None:
    """Has each layer compiled when it is first called, for any number of users, tokens and photos.

    The layers and not the model: layers of one kind share their code, and no choice between users with photos and
    without breaks it in two. Names of weights stay as they are.
    """
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) or layer is model.fusion:
            layer.compile(dynamic=True)
