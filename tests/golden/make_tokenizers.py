#!/usr/bin/env python3
"""Makes tokenizers/: small tokenizer.json files in which every component and option occurs, and what the tokenizers
library makes of many texts with them, as digests.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_tokenizers.py [--train] [NAME ...]

A tokenizer.json that is there stays as it is, since the library's trainers give other vocabularies from run to run; --train makes it
anew.  All else comes out as it is committed.

digests.json has, for each tokenizer: one number for each text of nasty.json (and, with the texts taken in pairs, one
for each pair), for each list of ids drawn at random, and for the first n of 100,000 random texts.  A number is a hash of
ids, offsets, type ids and attention mask, and of the text that the ids become (tests/text/tokenizer_digest.h has the
same in C).  Vocabularies that nobody here made are read from ../shared/data/tokenizers, where that is there, and only
their digests are kept.  To see what the library says about one text:

    build/golden-env/bin/python tests/golden/make_tokenizers.py --show NAME TEXT [TEXT]
"""
import base64
import json
import os
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_text import CONTRACTIONS, ENGLISH, NUMBERS, SCRIPTS
from nasty import NASTY

assert tokenizers.__version__ == "0.23.3"
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "tokenizers")
SHARED = os.path.join(os.path.dirname(os.path.dirname(HERE)), "..", "shared", "data")
CORPUS = ENGLISH * 3 + CONTRACTIONS + NUMBERS + SCRIPTS
MARKS = [100, 1000, 10000, 100000]
M64 = (1 << 64) - 1
N, P, D, X, M = normalizers, pre_tokenizers, decoders, processors, models

# ---- the same generator and hash as in tests/text/tokenizer_digest.h -------------------------------------------------


