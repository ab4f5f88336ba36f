"""Cases of make_models.py: BERT, RoBERTa, XLM-RoBERTa, DistilBERT, MPNet, ModernBERT,
ALBERT, CLIP's text tower."""
import json
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import (AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertForSequenceClassification,
                          AlbertForTokenClassification, AlbertModel, BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                          BertModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification,
                          DistilBertForTokenClassification, DistilBertModel, ModernBertConfig,
                          ModernBertForMaskedLM, ModernBertForSequenceClassification,
                          ModernBertForTokenClassification, ModernBertModel, MPNetConfig, MPNetForMaskedLM,
                          MPNetForSequenceClassification, MPNetForTokenClassification, MPNetModel, RobertaConfig,
                          RobertaForMaskedLM, RobertaForSequenceClassification, RobertaModel, XLMRobertaConfig,
                          XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification)

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


def modernbert(name, model, prefix="model.", dtype=torch.bfloat16, rewrite=None, **config):
    sizes = SIZES | dict(num_hidden_layers=4, max_position_embeddings=64, local_attention=8, pad_token_id=0,
                         bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None)
    return Case(name, ModernBertConfig(**sizes | config), model, layers=prefix + "layers", norm=prefix + "final_norm",
                dtype=dtype, encoder=True, rewrite=rewrite)


def older_ropes(path):
    """The spelling of before rope_parameters and layer_types."""
    file = os.path.join(path, "config.json")
    with open(file) as f:
        config = json.load(f)
    del config["layer_types"]
    ropes = config.pop("rope_parameters")
    config |= {"global_attn_every_n_layers": 2, "global_rope_theta": ropes["full_attention"]["rope_theta"],
               "local_rope_theta": ropes["sliding_attention"]["rope_theta"]}
    with open(file, "w") as f:
        json.dump(config, f, indent=2)


def albert(name, model, prefix="albert.", dtype=torch.bfloat16, segments=0, **config):
    sizes = SIZES | dict(num_hidden_layers=4, embedding_size=20, max_position_embeddings=64)
    return Case(name, AlbertConfig(**sizes | config), model, layers=prefix + "encoder.albert_layer_groups", dtype=dtype,
                encoder=True, segments=segments)


def clip(name, model, prefix="", dtype=torch.bfloat16, **config):
    sizes = SIZES | dict(max_position_embeddings=64, bos_token_id=95, eos_token_id=2, pad_token_id=1, projection_dim=24)
    return Case(name, CLIPTextConfig(**sizes | config), model, layers=prefix + "encoder.layers",
                norm=prefix + "final_layer_norm", dtype=dtype, encoder=True)


ROPES = dict(full_attention=dict(rope_type="default", rope_theta=3000.0),
             sliding_attention=dict(rope_type="linear", rope_theta=500.0, factor=2.0))
PLAIN_ROPES = dict(full_attention=dict(rope_type="default", rope_theta=2000.0),
                   sliding_attention=dict(rope_type="default", rope_theta=700.0))
TYPES = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
BERT = SIZES | dict(max_position_embeddings=64)
MPNET = SIZES | dict(max_position_embeddings=150)
ROBERTA = SIZES | dict(max_position_embeddings=66, type_vocab_size=1, pad_token_id=1)

CASES = [
    encoder("bert-tiny", BertConfig(**BERT), BertModel, None, torch.float32, segments=2),
    encoder("bert-fill", BertConfig(**BERT | dict(hidden_act="gelu_new", layer_norm_eps=1e-5)), BertForMaskedLM, "bert",
            segments=2, rewrite=older_names),
    encoder("bert-untied", BertConfig(**BERT | dict(tie_word_embeddings=False, type_vocab_size=3)), BertForMaskedLM,
            "bert", segments=3),
    encoder("bert-classify", BertConfig(**BERT, num_labels=3), BertForSequenceClassification, "bert", segments=2),
    encoder("bert-tag", BertConfig(**BERT, num_labels=5), BertForTokenClassification, "bert", torch.float16),
    encoder("roberta-tiny", RobertaConfig(**ROBERTA), RobertaModel, None),
    encoder("roberta-fill", RobertaConfig(**ROBERTA | dict(hidden_act="relu", pad_token_id=3)), RobertaForMaskedLM,
            "roberta"),
    encoder("roberta-untied", RobertaConfig(**ROBERTA | dict(tie_word_embeddings=False, layer_norm_eps=1e-5,
                                                             type_vocab_size=2)), RobertaForMaskedLM, "roberta",
            torch.float16, segments=2),
    encoder("roberta-classify", RobertaConfig(**ROBERTA, num_labels=1), RobertaForSequenceClassification, "roberta"),
    encoder("xlm-roberta-classify", XLMRobertaConfig(**ROBERTA, num_labels=2), XLMRobertaForSequenceClassification,
            "roberta"),
    encoder("xlm-roberta-tag", XLMRobertaConfig(**ROBERTA | dict(hidden_act="gelu_new"), num_labels=4),
            XLMRobertaForTokenClassification, "roberta", torch.float32),
    encoder("xlm-roberta-untied", XLMRobertaConfig(**ROBERTA | dict(tie_word_embeddings=False, layer_norm_eps=1e-5,
                                                                    pad_token_id=2)), XLMRobertaForMaskedLM, "roberta"),
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
    modernbert("modernbert-tiny", ModernBertModel, "", torch.float32),
    modernbert("modernbert-fill", ModernBertForMaskedLM, norm_bias=True, attention_bias=True, mlp_bias=True,
               classifier_bias=True, classifier_activation="relu", rope_parameters=ROPES, layer_types=TYPES),
    modernbert("modernbert-untied", ModernBertForMaskedLM, decoder_bias=False, tie_word_embeddings=False,
               hidden_activation="gelu_new", local_attention=1, norm_eps=1e-3),
    modernbert("modernbert-classify", ModernBertForSequenceClassification, num_labels=3, rope_parameters=PLAIN_ROPES,
               layer_types=["full_attention", "sliding_attention"] * 2, local_attention=5, rewrite=older_ropes),
    modernbert("modernbert-mean", ModernBertForSequenceClassification, num_labels=11, classifier_pooling="mean",
               hidden_activation="silu"),
    modernbert("modernbert-tag", ModernBertForTokenClassification, num_labels=5, dtype=torch.float16),
    albert("albert-tiny", AlbertModel, "", torch.float32, segments=2),
    albert("albert-fill", AlbertForMaskedLM, hidden_act="gelu", layer_norm_eps=1e-5),
    albert("albert-untied", AlbertForPreTraining, tie_word_embeddings=False, embedding_size=32),
    albert("albert-classify", AlbertForSequenceClassification, num_labels=11, segments=3, type_vocab_size=3),
    albert("albert-tag", AlbertForTokenClassification, num_labels=5, dtype=torch.float16, hidden_act="relu"),
    clip("clip-text-tiny", CLIPTextModel, dtype=torch.float32),
    clip("clip-text-eos", CLIPTextModel, hidden_act="gelu", eos_token_id=7, layer_norm_eps=1e-3),
    clip("clip-text-projection", CLIPTextModelWithProjection, "text_model.", torch.float16),
]
