#!/usr/bin/env python3
"""Makes vocab_files/: directories that hold a vocabulary and no tokenizer.json, and texts.json: what their classes make of texts.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_vocab_files.py

The vocabularies are those of text/gpt2-files and one of words and pieces; the reference is transformers' AutoTokenizer,
or the standard class where a directory names none.
"""
import json
import os
import shutil

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import transformers  # noqa: E402

from make_text import ADDED, CONTRACTIONS, ENGLISH, MARKS, SCRIPTS, SPACES  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "vocab_files")
GPT2 = os.path.join(HERE, "text", "gpt2-files")
TEXTS = ENGLISH[:12] + CONTRACTIONS[:4] + SPACES[::9] + SCRIPTS[::6] + MARKS[::6] + ADDED[::11] + [
    "[CLS] a [SEP] [MASK] b", "the [MASK]", "the <mask> a", "<s>a</s> <pad>", "<|startoftext|>the<|endoftext|>", "Caf\u00e9 \u00c0 LA CARTE",
    "\u65e5\u672c\u8a9e the", "a\u0301 \u0130", "\x1cthe\x1f", "\x1c", "\x1f the \x85 \x1d", "x <cls> y <sep>", "extra <extra> token", "[TOOL]the", "supercalifragilisticexpialidocious"]
PIECES = (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<unk>", "<pad>", "<mask>", "<cls>", "<sep>"] + list("abcdefghijklmnopqrstuvwxyzABCTH.,:;!?'\"()-0123456789") +
          ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"] +
          ["the", "The", "##er", "##ing", "and", "quick", "fox", "##ed", "s", "##s", "caf", "##e", "cafe", "caf\u00e9", "\u00e9", "##\u00e9", "\u65e5", "\u672c", "\u65e5\u672c", "tern", "##n", "in", "white \u00a0"])
PIECES = list(dict.fromkeys(PIECES))


def words(folder):
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(PIECES) + "\n")


def pairs(*more):
    def write(folder):
        with open(os.path.join(GPT2, "vocab.json")) as f:
            vocab = json.load(f)
        for token in more:
            vocab.setdefault(token, len(vocab))
        with open(os.path.join(folder, "vocab.json"), "w") as f:
            json.dump(vocab, f, separators=(",", ":"))
        shutil.copy(os.path.join(GPT2, "merges.txt"), folder)
    return write


