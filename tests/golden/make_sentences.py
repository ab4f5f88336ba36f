#!/usr/bin/env python3
"""Makes small sentence-transformers directories, and the vectors that sentence-transformers makes with them and with a real one.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_sentences.py [NAME ..]    the small ones
    build/golden-env/bin/python tests/golden/make_sentences.py minilm DIR   DIR: all-MiniLM-L6-v2, as tools/check_models.py gets it

Each small directory is a random BERT of two layers behind a vocabulary of single characters, one for each way of pooling
and each module behind it.  Vectors are of one text at a time, in float32 as the library computes; texts are in texts.json.
"""
import json
import os
import shutil
import sys

import numpy
import torch
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from transformers import BertConfig, BertModel, BertTokenizerFast, LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "sentences")
HIDDEN = 24

TEXTS = ["a", "A quick brown fox.", "jumps over the lazy dog", "", "ÄÖ \t ü 12345", "one two three four five six seven",
         "The same length as that one here", "x" * 100]
REAL = ["Hello world", "The quick brown fox jumps over the lazy dog.", "Bonjour à tous, ça va?", "",
        "How do I bake bread?", "Mix flour, water, salt and yeast; knead, wait, and bake.",
        "Rates of interest rose again this week.", "word " * 400]

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
PROMPTS = {"query": "query: ", "passage": "passage: ", "long": "x y " * 20}


def dense(n_in, n_out, activation, **more):
    return Dense(n_in, n_out, activation_function=activation, **more)


# What stands behind the transformer, the prompt that is used, and what else is special.
CASES = {
    "mean": (dict(pooling_mode="mean"), [Normalize()], None),
    "cls-dense": (dict(pooling_mode="cls"), [Dense(HIDDEN, 10), Normalize()], None),
    "max-norm": (dict(pooling_mode="max"), [LayerNorm(HIDDEN)], None),
    "sqrt-plain": (dict(pooling_mode="mean_sqrt_len_tokens"),
                   [Dense(HIDDEN, 16, bias=False, activation_function=torch.nn.Identity())], None),
    "weighted-last": (dict(pooling_mode=["weightedmean", "lasttoken"]), [Dense(2 * HIDDEN, 12)], None),
    "prompt": (dict(pooling_mode="mean"), [Normalize()], "query"),
    "prompt-left-out": (dict(pooling_mode="weightedmean", include_prompt=False), [], "query"),
    # a prompt by default, left out of every mode; the first 100 numbers
    "all-modes": (dict(pooling_mode=MODES, include_prompt=False), [], None, "default"),
    # a prompt that leaves nothing of the texts
    "prompt-alone": (dict(pooling_mode=["cls", "mean", "weightedmean", "lasttoken"], include_prompt=False), [], "long"),
    # as sentence-transformers 2 wrote it: a folder for the transformer, a key for each mode
    "older": (dict(pooling_mode=["cls", "max", "mean"]), [], None, "older"),
    "activations": (dict(pooling_mode="lasttoken"),
                    [dense(HIDDEN, 16, torch.nn.ReLU()), LayerNorm(16), dense(16, 16, torch.nn.GELU(), use_residual=True),
                     dense(16, 14, torch.nn.SiLU(), use_residual=True), dense(14, 12, torch.nn.LeakyReLU()),
                     dense(12, 10, torch.nn.Sigmoid()), dense(10, 8, torch.nn.Tanh())], None),
    # transformers alone: a language model's last token, the mean of the other
    "causal": ("llama", None, None),
    "bare": ("bert", None, None),
}


def tokenizer(path):
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,:"))
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + ["##" + c for c in letters]
    os.makedirs(path)
    with open(os.path.join(path, "vocab.txt"), "w") as f:
        f.write("\n".join(vocab) + "\n")
    BertTokenizerFast(os.path.join(path, "vocab.txt")).save_pretrained(path)
    return len(vocab)


def transformer(path, kind="bert"):
    n = tokenizer(path)
    torch.manual_seed(7)
    if kind == "llama":
        config = LlamaConfig(vocab_size=n, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
                             max_position_embeddings=64, initializer_range=0.3)
        LlamaForCausalLM(config).save_pretrained(path)
    else:
        config = BertConfig(vocab_size=n, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=3,
                            intermediate_size=40, max_position_embeddings=64, initializer_range=0.3)
        BertModel(config).save_pretrained(path)


def rewrite(path, change):
    with open(path) as f:
        value = json.load(f)
    value = change(value)
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def make_older(out, modes):
    """Renames what sentence-transformers 2 called otherwise; the library still reads it, and makes the vectors from it."""
    os.makedirs(os.path.join(out, "0_Transformer"))
    for f in os.listdir(out):
        if os.path.isfile(os.path.join(out, f)) and f not in ("modules.json", "config_sentence_transformers.json"):
            os.rename(os.path.join(out, f), os.path.join(out, "0_Transformer", f))
    os.remove(os.path.join(out, "0_Transformer", "sentence_bert_config.json"))
    with open(os.path.join(out, "0_Transformer", "sentence_distilbert_config.json"), "w") as f:
        f.write('{"max_seq_length": 24, "do_lower_case": false}\n')
    keys = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens"}
    rewrite(os.path.join(out, "1_Pooling", "config.json"), lambda _: {
        "word_embedding_dimension": HIDDEN, **{"pooling_mode_" + k: m in modes for m, k in keys.items()}})
    rewrite(os.path.join(out, "modules.json"), lambda _: [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])


def vectors(model, texts, prompt):
    return numpy.stack([model.encode([t], prompt_name=prompt, batch_size=1)[0] for t in texts])


def small(name):
    pooling, modules, prompt, *special = CASES[name]
    out, base = os.path.join(OUT, name), os.path.join(OUT, "base")
    shutil.rmtree(out, ignore_errors=True)
    if modules is None:
        transformer(out, pooling)
    else:
        transformer(base)
        torch.manual_seed(11)
        for m in modules:
            for p in m.parameters():
                torch.nn.init.normal_(p, std=0.4)
        words = Transformer(base, max_seq_length=40)
        more = dict(default_prompt_name="passage", truncate_dim=100) if "default" in special else {}
        model = SentenceTransformer(modules=[words, Pooling(HIDDEN, **pooling), *modules], device="cpu", prompts=PROMPTS, **more)
        model.save(out, create_model_card=False)
        shutil.rmtree(base)
    for extra in ("README.md", "vocab.txt", "special_tokens_map.json"):
        if os.path.exists(os.path.join(out, extra)):
            os.remove(os.path.join(out, extra))
    if "older" in special:
        make_older(out, pooling["pooling_mode"])
    again = SentenceTransformer(out, device="cpu")
    numpy.save(os.path.join(out, "vectors.npy"), vectors(again, TEXTS, prompt).astype(numpy.float32))
    print(name, sorted(os.listdir(out)))


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    if sys.argv[1:2] == ["minilm"]:
        v = vectors(SentenceTransformer(sys.argv[2], device="cpu"), REAL, None)
        numpy.save(os.path.join(OUT, "minilm.npy"), v.astype(numpy.float32))
    else:
        for name in sys.argv[1:] or CASES:
            small(name)
    with open(os.path.join(OUT, "texts.json"), "w") as f:
        json.dump({"reference": f"sentence-transformers {__version__}", "texts": TEXTS, "real": REAL,
                   "prompts": {n: c[2] for n, c in CASES.items() if c[2]}}, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
