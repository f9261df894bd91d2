"""ChatGLM (GLM: Du et al., 2022, ACL; ChatGLM to GLM-4: arXiv:2406.12793), by `GlmForCausalLM` of transformers.

The class of ChatGLM-6B, which the paper's cites' blank infilling is in, is not in transformers and came as code of its
own; what stands there is GLM-4's, a causal decoder of the same family: rotary positions over half of a head's channels,
a few key and value heads for many queries, and texts that begin with `[gMASK]<sop>`. Otherwise as `baselines.llama`.
"""

import torch
from transformers import GlmConfig, GlmForCausalLM

from baselines.causal import CausalSystem, checkpoint_config
from systems.system import System

OPENING = ("[gMASK]", "<sop>")


class ChatGlm(CausalSystem, GlmForCausalLM):
    """GLM as a system."""

    def opening(self, tokenizer) -> list[int]:
        known = tokenizer.get_vocab()
        return [known[token] for token in OPENING if token in known]


def tiny_glm_config(processor, hidden_size: int = 96) -> GlmConfig:
    """About a million parameters, for the processor's tokenizer."""
    tokenizer = processor.tokenizer
    return GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 4,
        initializer_range=hidden_size**-0.5,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny(processor) -> ChatGlm:
    model = ChatGlm(tiny_glm_config(processor))
    model.prepare(processor)
    return model


def pretrained(text_model: str, vision_model: None) -> ChatGlm:
    config = checkpoint_config(text_model, "glm")
    return ChatGlm.from_pretrained(text_model, config=config, dtype=torch.float32)


CHATGLM = System(
    name="chatglm",
    title="ChatGLM",
    about="A GLM decoder reads the text as a prompt, and writes the profile behind it",
    model_class=ChatGlm,
    tiny=tiny,
    pretrained=pretrained,
    text_model="zai-org/glm-4-9b-hf",
)