class Random:
    """splitmix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & M64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
        return z ^ (z >> 31)

    def below(self, n):
        return (self.next() >> 32) % n


def assigned():
    with open(os.path.join(OUT, "assigned13.txt")) as f:
        return [tuple(int(x, 16) for x in line.split()) for line in f if not line.startswith("#")]


ASSIGNED = assigned()
PLAIN = " \t\n  aeinotsrABCxyz019.,-'\u2581\u0301\u0327\u3099\u00e9\u00df\u0130\ufb01\u2126\uac00\u1100\u1161\u11a8"


def random_text(rng):
    out = []
    for _ in range(1 + rng.below(14)):
        if rng.below(3) == 0:
            out.append(PLAIN[rng.below(len(PLAIN))])
        else:
            first, last = ASSIGNED[rng.below(len(ASSIGNED))]
            out.append(chr(first + rng.below(last - first + 1)))
    return "".join(out)


def mix(h, values):
    for x in values:
        h = ((h ^ x) * 0x9E3779B97F4A7C15) & M64
        h ^= h >> 29
    return h


def digest(tok, text, pair=None, h=0):
    try:
        e = tok.encode(text) if pair is None else tok.encode(text, pair)
    except Exception:  # truncation cannot shorten these
        return mix(h, [0xFFFFFFFF])
    values = [len(e.ids)]
    for token in zip(e.ids, (o[0] for o in e.offsets), (o[1] for o in e.offsets), e.type_ids, e.attention_mask):
        values.extend(token)
    return mix(h, values + decoded(tok, e.ids, False) + decoded(tok, e.ids, True))


def decoded(tok, ids, skip):
    text = tok.decode(ids, skip_special_tokens=skip).encode()
    return [len(text)] + list(text)


# ---- tokenizers ------------------------------------------------------------------------------------------------------

BYTES = [f"<0x{i:02X}>" for i in range(256)]


def trained(model, trainer, normalizer=None, pre=None, corpus=CORPUS):
    tok = Tokenizer(model)
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre or P.WhitespaceSplit()
    tok.train_from_iterator(corpus, trainer)
    return json.loads(tok.to_str())["model"]


def bpe(size=300, alphabet=120, special=("<unk>",), bytes_=False, normalizer=None, pre=None, **more):
    affixes = {k: more[k] for k in ("continuing_subword_prefix", "end_of_word_suffix") if k in more}
    model = trained(M.BPE(unk_token=more.get("unk_token"), **affixes), trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), limit_alphabet=alphabet, show_progress=False, **affixes), normalizer, pre)
    model.update(more)
    return with_bytes(model) if bytes_ else model


def byte_bpe(size=400, special=("<s>", "</s>", "<pad>"), **more):
    model = trained(M.BPE(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=sorted(P.ByteLevel.alphabet()), show_progress=False),
        None, P.ByteLevel(add_prefix_space=False))
    model.update(more)
    return model


def with_bytes(model):
    for token in BYTES:
        model["vocab"].setdefault(token, len(model["vocab"]))
    model["byte_fallback"] = True
    return model


def wordpiece(size=300, normalizer=None, pre=None, prefix="##", **more):
    model = trained(M.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=90,
        show_progress=False, continuing_subword_prefix=prefix), normalizer, pre)
    model.update(more, continuing_subword_prefix=prefix)
    return model


def word_level(size=200, pre=None):
    return trained(M.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(
        vocab_size=size, special_tokens=["<unk>", "<pad>", "|"], show_progress=False), None, pre)


def unigram(size=300, bytes_=False, normalizer=None, pre=None, special=("<unk>", "<s>", "</s>")):
    model = trained(M.Unigram(), trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False), normalizer,
        pre or P.Metaspace(), CORPUS[:110])
    if bytes_:
        model["vocab"] += [[token, -30.0] for token in BYTES]
        model["byte_fallback"] = True
    return model


def letters():
    """Every character is an unknown token: offsets of normalised text, one by one."""
    return {"type": "BPE", "unk_token": "<unk>", "fuse_unk": False, "vocab": {"<unk>": 0, "\u2581": 1}, "merges": []}


def charsmap():
    """SentencePiece's own compiler makes a table of rules; among them some that are longer, shorter and nothing."""
    rules = os.path.join("/tmp", "tern-golden-rules.tsv")
    corpus = os.path.join("/tmp", "tern-golden-corpus.txt")
    prefix = os.path.join("/tmp", "tern-golden-spm")
    pairs = [("\ufb01", "fi"), ("\u2126", "\u03a9"), ("A\u030a", "\u00c5"), ("e\u0301", "\u00e9"), ("\u00ad", ""), ("\u200b", ""),
             ("\u3000", " "), ("\u00a0", " "), ("\u00bd", "1/2"), ("\u3392", "MHz"), ("\u1e9b\u0323", "\u1e69"), ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647"),
             ("\u01c4", "D\u017d"), ("\u212b", "\u00c5"), ("\uff21", "A"), ("\uff42", "b"), ("\t", " "), ("\n", " "), ("\u0130", "i"),
             ("\u1100\u1161", "\uac00"), ("\u0915\u093c", "\u0958"), ("x\u0301", "X"), ("\u2581", "_"), ("\u0041\u0042", "ab"), ("\U0001d400", "A")]
    with open(rules, "w") as f:
        for a, b in pairs:
            f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
    with open(corpus, "w") as f:
        f.write("\n".join(t.replace("\n", " ") for t in ENGLISH * 3 if t.strip() and t.isascii()))
    sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=prefix, vocab_size=120, normalization_rule_tsv=rules,
                                             hard_vocab_limit=False, minloglevel=2)
    with open(prefix + ".model", "rb") as f:
        table = field(field(f.read(), 3), 2)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def field(message, wanted):
    """The bytes of a field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            varint()
        elif key & 7 == 5:
            at += 4
        else:
            size = varint()
            at += size
            if key >> 3 == wanted:
                return message[at - size:at]
    raise KeyError(wanted)


def part(component):
    """A component as tokenizer.json writes it."""
    if component is None or isinstance(component, dict):
        return component
    tok = Tokenizer(M.BPE())
    name = {"normalizers": "normalizer", "pre_tokenizers": "pre_tokenizer", "decoders": "decoder",
            "processors": "post_processor"}[type(component).__module__.split(".")[-1]]
    setattr(tok, name, component)
    return json.loads(tok.to_str())[name]


def make(model, normalizer=None, pre=None, post=None, decoder=None, tokens=(), truncation=None, padding=None):
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {t: i for i, (t, _) in enumerate(vocab)}
    entries, following = [], len(ids)
    for token in tokens:
        token = dict({"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}, **token)
        if token["content"] in ids:
            number = ids[token["content"]]
        else:
            number, following = following, following + 1
        entries.append(dict(id=number, **token))
    return {"version": "1.0", "truncation": truncation, "padding": padding, "added_tokens": entries, "normalizer": part(normalizer),
            "pre_tokenizer": part(pre), "post_processor": part(post), "decoder": part(decoder), "model": model}


def special(*names):
    return [{"content": n} for n in names]


ZOO = [{"content": "<one>", "single_word": True}, {"content": "<left>", "lstrip": True}, {"content": "<right>", "rstrip": True},
       {"content": "<both>", "lstrip": True, "rstrip": True, "special": False}, {"content": "Norm Al", "normalized": True, "special": False},
       {"content": "the", "normalized": True, "single_word": True, "special": False}, {"content": " of", "special": False},
       {"content": "caf\u00e9", "normalized": True, "special": False, "rstrip": True}, {"content": "<one><left>", "special": False},
       {"content": "\u0130X", "normalized": True, "special": True}]
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SCRIPTED = r"\p{Han}+|[\p{Hiragana}\p{Katakana}]+|\p{Greek}+|\d+|[^\s\w]+|\w+|\s"


def bert_template(cls, sep):
    return X.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
                                special_tokens=[("[CLS]", cls), ("[SEP]", sep)])


def limits(max_length, strategy="LongestFirst", stride=0, direction="Right"):
    return {"direction": direction, "max_length": max_length, "strategy": strategy, "stride": stride}


def pads(strategy, multiple=None, direction="Right", pad_id=0, type_id=0, token="[PAD]"):
    return {"strategy": strategy, "direction": direction, "pad_to_multiple_of": multiple, "pad_id": pad_id, "pad_type_id": type_id,
            "pad_token": token}


LLAMA_DECODER = D.Sequence([D.Replace("\u2581", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])


def table():
    llama = bpe(special=("<unk>", "<s>", "</s>"), bytes_=True, unk_token="<unk>", fuse_unk=True,
                normalizer=N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")]), pre=P.Metaspace())
    llama_post = X.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    rules = charsmap()
    small = byte_bpe()
    uncased = wordpiece(normalizer=N.BertNormalizer(), pre=P.BertPreTokenizer())
    cased = wordpiece(pre=P.BertPreTokenizer())
    pieces = unigram()
    out = {}
    out["bert"] = make(uncased, N.BertNormalizer(), P.BertPreTokenizer(), X.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
                       D.WordPiece("##", True), special("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    out["bert-options"] = make(
        cased, N.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=False),
        P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous"), P.Digits(False)]), bert_template(2, 3),
        D.WordPiece("##", False), special("[PAD]", "[CLS]", "[SEP]") + ZOO, limits(24, stride=2),
        pads("BatchLongest", 8, "Left"))
    out["bert-lower"] = make(uncased, N.BertNormalizer(handle_chinese_chars=False, strip_accents=False), P.BertPreTokenizer(),
                             X.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), D.WordPiece("##", True), special("[CLS]", "[SEP]"),
                             limits(7, direction="Left"), pads({"Fixed": 16}, pad_id=0))
    out["gpt2"] = make(small, None, P.ByteLevel(True, trim_offsets=True), X.ByteLevel(trim_offsets=True, add_prefix_space=True),
                       D.ByteLevel(), special("<s>") + ZOO)
    out["gpt2-untrimmed"] = make(small, None, P.ByteLevel(False), X.ByteLevel(trim_offsets=False), D.ByteLevel(), special("</s>"))
    out["roberta"] = make(small, N.NFC(), P.ByteLevel(True), X.RobertaProcessing(("</s>", 1), ("<s>", 0), True, True), D.ByteLevel(),
                          special("<s>", "</s>", "<pad>") + [{"content": "<mask>", "lstrip": True}])
    out["roberta-bare"] = make(small, N.NFKD(), P.ByteLevel(False), X.RobertaProcessing(("</s>", 1), ("<s>", 0), True, False),
                               D.ByteLevel(), special("<s>", "</s>"), limits(9, "OnlyFirst"), pads({"Fixed": 20}, None, "Right", 2, 1))
    out["llama"] = make(llama, N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")]), None, llama_post, LLAMA_DECODER,
                        special("<unk>", "<s>", "</s>") + ZOO)
    out["llama-first"] = make(llama, None, P.Metaspace(prepend_scheme="first", split=False), llama_post, LLAMA_DECODER,
                              special("<unk>", "<s>", "</s>") + ZOO)
    out["llama3"] = make(byte_bpe(ignore_merges=True), None,
                         P.Sequence([P.Split(Regex(CL100K), "isolated", False), P.ByteLevel(False, use_regex=False)]),
                         X.Sequence([X.ByteLevel(trim_offsets=True, add_prefix_space=False),
                                     X.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])]),
                         D.ByteLevel(), special("<s>", "</s>"))
    out["t5"] = make(pieces, rules, P.Metaspace(), X.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]), D.Metaspace(), special("<unk>", "</s>"))
    out["albert"] = make(pieces, {"type": "Sequence", "normalizers": [
        part(N.Replace("``", '"')), part(N.NFKD()), part(N.StripAccents()), part(N.Lowercase()), rules,
        part(N.Replace(Regex(" {2,}"), " "))]}, P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), None, D.Metaspace(),
        special("<unk>"))
    out["nmt"] = make(unigram(bytes_=True), N.Sequence([N.Nmt(), N.NFKC(), N.Strip()]), P.Metaspace(prepend_scheme="never"), None,
                      D.Sequence([D.ByteFallback(), D.Metaspace(prepend_scheme="never")]), special("<unk>"))
    old = {"type": "Metaspace", "replacement": "\u2581", "str_rep": "\u2581", "add_prefix_space": True}
    out["metaspace-old"] = make(pieces, None, old, None, dict(old), special("<unk>"))
    out["metaspace-places"] = make(pieces, N.NFKD(), P.Sequence([P.Digits(True), P.Metaspace(prepend_scheme="first")]),
                                   X.ByteLevel(trim_offsets=True, add_prefix_space=True), D.Metaspace(prepend_scheme="first"), special("<unk>"))
    out["clip"] = make(byte_bpe(), N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]),
                       P.Sequence([P.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", True),
                                   P.ByteLevel(False)]),
                       X.RobertaProcessing(("</s>", 1), ("<s>", 0), False, False), D.ByteLevel(), special("<s>", "</s>"))
    out["words"] = make(word_level(pre=P.Whitespace()), N.Strip(True, False), P.Whitespace(), None, None, special("<unk>"),
                        limits(9, "OnlyFirst", 0, "Left"), pads({"Fixed": 12}, None, "Left", 1, 2))
    out["ctc"] = make(word_level(pre=P.CharDelimiterSplit("e")), N.Strip(False, True), P.CharDelimiterSplit("e"), None,
                      D.CTC("<pad>", "|", True), special("<pad>"))
    out["bpe-suffix"] = make(bpe(unk_token="<unk>", end_of_word_suffix="</w>", normalizer=N.Lowercase(), pre=P.BertPreTokenizer()),
                             N.Lowercase(), P.BertPreTokenizer(), None, D.BPEDecoder("</w>"), special("<unk>"))
    out["scripts"] = make(pieces, N.Replace(" ", "\u2581"), P.UnicodeScripts(), None,
                          D.Sequence([D.Metaspace(), D.Fuse(), D.Strip("e", 2, 0)]), special("<unk>"))
    chars = letters()
    out["behaviours"] = make(bpe(unk_token="<unk>"), None, P.Sequence([
        P.Split(Regex("[aeiou]"), "merged_with_previous", False), P.Punctuation("contiguous"), P.Split(" ", "merged_with_next", False),
        P.Split("n", "isolated", True)]), None, D.Fuse(), special("<unk>"))
    out["behaviours-2"] = make(bpe(unk_token="<unk>", fuse_unk=True), None, P.Sequence([
        P.Split(Regex(SCRIPTED), "contiguous", True), P.Split("the", "removed", False), P.Punctuation("merged_with_next"),
        P.Split(Regex(r"(?<=x)|o"), "merged_with_next", True)]), None,
        D.Sequence([D.Replace(Regex("[0-9]+"), "#"), D.Fuse()]), special("<unk>"))
    out["byte-normalizer"] = make(byte_bpe(), N.Sequence([N.ByteLevel()]), P.Split(Regex("\u0120?[A-Za-z]+|\u0120"), "isolated", False),
                                  X.ByteLevel(trim_offsets=True), D.ByteLevel(), special("<s>"))
    out["after-bytes"] = make(byte_bpe(), None, P.Sequence([P.ByteLevel(True), P.Punctuation("isolated"), P.Digits(True),
                                                            P.Split("\u0120", "removed", False)]),
                              X.Sequence([X.ByteLevel(trim_offsets=True, add_prefix_space=True),
                                          X.RobertaProcessing(("</s>", 1), ("<s>", 0), False, True)]), D.ByteLevel(), special("<s>"))
    out["bpe-prefix"] = make(bpe(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=True), N.NFC(),
                             P.Sequence([P.Punctuation("removed"), P.WhitespaceSplit()]), X.RobertaProcessing(("<unk>", 0), ("<unk>", 0), False, True),
                             D.Sequence([D.Replace("##", ""), D.Strip("e", 0, 1)]), special("<unk>"), limits(8, "OnlySecond"))
    out["wordpiece-short"] = make(wordpiece(pre=P.Whitespace(), prefix="@", max_input_chars_per_word=6), N.StripAccents(), P.Whitespace(),
                                  X.ByteLevel(trim_offsets=False, add_prefix_space=False), D.WordPiece("@", True), special("[UNK]", "[SEP]"),
                                  limits(10, stride=3), pads("BatchLongest", None, "Left", 0, 3))
    out["ctc-plain"] = make(word_level(pre=P.CharDelimiterSplit(" ")), None,
                            P.Sequence([P.CharDelimiterSplit(" "), P.ByteLevel(False, trim_offsets=False)]),
                            X.RobertaProcessing(("|", 2), ("<pad>", 1), False, True), D.CTC("<pad>", "|", False), special("<unk>", "<pad>"))
    out["nfc"] = make(chars, N.NFC())
    out["nfd"] = make(chars, N.NFD(), P.Metaspace(split=False))
    out["nfkc"] = make(chars, N.Sequence([N.NFKC(), N.Lowercase()]))
    out["nfkd"] = make(chars, N.Sequence([N.NFKD(), N.StripAccents()]))
    out["chars-bert"] = make(chars, N.BertNormalizer(strip_accents=True), P.FixedLength(3))
    out["chars-map"] = make(chars, {"type": "Sequence", "normalizers": [rules, part(N.Nmt()), part(N.Strip()), part(N.Prepend("\u2581>"))]})
    out["chars-replace"] = make(chars, N.Sequence([N.Replace(Regex("[aeiou]|(?=n)"), "<>"), N.Replace(Regex("\\s"), ""),
                                                   N.Replace(".", "...")]))
    return out


SHARED_NAMES = ["gpt2/tokenizer.json", "roberta-base/tokenizer.json", "falcon/tokenizer.json", "t5-small/tokenizer.json"]
# added-tokens/tokenizer.json is left out: the library does not read its merges


def digests(tok):
    size = tok.get_vocab_size()
    out = {"size": size, "nasty": ["%016x" % digest(tok, t) for t in NASTY],
           "pairs": ["%016x" % digest(tok, a, b) for a, b in zip(NASTY, NASTY[1:])], "ids": [], "random": {}}
    rng = Random(7)
    for i in range(200):
        ids = [rng.below(size) for _ in range(rng.below(20))]
        # the library fails on nothing at all, or on a strip of more than there is; nobody decodes that
        out["ids"].append("%016x" % mix(0, decoded(tok, ids, i % 2 == 1)))
    rng, h, last = Random(13), 0, ""
    for i in range(MARKS[-1]):
        text = random_text(rng)
        h = digest(tok, text, last if i % 4 == 3 else None, h)
        last = text
        if i + 1 in MARKS:
            out["random"][str(i + 1)] = "%016x" % h
    return out


def save(path, kept):
    with open(path, "w") as f:
        json.dump(kept, f, indent=0)
        f.write("\n")
    print(list(kept)[-1], flush=True)


def main():
    names = sys.argv[1:]
    if names and names[0] == "--show":
        path = os.path.join(OUT, names[1] + ".json")
        tok = Tokenizer.from_file(path if os.path.exists(path) else os.path.join(SHARED, "tokenizers", names[1]))
        e = tok.encode(*names[2:])
        for row in zip(e.ids, e.tokens, e.offsets, e.type_ids, e.attention_mask):
            print(*row)
        print(repr(tok.decode(e.ids, skip_special_tokens=False)))
        return
    train = "--train" in names
    names = [name for name in names if name != "--train"]
    path = os.path.join(OUT, "digests.json")
    kept = {}
    if names and os.path.exists(path):
        with open(path) as f:
            kept = json.load(f)
    with open(os.path.join(OUT, "nasty.json"), "w") as f:
        json.dump(NASTY, f, indent=0)
        f.write("\n")
    tokenizers_made = table()
    for name, file in tokenizers_made.items():
        if names and name not in names:
            continue
        text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
        own = os.path.join(OUT, name + ".json")
        if train or not os.path.exists(own):
            with open(own, "w") as f:
                f.write(text + "\n")
        with open(own) as f:
            text = f.read()
        kept[name] = digests(Tokenizer.from_str(text))
        save(path, kept)
    for name in SHARED_NAMES:
        file = os.path.join(SHARED, "tokenizers", name)
        if os.path.exists(file) and (not names or name in names):
            tok = Tokenizer.from_file(file)
            kept[name] = digests(tok)
            with open(os.path.join(SHARED, "unicode", "blns.json")) as f:
                kept[name]["blns"] = "%016x" % mix(0, [digest(tok, t) >> 32 for t in json.load(f)])
            save(path, kept)
    save(path, {name: kept[name] for name in [*tokenizers_made, *SHARED_NAMES] if name in kept})


if __name__ == "__main__":
    main()
