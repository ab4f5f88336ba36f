#!/usr/bin/env python3
"""Writes what transformers computes from a checkpoint, for `tern verify MODEL --golden FILE`.

It needs torch, transformers and safetensors; with modules.json in MODEL, sentence-transformers too.  TEXTs are run in float64 with
eager attention (Falcon's ALiBi excepted); without any, two of its own; where MODEL has no tokenizer, two lists of random ids.  The
format of FILE is in tern/verify.h.
"""
import argparse
import json
import os

import torch
import transformers
from safetensors.torch import save_file

TEXTS = ["The tern is a small sea bird.", "1, 2, 3: how far?"]
CHAT = [{"role": "user", "content": "Which bird flies furthest?"}]
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def characters(text):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", help="a checkpoint's directory")
    arguments.add_argument("file", help="what to write, a safetensors file")
    arguments.add_argument("texts", nargs="*", metavar="text", help="texts to run")
    given = arguments.parse_args()
    path, texts, out = given.model, given.texts or TEXTS, {}
    config = transformers.AutoConfig.from_pretrained(path)
    architecture = getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0])
    attention = "sdpa" if getattr(config, "alibi", False) else "eager"  # eager attention adds Falcon's ALiBi twice
    model, info = architecture.from_pretrained(path, dtype=torch.float64, attn_implementation=attention, output_loading_info=True)
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    tokenizer = None
    if any(os.path.exists(os.path.join(path, name)) for name in TOKENIZERS):
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    for i, text in enumerate(texts):
        ids = torch.randint(config.vocab_size, (1, 5 + 12 * i), generator=torch.Generator().manual_seed(i))
        batch = tokenizer(text, return_tensors="pt") if tokenizer else {"input_ids": ids}
        with torch.no_grad():
            result = model.eval()(**batch, output_hidden_states=True)
        if tokenizer:
            out[f"text.{i}"] = characters(text)
        out[f"ids.{i}"] = batch["input_ids"][0].int()
        if "token_type_ids" in batch and getattr(config, "type_vocab_size", 0) > 1:
            out[f"segments.{i}"] = batch["token_type_ids"][0].int()
        out[f"hidden.{i}"] = torch.stack(result.hidden_states[:-1])[:, 0].float()
        final = getattr(result, "last_hidden_state", None)
        final = (result.hidden_states[-1] if final is None else final)[0].float()
        if final.shape[-1] == out[f"hidden.{i}"].shape[-1]:     # OPT's are projected
            out[f"final.{i}"] = final
        for name in ("logits", "prediction_logits", "text_embeds", "pooler_output"):
            answer = getattr(result, name, None)
            made_up = any("pooler" in key for key in info["missing_keys"])  # a pooler that the file does not have is random
            if answer is not None and not (made_up and name == "pooler_output"):
                out[f"logits.{i}" if answer.dim() == 3 else f"answer.{i}"] = answer[0].float()
                break
    if tokenizer and tokenizer.chat_template:
        out["chat.0"] = characters(json.dumps(CHAT))
        out["rendered.0"] = characters(tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True))
    if os.path.exists(os.path.join(path, "modules.json")):
        from sentence_transformers import SentenceTransformer
        sentences = SentenceTransformer(path, device="cpu")
        for i, text in enumerate(texts):
            out[f"sentence.{i}"] = characters(text)
            out[f"vector.{i}"] = torch.from_numpy(sentences.encode([text], prompt="")[0]).float()
    save_file({k: v.contiguous() for k, v in out.items()}, given.file)


if __name__ == "__main__":
    main()
