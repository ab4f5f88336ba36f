#!/usr/bin/env python3
"""Makes tokenizers/digests_files.json: digests as in digests.json, for files of ../shared/data/tokenizers that are no tokenizer.json.

Run, from the root of the repository, in the environment that tests/golden/README.md describes, with names or for all:

    build/golden-env/bin/python tests/golden/make_shared_files.py

A SentencePiece model is what the sentencepiece library makes of it, a bare vocab.txt transformers' BertTokenizer.  Of
FOLDERS only the files that are named are opened, in a folder of their own with the tokenizer_config.json that is given.
"""
import json
import os
import shutil
import sys
import tempfile
from types import SimpleNamespace

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from make_tokenizers import OUT, SHARED, digest, digests, mix  # noqa: E402

NAMES = ["open_llama_3b/tokenizer.model", "sentencepiece-test/test_model.model", "sentencepiece-test/test_ja_model.model",
         "bert-base-uncased/."]
FOLDERS = {"bert-base-cased/cased": (["vocab.txt"], {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
           "gpt2/files": (["vocab.json", "merges.txt"], {}),
           "roberta-base/files": (["vocab.json", "merges.txt"], {"tokenizer_class": "RobertaTokenizer"})}


class Pieces:
    """The sentencepiece library with the tokenizers library's face."""

    def __init__(self, path):
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_file=path)

    def get_vocab_size(self):
        return self.model.get_piece_size()

    def encode(self, *texts):
        e = SimpleNamespace(ids=[], offsets=[], type_ids=[], attention_mask=[])
        for i, text in enumerate(texts):
            one = self.model.encode(text, return_type="offset_mapping")
            e.ids += one["ids"]
            e.offsets += one["offsets"]
            e.type_ids += [i] * len(one["ids"])
            e.attention_mask += [1] * len(one["ids"])
        return e

    def decode(self, ids, skip_special_tokens=False):
        return self.model.decode(ids)


def opened(path):
    if path.endswith("."):
        import transformers

        return transformers.BertTokenizer.from_pretrained(path[:-2]).backend_tokenizer
    return Pieces(path)


def opened_folder(name):
    """What AutoTokenizer makes of the files; GPT2Tokenizer where no class is named."""
    import transformers

    files, config = FOLDERS[name]
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(os.path.join(SHARED, "tokenizers", os.path.dirname(name), file), folder)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump(config, f)
        cls = transformers.AutoTokenizer if config else transformers.GPT2Tokenizer
        return cls.from_pretrained(folder).backend_tokenizer


def main():
    path, kept = os.path.join(OUT, "digests_files.json"), {}
    if sys.argv[1:] and os.path.exists(path):
        with open(path) as f:
            kept = json.load(f)
    for name in sys.argv[1:] or NAMES + list(FOLDERS):
        tok = opened_folder(name) if name in FOLDERS else opened(os.path.join(SHARED, "tokenizers", name))
        one = digests(tok)
        if name in FOLDERS:
            one["files"], one["tokenizer_config"] = FOLDERS[name][0], json.dumps(FOLDERS[name][1])
        with open(os.path.join(SHARED, "unicode", "blns.json")) as f:
            one["blns"] = "%016x" % mix(0, [digest(tok, t) >> 32 for t in json.load(f)])
        kept[name] = one
        with open(path, "w") as f:
            json.dump(kept, f, indent=0)
            f.write("\n")
        print(name, flush=True)


if __name__ == "__main__":
    main()
