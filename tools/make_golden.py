#!/usr/bin/env python3
"""Writes what transformers computes from a checkpoint, for `tern verify MODEL --golden FILE`.

    make_golden.py MODEL FILE [TEXT ...]

It needs torch, transformers and safetensors; with modules.json in MODEL, sentence-transformers too.  TEXTs are run in float64 with
eager attention; without any, two of its own.  The format of FILE is in tern/verify.h.
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

TEXTS = ["The tern is a small sea bird.", "1, 2, 3: how far?"]
CHAT = [{"role": "user", "content": "Which bird flies furthest?"}]


def main():
    path, file, texts = sys.argv[1], sys.argv[2], sys.argv[3:] or TEXTS
    out = {}
    config = transformers.AutoConfig.from_pretrained(path)
    architecture = getattr(transformers, config.architectures[0])
    model = architecture.from_pretrained(path, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    for i, text in enumerate(texts):
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            result = model(**batch, output_hidden_states=True)
        out[f"text.{i}"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
        out[f"ids.{i}"] = batch["input_ids"][0].int()
        if "token_type_ids" in batch and getattr(config, "type_vocab_size", 0) > 1:
            out[f"segments.{i}"] = batch["token_type_ids"][0].int()
        out[f"hidden.{i}"] = torch.stack(result.hidden_states[:-1])[:, 0].float()
        final = getattr(result, "last_hidden_state", None)
        out[f"final.{i}"] = (result.hidden_states[-1] if final is None else final)[0].float()
        for name in ("logits", "prediction_logits", "text_embeds", "pooler_output"):
            answer = getattr(result, name, None)
            if answer is not None:
                out[f"logits.{i}" if answer.dim() == 3 else f"answer.{i}"] = answer[0].float()
                break
    if tokenizer.chat_template:
        out["chat.0"] = torch.tensor(list(json.dumps(CHAT).encode()), dtype=torch.uint8)
        rendered = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
        out["rendered.0"] = torch.tensor(list(rendered.encode()), dtype=torch.uint8)
    if os.path.exists(os.path.join(path, "modules.json")):
        from sentence_transformers import SentenceTransformer
        sentences = SentenceTransformer(path, device="cpu")
        for i, text in enumerate(texts):
            out[f"sentence.{i}"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
            out[f"vector.{i}"] = torch.from_numpy(sentences.encode([text], prompt="")[0]).float()
    save_file({k: v.contiguous() for k, v in out.items()}, file)


if __name__ == "__main__":
    main()
