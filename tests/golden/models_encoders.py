"""Cases of make_models.py: BERT, RoBERTa, XLM-RoBERTa, DistilBERT, MPNet."""
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                          BertModel, DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification,
                          DistilBertForTokenClassification, DistilBertModel, MPNetConfig, MPNetForMaskedLM,
                          MPNetForSequenceClassification, MPNetForTokenClassification, MPNetModel, RobertaConfig,
                          RobertaForMaskedLM, RobertaForSequenceClassification, RobertaModel, XLMRobertaConfig,
                          XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification)

from make_models import Case

SIZES = dict(vocab_size=97, num_hidden_layers=3, hidden_size=32, intermediate_size=72, num_attention_heads=4)


def encoder(name, config, model, prefix, dtype=torch.bfloat16, **settings):
    layers = "encoder.layer" if prefix is None else prefix + ".encoder.layer"
    return Case(name, config, model, layers=layers, dtype=dtype, encoder=True, **settings)


def older_names(path):
    """LayerNorm.gamma and LayerNorm.beta, and the buffer of places that older versions wrote."""
    file = os.path.join(path, "model.safetensors")
    state = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
             for k, v in load_file(file).items()}
    state["bert.embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    save_file(state, file, metadata={"format": "pt"})


older_names.relaid = True


def distilbert(name, model, prefix="distilbert.", dtype=torch.bfloat16, **config):
    sizes = dict(vocab_size=97, n_layers=3, dim=32, hidden_dim=72, n_heads=4, max_position_embeddings=64)
    return Case(name, DistilBertConfig(**sizes | config), model, layers=prefix + "transformer.layer", dtype=dtype,
                encoder=True)


BERT = SIZES | dict(max_position_embeddings=64)
MPNET = SIZES | dict(max_position_embeddings=150)
ROBERTA = SIZES | dict(max_position_embeddings=66, type_vocab_size=1, pad_token_id=1)

CASES = [
    encoder("bert-tiny", BertConfig(**BERT), BertModel, None, torch.float32, segments=2),
    encoder("bert-fill", BertConfig(**BERT | dict(hidden_act="gelu_new", layer_norm_eps=1e-5)), BertForMaskedLM, "bert",
            segments=2, rewrite=older_names),
    encoder("bert-untied", BertConfig(**BERT | dict(tie_word_embeddings=False)), BertForMaskedLM, "bert"),
    encoder("bert-classify", BertConfig(**BERT, num_labels=3), BertForSequenceClassification, "bert", segments=2),
    encoder("bert-tag", BertConfig(**BERT, num_labels=5), BertForTokenClassification, "bert", torch.float16),
    encoder("roberta-tiny", RobertaConfig(**ROBERTA), RobertaModel, None),
    encoder("roberta-fill", RobertaConfig(**ROBERTA | dict(hidden_act="relu", pad_token_id=3)), RobertaForMaskedLM,
            "roberta"),
    encoder("roberta-classify", RobertaConfig(**ROBERTA, num_labels=1), RobertaForSequenceClassification, "roberta"),
    encoder("xlm-roberta-classify", XLMRobertaConfig(**ROBERTA, num_labels=2), XLMRobertaForSequenceClassification,
            "roberta"),
    encoder("xlm-roberta-tag", XLMRobertaConfig(**ROBERTA | dict(hidden_act="gelu_new"), num_labels=4),
            XLMRobertaForTokenClassification, "roberta", torch.float32),
    encoder("mpnet-tiny", MPNetConfig(**MPNET | dict(layer_norm_eps=1e-5)), MPNetModel, None, torch.float32,
            lengths=(1, 5, 17, 140)),
    encoder("mpnet-fill", MPNetConfig(**MPNET | dict(hidden_act="gelu_new")), MPNetForMaskedLM, "mpnet"),
    encoder("mpnet-untied", MPNetConfig(**MPNET | dict(tie_word_embeddings=False)), MPNetForMaskedLM, "mpnet"),
    encoder("mpnet-classify", MPNetConfig(**MPNET | dict(num_labels=3, relative_attention_num_buckets=35)),
            MPNetForSequenceClassification, "mpnet", lengths=(1, 5, 17, 140)),
    encoder("mpnet-tag", MPNetConfig(**MPNET | dict(num_labels=5, hidden_act="relu")), MPNetForTokenClassification,
            "mpnet", torch.float16),
    distilbert("distilbert-tiny", DistilBertModel, "", torch.float32, n_heads=2),
    distilbert("distilbert-fill", DistilBertForMaskedLM, activation="gelu_new", sinusoidal_pos_embds=True),
    distilbert("distilbert-untied", DistilBertForMaskedLM, dtype=torch.float16, tie_word_embeddings=False),
    distilbert("distilbert-classify", DistilBertForSequenceClassification, activation="relu", num_labels=11),
    distilbert("distilbert-tag", DistilBertForTokenClassification, num_labels=5),
]
