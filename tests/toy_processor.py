"""A processor whose tokens are whole words with known ids, and whose photos are 2 x 2 pixels from -1 to 1."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.processing_mmprofile import MMProfileProcessor

SCHEMA = ProfileSchema(
    [{"name": "Size", "values": ["small", "large"]}, {"name": "Colours", "values": ["red", "green"], "count": 2}]
)
PROFILE = {"size": "large", "colours": ["red", "green"]}
# Words in the order of their ids: a is 10, b 11, ... h 17.
WORDS = "<pad> </s> <unk> Review: Photo: Profile: Size: small large | a b c d e f g h Colours: red green red, green,"
SENTINELS = ("<extra_id_0>", "<extra_id_97>", "<extra_id_98>", "<extra_id_99>")
MASK, PROFILE_MARK, CAPTION_MARK, REVIEW_MARK = 23, 24, 25, 26


def toy_tokenizer(words: str = WORDS, sentinels: tuple[str, ...] = SENTINELS, **options) -> PreTrainedTokenizerFast:
    vocab = {word: index for index, word in enumerate(words.split())}
    backend = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=list(sentinels),
        model_input_names=["input_ids", "attention_mask"],
        **options,
    )


def toy_image_processor(**options) -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": 2, "width": 2}, **options)


def toy_processor(**options) -> MMProfileProcessor:
    return MMProfileProcessor(toy_image_processor(), toy_tokenizer(), SCHEMA, **options)
