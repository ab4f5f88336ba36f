#!/usr/bin/env python3
"""Makes text_models/: small tokenizer.json files, one for each model and option, and words.json: what each makes of words.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_text_models.py [--train]

A tokenizer.json that is there stays as it is, since the library's trainers give other vocabularies from run to run; --train makes them
all anew.  All else comes out as it is committed.

The vocabularies are trained on the texts of make_text.py or drawn from a seed.  The reference is the models of the
tokenizers library, which take a word each: ids and offsets in bytes, or nothing where the library refuses the word.
"""
import json
import os
import random
import shutil
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from make_text import CONTRACTIONS, EMOJI, ENGLISH, NUMBERS, SCRIPTS

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "text_models")
CORPUS = ENGLISH * 4 + CONTRACTIONS + NUMBERS + SCRIPTS[:12]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
FRAME = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
         "pre_tokenizer": None, "post_processor": None, "decoder": None}


def train(model, trainer, corpus=CORPUS):
    tok = Tokenizer(model)
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.train_from_iterator(corpus, trainer)
    return json.loads(tok.to_str())["model"]


def with_tokens(model, tokens):
    for token in tokens:
        model["vocab"].setdefault(token, len(model["vocab"]))
    return model


def bpe(size=160, **more):
    affixes = {k: more[k] for k in ("continuing_subword_prefix", "end_of_word_suffix") if k in more}
    model = train(models.BPE(**affixes), trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>"], limit_alphabet=60, show_progress=False, **affixes))
    model.update(more)
    return model


def bpe_of(alphabet, n, seed):
    """Merges drawn at random: several have the same product, so that the order of merging shows."""
    rng = random.Random(seed)
    tokens, merges = list(alphabet), []
    while len(merges) < n:
        a, b = rng.choice(tokens), rng.choice(tokens)
        if len(a + b) > 6 or [a, b] in merges:
            continue
        merges.append([a, b])
        if a + b not in tokens:
            tokens.append(a + b)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}


def wordpiece(size=260, **more):
    model = train(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=["[UNK]"], limit_alphabet=60, show_progress=False))
    model.update(more)
    return model


def unigram(**more):
    model = train(models.Unigram(), trainers.UnigramTrainer(
        vocab_size=260, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False), ENGLISH[:16])
    model.update(more)
    return model


def unigram_of(alphabet, n, seed, score, **more):
    rng = random.Random(seed)
    tokens = ["<unk>"] + list(alphabet) + ["".join(rng.choice(alphabet + "?!") for _ in range(rng.randrange(2, 5))) for _ in range(n)]
    return {"type": "Unigram", "unk_id": 0, "vocab": [[t, score(rng)] for t in tokens], "byte_fallback": False, **more}