def ends(folder):
    """CLIP's kind: characters and merges with an end of the word."""
    pairs(*[c + "</w>" for c in "abcdefghijklmnopqrstuvwxyz.,!?'"], "\u011c</w>", "\u011d</w>", "\u011f</w>", "\u0126</w>", "the</w>", "th", "<|startoftext|>", "<unk>")(folder)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\nt h\nth e</w>\n")


ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
TOKEN = {"__type": "AddedToken", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
FLAGS = {k: v for k, v in TOKEN.items() if k != "__type"}
# name: (files, tokenizer_config.json, config.json, special_tokens_map.json, added_tokens.json, class where none is named)
CASES = {
    "bert-bare": (words, None, None, None, None, "BertTokenizer"),
    "bert-cased": (words, {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}, None, None, None, None),
    "bert-accents": (words, {"strip_accents": False, "tokenize_chinese_chars": False, "tokenizer_class": "BertTokenizerFast"}, None, None, None, None),
    "bert-config": (words, {"do_lower_case": True, "strip_accents": True, "mask_token": {"content": "<mask>", **TOKEN, "lstrip": True}}, {"model_type": "bert"}, None, None, None),
    "bert-tokens": (words, {"tokenizer_class": "BertTokenizer", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": None,
                            "additional_special_tokens": ["[TOOL]", "<extra>"]}, None, None, None, None),
    "bert-map": (words, {"tokenizer_class": "BertTokenizer", "sep_token": "<sep>"}, None, {"sep_token": "</s>", "cls_token": {"content": "<s>", **FLAGS}}, {"[TOOL]": 114}, None),
    "bert-decoder": (words, {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {
        "0": {"content": "[PAD]", **FLAGS, "special": True}, "114": {"content": "<extra>", **FLAGS, "normalized": True, "special": False}}}, None, None, None, None),
    "distilbert": (words, None, {"model_type": "distilbert"}, None, None, None),
    "funnel": (words, {"tokenizer_class": "FunnelTokenizer"}, None, None, None, None),
    "mpnet": (words, {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True}, None, None, None, None),
    "gpt2-bare": (pairs(), None, None, None, None, "GPT2Tokenizer"),
    "gpt2-ends": (pairs(), {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_eos_token": True, "add_prefix_space": True}, None, None, None, None),
    "gpt2-no-end": (pairs(), {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "<mask>", "unk_token": "<unk>"}, None, None, None, None),
    "roberta": (pairs(*ROBERTA), {"tokenizer_class": "RobertaTokenizer"}, None, None, None, None),
    "roberta-spaces": (pairs(*ROBERTA), {"add_prefix_space": True, "trim_offsets": False}, {"model_type": "roberta"}, None, None, None),
    "roberta-mask": (pairs(*ROBERTA), {"tokenizer_class": "RobertaTokenizerFast", "mask_token": {"content": "<mask>", **TOKEN, "lstrip": True}}, None, None, None, None),
    "bart": (pairs(*ROBERTA), {"tokenizer_class": "BartTokenizer"}, None, None, None, None),
    "blenderbot": (pairs(*ROBERTA), {"tokenizer_class": "BlenderbotTokenizer"}, None, None, None, None),
    "deberta": (pairs("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"), {"tokenizer_class": "DebertaTokenizer"}, None, None, None, None),
    "clip": (ends, {"tokenizer_class": "CLIPTokenizer"}, None, None, None, None),
    "openai": (ends, {"tokenizer_class": "OpenAIGPTTokenizer"}, None, None, None, None),
    "codegen": (pairs(), {"tokenizer_class": "CodeGenTokenizer"}, None, None, None, None),
    "neox": (pairs(), {"tokenizer_class": "GPTNeoXTokenizer"}, None, None, None, None),
    "qwen2": (pairs(), {"tokenizer_class": "Qwen2Tokenizer"}, None, None, None, None),
    "cohere": (pairs(), {"tokenizer_class": "CohereTokenizer"}, None, None, None, None),
}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    result = {}
    for name, (files, config, model, special, added, cls) in CASES.items():
        folder = os.path.join(OUT, name)
        os.makedirs(folder)
        files(folder)
        for file, value in (("tokenizer_config.json", config), ("config.json", model), ("special_tokens_map.json", special), ("added_tokens.json", added)):
            if value is not None:
                with open(os.path.join(folder, file), "w") as f:
                    json.dump(value, f)
        named = cls or (config or {}).get("tokenizer_class")
        tok = (getattr(transformers, named) if named else transformers.AutoTokenizer).from_pretrained(folder)
        backend, cases = tok.backend_tokenizer, []
        for text in TEXTS:
            e = backend.encode(text)
            cases.append([e.ids, [list(o) for o in e.offsets], backend.decode(e.ids, skip_special_tokens=True)])
        pair = backend.encode("the quick", "fox the")
        result[name] = {"class": type(tok).__name__, "pair": [pair.ids, pair.type_ids], "cases": cases}
        print(name, type(tok).__name__)
    with open(os.path.join(OUT, "texts.json"), "w") as f:
        f.write(json.dumps({"reference": {"transformers": transformers.__version__}, "texts": TEXTS})[:-1] + ',\n"folders": {\n')
        f.write(",\n".join(f"{json.dumps(n)}: {{\"class\": \"{r['class']}\", \"pair\": {json.dumps(r['pair'], separators=(',', ':'))}, \"cases\": [\n" +
                           ",\n".join(json.dumps(c, separators=(",", ":")) for c in r["cases"]) + "]}" for n, r in result.items()) + "}}\n")


if __name__ == "__main__":
    main()
