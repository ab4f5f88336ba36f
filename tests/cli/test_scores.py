#!/usr/bin/env python3
# labels: quick
"""tern rerank, classify and fill against sentence-transformers and transformers (tests/golden/make_scores.py).

    TERN=build/tern python3 tests/cli/test_scores.py
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
SCORES = os.path.join(SOURCE, "tests", "golden", "scores")
with open(os.path.join(SCORES, "expected.json"), encoding="utf-8") as f:
    GOLDEN = json.load(f)
TOLERANCE = 2e-6  # of probabilities and logits of size 1: both compute in float32, tern prints six digits where people read


def run(*arguments, lines=None, code=0):
    text = "".join(t + "\n" for t in lines or [])
    r = subprocess.run([TERN, *arguments, "-q"], input=text, capture_output=True, encoding="utf-8", timeout=100)
    if r.returncode != code:
        raise AssertionError(f"{arguments}: exit code {r.returncode}, expected {code}: {r.stderr}")
    return r.stdout if code == 0 else r.stderr


def objects(*arguments, **more):
    return [json.loads(line) for line in run(*arguments, "--json", **more).splitlines()]


class Scores(unittest.TestCase):
    def near(self, a, b):
        self.assertLessEqual(abs(a - b), TOLERANCE, (a, b))

    def rank(self, name, *more):
        got = objects("rerank", os.path.join(SCORES, name), "-p", GOLDEN["query"], *more, lines=GOLDEN["texts"])
        self.assertEqual([g["line"] for g in got], [w["line"] for w in GOLDEN[name]])
        for g, w in zip(got, GOLDEN[name]):
            self.assertEqual(g["text"], w["text"])
            self.near(g["score"], w["score"])
        return got

    def test_a_sigmoid_where_no_file_names_an_activation(self):
        got = self.rank("cross")
        self.assertTrue(all(0 < g["score"] < 1 and g["score"] != g["logit"] for g in got))
        raw = objects("rerank", os.path.join(SCORES, "cross"), "-p", GOLDEN["query"], "--raw", lines=GOLDEN["texts"])
        self.assertEqual([g["logit"] for g in got], [r["score"] for r in raw])

    def test_the_activation_of_an_older_config(self):
        self.assertTrue(all(g["score"] == g["logit"] for g in self.rank("cross-older")))

    def test_the_activation_and_the_length_of_a_saved_cross_encoder(self):
        """Its tokenizer's model_max_length is 20: pairs are cut there, the longer text first, as the library does unasked."""
        self.rank("cross-saved", "--cut")
        error = run("rerank", os.path.join(SCORES, "cross-saved"), "-p", GOLDEN["query"], lines=GOLDEN["texts"], code=1)
        self.assertIn("the model reads at most 20; with cut (--cut)", error)

    def test_text_output(self):
        lines = run("rerank", os.path.join(SCORES, "cross"), "-p", GOLDEN["query"], "-n", "3", lines=GOLDEN["texts"]).splitlines()
        self.assertEqual(lines, [f'{w["score"]:.6f}\t{w["line"]}\t{w["text"]}' for w in GOLDEN["cross"][:3]])

    def classes(self, name, want, *more):
        texts = [t for t in GOLDEN["texts"] if t or not more]
        got = objects("classify", os.path.join(SCORES, name), *more, lines=texts)
        plain = run("classify", os.path.join(SCORES, name), *more, lines=texts).splitlines()
        self.assertEqual(len(got), len(want))
        for g, w, line in zip(got, want, plain):
            key = "probability" if "probability" in g[0] else "score"
            best = max(g, key=lambda x: x[key])
            self.assertEqual(best["label"], w[0]["label"])
            self.assertEqual(line.split("\t")[1], w[0]["label"])
            self.near(float(line.split("\t")[0]), w[0]["score"])
            wanted = {x["label"]: x["score"] for x in w}
            self.assertEqual({x["label"] for x in g}, set(wanted))
            for x in g:
                self.near(x[key], wanted[x["label"]])

    def test_labels(self):
        self.classes("classes", GOLDEN["classes"])
        self.classes("classes", GOLDEN["pairs"], "--pair", GOLDEN["query"])
        self.classes("multi", GOLDEN["multi"])
        self.classes("value", GOLDEN["value"])

    def test_entities(self):
        for option, key in (([], "tags-simple"), (["--tokens"], "tags-none")):
            got = objects("classify", os.path.join(SCORES, "tags"), *option, lines=GOLDEN["texts"])
            self.assertEqual(len(got), len(GOLDEN["texts"]))
            self.assertGreater(sum(map(len, got)), 30)
            for text, g, w in zip(GOLDEN["texts"], got, GOLDEN[key]):
                self.assertEqual([(x["label"], x["begin"], x["end"], x["text"]) for x in g],
                                 [(x.get("entity") or x["entity_group"], x["start"], x["end"], text[x["start"]:x["end"]])
                                  for x in w])
                for a, b in zip(g, w):
                    self.near(a["probability"], b["score"])
            plain = run("classify", os.path.join(SCORES, "tags"), *option, lines=GOLDEN["texts"]).splitlines()
            self.assertEqual([line.split("\t")[0] for line in plain],
                             [str(i + 1) for i, g in enumerate(got) for _ in g])

    def test_missing_words(self):
        got = objects("fill", os.path.join(SCORES, "fill"), lines=GOLDEN["masked"])
        for g, w in zip(got, GOLDEN["fill"]):
            w = w if isinstance(w[0], list) else [w]
            self.assertEqual([[(x["id"], x["token"], x["text"]) for x in m] for m in g],
                             [[(x["token"], x["token_str"], x["sequence"]) for x in m] for m in w])
            for a, b in zip((x for m in g for x in m), (x for m in w for x in m)):
                self.near(a["probability"], b["score"])
        self.assertIn("text 2 has no mask token", run("fill", os.path.join(SCORES, "fill"), lines=["[MASK]", "a"], code=1))

    def test_alone_and_together(self):
        for command, name, more, texts in (("classify", "classes", ["--json"], GOLDEN["texts"]),
                                           ("classify", "tags", ["--json"], GOLDEN["texts"]),
                                           ("fill", "fill", ["--json"], GOLDEN["masked"] * 12)):
            together = run(command, os.path.join(SCORES, name), *more, lines=texts).splitlines()
            self.assertEqual(together[:3], [run(command, os.path.join(SCORES, name), *more, lines=[t]).strip() for t in texts[:3]])
            self.assertEqual(len(together), len(texts))

    def test_commands_that_do_not_fit_the_model(self):
        for command, name, more, code, words in (
                ("rerank", "classes", ["-p", "a"], 3, "the model scores 3 labels, expected a cross-encoder"),
                ("rerank", "tags", ["-p", "a"], 3, "BertForTokenClassification gives no scores of labels for a text"),
                ("classify", "fill", [], 3, "BertForMaskedLM gives no scores of labels for a text"),
                ("classify", "classes", ["--tokens"], 2, "--tokens is for labels of tokens"),
                ("classify", "tags", ["--pair", "a"], 2, "--pair is for labels of texts"),
                ("fill", "tags", [], 3, "BertForTokenClassification gives no scores of missing words")):
            self.assertIn(words, run(command, os.path.join(SCORES, name), *more, lines=["a"], code=code))

    def test_what_a_cross_encoder_may_not_say(self):
        def copy(folder, **files):
            for name in os.listdir(os.path.join(SCORES, "cross-saved")):
                with open(os.path.join(SCORES, "cross-saved", name), "rb") as f:
                    data = f.read()
                with open(os.path.join(folder, name), "wb") as f:
                    f.write(files.get(name.split(".")[0], lambda x: x)(data))

        def change(**fields):
            return lambda data: json.dumps({**json.loads(data), **fields}).encode()

        modules = [{"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                   {"name": "1", "path": "", "type": "sentence_transformers.cross_encoder.modules.LogitScore"}]
        for files, code, words in (
                (dict(config_sentence_transformers=change(activation_fn="torch.nn.modules.activation.Tanh")), 3,
                 'activation_fn is "torch.nn.modules.activation.Tanh"'),
                (dict(config_sentence_transformers=change(activation_fn="mine.Sigmoid")), 3, 'activation_fn is "mine.Sigmoid"'),
                (dict(config_sentence_transformers=change(activation_fn=7)), 1, '"activation_fn" is 7'),
                (dict(config_sentence_transformers=change(default_prompt_name="a", prompts={"a": "b"})), 3,
                 'default_prompt_name is "a"'),
                (dict(config=change(sentence_transformers=[]), config_sentence_transformers=change(activation_fn=None)), 1,
                 '"sentence_transformers" is an array'),
                (dict(modules=lambda _: json.dumps(modules).encode()), 3, "has 2 modules"),
                (dict(modules=lambda _: b"[]"), 1, "modules.json"),
                (dict(sentence_bert_config=change(transformer_task="feature-extraction")), 3, "expected sequence-classification")):
            with tempfile.TemporaryDirectory() as folder:
                copy(folder, **files)
                with self.subTest(words):
                    self.assertIn(words, run("rerank", folder, "-p", "a", lines=["b"], code=code))


if __name__ == "__main__":
    unittest.main(verbosity=0, argv=sys.argv)
