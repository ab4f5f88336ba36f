/* test_encoders_refused.c: what config.json may not say of BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, ALBERT and CLIP's text tower, and
 * what it may say in other words: each is a golden's config.json with one thing changed. */
/* labels: quick */
#include "config_change.h"

static const struct change changes[] = {
    { "bert-tiny", MORE("\"position_embedding_type\": \"relative_key\""), TERN_ERR_UNSUPPORTED,
      "position_embedding_type is \"relative_key\"" },
    { "bert-tiny", "\"is_decoder\": false", "\"is_decoder\": true", TERN_ERR_UNSUPPORTED, "is_decoder is true" },
    { "bert-tiny", "\"add_cross_attention\": false", "\"add_cross_attention\": true", TERN_ERR_UNSUPPORTED,
      "add_cross_attention is true" },
    { "roberta-tiny", "\"is_decoder\": false", "\"is_decoder\": true", TERN_ERR_UNSUPPORTED, "is_decoder is true" },
    { "xlm-roberta-tag", "\"add_cross_attention\": false", "\"add_cross_attention\": true", TERN_ERR_UNSUPPORTED,
      "add_cross_attention is true" },
    { "bert-tiny", "BertModel", "BertForNextSentencePrediction", TERN_ERR_UNSUPPORTED,
      "architecture is \"BertForNextSentencePrediction\"" },
    { "roberta-tiny", "\"pad_token_id\": 1", "\"pad_token_id\": 65", TERN_ERR_CONFIG, "pad_token_id is 65" },

    { "distilbert-tiny", MORE("\"hidden_size\": 64"), TERN_ERR_FORMAT, "dim is 32 and hidden_size is 64" },
    { "distilbert-tiny", "\"n_heads\": 2", "\"n_heads\": 3", TERN_ERR_CONFIG, "expected a multiple of n_heads, 3" },
    { "distilbert-tiny", "\"activation\": \"gelu\"", "\"activation\": \"mish\"", TERN_ERR_UNSUPPORTED,
      "activation is \"mish\"" },
    { "distilbert-tiny", "\"n_heads\": 2", "\"num_attention_heads\": 2", TERN_OK, NULL },
    { "distilbert-tiny", "DistilBertModel", "DistilBertForQuestionAnswering", TERN_ERR_UNSUPPORTED,
      "architecture is \"DistilBertForQuestionAnswering\"" },

    { "mpnet-tiny", "\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 16",
      TERN_ERR_UNSUPPORTED, "relative_attention_num_buckets is 16, expected at least 32" },
    { "mpnet-tiny", "\"max_position_embeddings\": 150", "\"max_position_embeddings\": 2", TERN_ERR_CONFIG,
      "max_position_embeddings is 2" },
    { "mpnet-tiny", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"silu\"", TERN_ERR_UNSUPPORTED,
      "hidden_act is \"silu\"" },

    { "modernbert-classify", MORE("\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2.0}"), TERN_ERR_UNSUPPORTED,
      "rope type is \"ntk\"" },
    { "modernbert-classify", "\"local_rope_theta\": 700.0", "\"local_rope_theta\": null", TERN_ERR_UNSUPPORTED,
      "local_rope_theta is null" },
    { "modernbert-tiny", MORE("\"global_rope_theta\": 500.0"), TERN_ERR_FORMAT, "global_rope_theta is 500" },
    { "modernbert-tiny", MORE("\"global_rope_theta\": 160000.0"), TERN_OK, NULL },
    { "modernbert-tiny", MORE("\"global_attn_every_n_layers\": 3"), TERN_OK, NULL },
    { "modernbert-tiny", MORE("\"global_attn_every_n_layers\": 2"), TERN_ERR_FORMAT,
      "layer 2 is local by layer_types and global by global_attn_every_n_layers" },
    { "modernbert-tiny", "\"sliding_attention\",", "\"chunked_attention\",", TERN_ERR_UNSUPPORTED,
      "is \"chunked_attention\"" },
    { "modernbert-tiny", "\"rope_parameters\": {",
      "\"rope_parameters\": {\"rope_theta\": 5.0, \"rope_type\": \"linear\"}, \"x\": {", TERN_ERR_FORMAT,
      "rope_parameters has one set for all layers" },
    { "modernbert-tiny", "\"classifier_pooling\": \"cls\"", "\"classifier_pooling\": \"max\"", TERN_ERR_UNSUPPORTED,
      "classifier_pooling is \"max\"" },
    { "modernbert-tiny", "\"hidden_activation\": \"gelu\"", "\"hidden_activation\": \"relu\"", TERN_ERR_UNSUPPORTED,
      "hidden_activation is \"relu\" behind a gate" },
    { "modernbert-tiny", "\"classifier_activation\": \"gelu\"", "\"classifier_activation\": \"selu\"",
      TERN_ERR_UNSUPPORTED, "classifier_activation is \"selu\"" },
    { "modernbert-tiny", MORE("\"head_dim\": 16"), TERN_ERR_UNSUPPORTED, "4 heads of 16 channels" },

    { "albert-tiny", "\"num_hidden_groups\": 1", "\"num_hidden_groups\": 2", TERN_ERR_UNSUPPORTED,
      "num_hidden_groups is 2, tern supports 1" },
    { "albert-tiny", "\"inner_group_num\": 1", "\"inner_group_num\": 2", TERN_ERR_UNSUPPORTED,
      "inner_group_num is 2, tern supports 1" },
    { "albert-tiny", "\"embedding_size\": 20", "\"embedding_size\": 0", TERN_ERR_FORMAT, "embedding_size" },
    { "albert-tiny", "\"hidden_act\": \"gelu_new\"", "\"hidden_act\": \"silu\"", TERN_ERR_UNSUPPORTED,
      "hidden_act is \"silu\"" },

    { "clip-text-tiny", "\"eos_token_id\": 2", "\"eos_token_id\": [2, 3]", TERN_ERR_UNSUPPORTED,
      "eos_token_id has 2 ids" },
    { "clip-text-tiny", "\"eos_token_id\": 2", "\"eos_token_id\": null", TERN_ERR_UNSUPPORTED,
      "eos_token_id has 0 ids" },
    { "clip-text-tiny", "\"CLIPTextModel\"", "\"CLIPModel\"", TERN_ERR_UNSUPPORTED, "architecture is \"CLIPModel\"" },
    { "clip-text-projection", "\"projection_dim\": 24", "\"projection_dim\": 0", TERN_ERR_FORMAT, "projection_dim" },
};

