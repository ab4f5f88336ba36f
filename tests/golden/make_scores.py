#!/usr/bin/env python3
"""Makes small classifiers, cross-encoders, taggers and masked language models, and what the reference makes of texts with them.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_scores.py

Each directory below tests/golden/scores is a random BERT of one layer behind the vocabulary of single characters that make_sentences.py
has.  expected.json holds, for each, what sentence-transformers' CrossEncoder.rank() or the pipeline of transformers gives, a text at a
time, in float32.
"""
import json
import os
import shutil

import torch
import transformers
from sentence_transformers import CrossEncoder, __version__
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertTokenizerFast,
                          pipeline)

from make_sentences import rewrite, tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "scores")

QUERY = "which bird flies far"
TEXTS = ["a", "The tern is a bird.", "jumps over the lazy dog", "", "one two  three", "Ä 12, 345: x", "the tern flies very far",
         "a bird"]
MASKED = ["a b [MASK]", "[MASK]bc. de", "x [MASK] y [MASK]"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
IDENTITY = "torch.nn.modules.linear.Identity"


def save(name, model, **config):
    out = os.path.join(OUT, name)
    shutil.rmtree(out, ignore_errors=True)
    vocabulary = tokenizer(out)
    BertTokenizerFast.from_pretrained(out, model_max_length=64).save_pretrained(out)
    torch.manual_seed(5)
    made = model(BertConfig(vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=24, max_position_embeddings=64, initializer_range=0.5, **config))
    made.save_pretrained(out)
    os.remove(os.path.join(out, "vocab.txt"))
    return out


def ranks(path):
    return [{"line": r["corpus_id"] + 1, "score": r["score"], "text": r["text"]}
            for r in CrossEncoder(path, device="cpu").rank(QUERY, TEXTS, return_documents=True, batch_size=1)]


def classes(path, first=None):
    run = pipeline("text-classification", path, device="cpu", top_k=None)
    # an empty second text makes no pair for the pipeline (for CrossEncoder it does)
    return [run([{"text": first, "text_pair": t}] if first else [t])[0] for t in TEXTS if t or not first]


def numbers(x):
    if isinstance(x, dict):
        return {k: numbers(v) for k, v in x.items()}
    if isinstance(x, list):
        return [numbers(v) for v in x]
    return float(x) if hasattr(x, "item") else x


def main():
    torch.set_num_threads(1)
    expected = {"reference": f"sentence-transformers {__version__}, transformers {transformers.__version__}", "query": QUERY,
                "texts": TEXTS, "masked": MASKED}
    labels = dict(id2label={0: "dull", 1: "fine", 2: "great"}, label2id={"dull": 0, "fine": 1, "great": 2})
    expected["cross"] = ranks(save("cross", BertForSequenceClassification, num_labels=1))
    older = save("cross-older", BertForSequenceClassification, num_labels=1)
    rewrite(os.path.join(older, "config.json"), lambda c: {**c, "sbert_ce_default_activation_function": IDENTITY})
    expected["cross-older"] = ranks(older)
    model = CrossEncoder(older, device="cpu", max_length=20)
    saved = os.path.join(OUT, "cross-saved")
    shutil.rmtree(saved, ignore_errors=True)
    model.save(saved, create_model_card=False)
    expected["cross-saved"] = ranks(saved)
    expected["classes"] = classes(save("classes", BertForSequenceClassification, **labels))
    expected["pairs"] = classes(os.path.join(OUT, "classes"), QUERY)
    expected["multi"] = classes(save("multi", BertForSequenceClassification, problem_type="multi_label_classification", **labels))
    expected["value"] = classes(save("value", BertForSequenceClassification, problem_type="regression", num_labels=1))
    tags = save("tags", BertForTokenClassification, id2label=dict(enumerate(TAGS)), label2id={t: i for i, t in enumerate(TAGS)})
    for strategy in ("none", "simple"):
        run = pipeline("token-classification", tags, device="cpu", aggregation_strategy=strategy)
        expected[f"tags-{strategy}"] = [run(t) if t else [] for t in TEXTS]
    run = pipeline("fill-mask", save("fill", BertForMaskedLM), device="cpu", top_k=5)
    expected["fill"] = [run(t) for t in MASKED]
    with open(os.path.join(OUT, "expected.json"), "w") as f:
        json.dump(numbers(expected), f, indent=1, ensure_ascii=False)
        f.write("\n")
    print(sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(OUT) for f in fs), "bytes")


if __name__ == "__main__":
    main()
