"""The first stage: images to grids of integers and back."""

from vqgan.tokenizer.autoencoder import AutoencoderConfig
from vqgan.tokenizer.memory import memory_budget
from vqgan.tokenizer.quantizers import QuantizerConfig, VectorQuantizerConfig
from vqgan.tokenizer.quantizers.base import Quantized, codebook_usage
from vqgan.tokenizer.receptive_field import receptive_field
from vqgan.tokenizer.sizes import crop_to_multiple, pad_to_multiple
from vqgan.tokenizer.tokenizer import Reconstruction, Tokenizer, TokenizerConfig
from vqgan.tokenizer.within import check_decoding, decode_rows, decode_within, encode_within