static void test_refused(void **state)
{
    (void)state;
    check_changes(changes, sizeof changes / sizeof changes[0]);
}

/* What is not there has the reference's value. */
static void test_defaults(void **state)
{
    static const struct change without[] = {
        { "modernbert-classify", "\"local_rope_theta\": 700.0", "\"x\": 0", TERN_OK, NULL },
        { "modernbert-tiny", "\"local_attention\": 8,", "", TERN_OK, NULL },
        { "albert-tiny", "\"embedding_size\": 20,", "", TERN_OK, NULL },
        { "clip-text-tiny", "\"eos_token_id\": 2,", "", TERN_OK, NULL },
        { "modernbert-classify", "\"global_attn_every_n_layers\": 2", "\"x\": 0", TERN_OK, NULL },
    };
    tern_ctx *ctx = test_ctx(1);
    struct tern_spec spec[5] = { { 0 } };
    tern_model_config c[5] = { { .n_labels = 0 } };

    (void)state;
    for (size_t i = 0; i < 5; i++)
        assert_ok(ctx, parse(ctx, &without[i], &c[i], &spec[i]));
    assert_true(spec[0].local_rope.theta == 10000 && spec[0].rope.theta == 2000);
    assert_int_equal(spec[0].window, 3);
    assert_int_equal(spec[1].window, 65);
    assert_int_equal(spec[2].embed_width, 128);
    assert_int_equal(spec[3].pool_eos, 49407);
    for (int32_t i = 0; i < c[4].n_layers; i++)
        assert_int_equal(spec[4].local[i], i % 3 != 0);
    for (size_t i = 0; i < 5; i++)
        tern_spec_free(&spec[i], c[i].n_labels);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_refused), cmocka_unit_test(test_defaults) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