def all_models():
    result = {
        "bpe": bpe(),
        "bpe-unk": bpe(unk_token="<unk>"),
        "bpe-unk-fused": bpe(unk_token="<unk>", fuse_unk=True, dropout=0.0),
        "bpe-bytes": with_tokens(bpe(byte_fallback=True, unk_token="<unk>"), BYTES),
        "bpe-some-bytes": with_tokens(bpe(byte_fallback=True, unk_token="<unk>", fuse_unk=True), BYTES[:0xC4] + BYTES[0xE0:0xF0]),
        "bpe-prefix": bpe(continuing_subword_prefix="##", unk_token="<unk>"),
        "bpe-wide-prefix": bpe(continuing_subword_prefix="\u00e9\u2581"),
        "bpe-suffix": bpe(end_of_word_suffix="</w>", unk_token="<unk>", fuse_unk=True),
        "bpe-affixes-bytes": with_tokens(bpe(continuing_subword_prefix="@", end_of_word_suffix="$", byte_fallback=True), BYTES),
        "bpe-whole": bpe(ignore_merges=True),
        "bpe-missing-unk": bpe(unk_token="<none>"),
        "bpe-ambiguous": bpe_of("abc", 60, 3),
        "bpe-repeats": bpe_of("ab", 30, 4),
        "wordpiece": wordpiece(),
        "wordpiece-short": wordpiece(max_input_chars_per_word=5),
        "wordpiece-no-prefix": wordpiece(continuing_subword_prefix=""),
        "wordpiece-other-prefix": wordpiece(continuing_subword_prefix="\u2581"),
        "wordpiece-missing-unk": wordpiece(unk_token="[NONE]"),
        "word-level": train(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(
            vocab_size=120, special_tokens=["[UNK]"], show_progress=False)),
        "word-level-missing-unk": {"type": "WordLevel", "vocab": {"the": 0, "a": 1}, "unk_token": "[UNK]"},
        "unigram": unigram(),
        "unigram-bytes": unigram(byte_fallback=True),
        "unigram-some-bytes": unigram(byte_fallback=True),
        "unigram-no-unk": unigram(unk_id=None),
        "unigram-ties": unigram_of("abc", 40, 5, lambda rng: float(-rng.randrange(1, 4))),
        "unigram-positive": unigram_of("ab", 40, 6, lambda rng: rng.uniform(11, 20)),
        "unigram-duplicates": unigram_of("abc", 60, 7, lambda rng: rng.uniform(-9, -1)),
        "unigram-other-unk": unigram_of("abc", 30, 8, lambda rng: rng.uniform(-9, -1), unk_id=6),
    }
    for name, model in result.items():  # bytes of unigrams
        if name == "unigram-bytes":
            model["vocab"] += [[b, -9.0] for b in BYTES]
        elif name == "unigram-some-bytes":
            model["vocab"] += [[b, -9.0] for b in BYTES[:0xC4] + BYTES[0xE0:]]
    for name, keys in {"bpe": ["type"], "wordpiece": ["type"], "word-level": ["type"], "unigram": ["type"]}.items():
        legacy = {k: v for k, v in result[name].items() if k not in keys}
        if name == "bpe":
            legacy = {"vocab": legacy["vocab"], "merges": [" ".join(m) for m in legacy["merges"]]}
        result[name + "-legacy"] = legacy
    return result


def words(model, rng):
    vocab = model["vocab"]
    tokens = [t[0] for t in vocab] if isinstance(vocab, list) else list(vocab)
    tokens = [t for t in tokens if not t.startswith("<0x")]
    chars = sorted({c for t in tokens for c in t})
    result = ["a", "the", "<unk>", "[UNK]", "<0x41>", "\u00e9", "\u65e5\u672c", "\u0000", "\U0001f600\U0001f600"]
    for _ in range(60):
        result.append("".join(rng.choice(tokens) for _ in range(rng.randrange(1, 6))))
        result.append("".join(rng.choice(chars) for _ in range(rng.randrange(1, 12))))
        result.append("".join(rng.choice(tokens + ["\u00e9", "\u65e5", "\U0001f600", "q", "?", "\u0301"]) for _ in range(rng.randrange(1, 6))))
    result.append("".join(rng.choice(chars) for _ in range(200)))
    result.append("".join(rng.choice(tokens + ["\u65e5"]) for _ in range(60)))
    return [w for w in dict.fromkeys(result) if w]


def main():
    if "--train" in sys.argv[1:]:
        shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT, exist_ok=True)
    result = {}
    for name, model in all_models().items():
        path = os.path.join(OUT, name + ".json")
        if not os.path.exists(path):
            with open(path, "w") as f:
                json.dump({**FRAME, "model": model}, f, ensure_ascii=True, separators=(",", ":"))
                f.write("\n")
        with open(path) as f:
            model = json.load(f)["model"]
        reference = Tokenizer.from_file(path).model
        rng, cases = random.Random(name), []
        for word in words(model, rng):
            try:
                tokens = [[t.id, *t.offsets] for t in reference.tokenize(word)]
            except Exception:
                tokens = None
            cases.append([word, tokens])
        result[name] = cases
    with open(os.path.join(OUT, "words.json"), "w") as f:
        f.write(json.dumps({"reference": {"tokenizers": tokenizers.__version__}})[:-1] + ',\n"models": {')
        for i, (name, cases) in enumerate(result.items()):
            f.write(("," if i else "") + f"\n{json.dumps(name)}: [\n" +
                    ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]")
        f.write("}}\n")
    print(f"{len(result)} models, {sum(len(c) for c in result.values())} words")


if __name__ == "__main__":
    main()
