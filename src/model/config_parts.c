/* config_parts.c: what many families read from config.json alike. */
#include "base/memory.h"
#include "model/model_config.h"
#include "model/transformer.h"

#include <stdio.h>
#include <string.h>

tern_status tern_config_decoder(tern_ctx *ctx, const struct tern_json *json, int32_t kv_heads, tern_model_config *c)
{
    const tern_json_value *root = tern_json_root(json);
    int64_t value;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    if (c->n_context == 0 || tern_json_get(root, "max_position_embeddings"))
        TERN_TRY(tern_config_need_int(ctx, json, "max_position_embeddings", NULL, 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "hidden_size", NULL, 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "num_hidden_layers", NULL, 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "num_attention_heads", NULL, 1, 1 << 20, &c->heads));
    TERN_TRY(tern_config_need_int(ctx, json, "intermediate_size", NULL, 1, 1 << 22, &c->intermediate_size));
    /* Absent is the family's, null one for each query head. */
    const bool there = tern_json_get(root, "num_key_value_heads") != NULL;
    TERN_TRY(tern_json_opt_int(ctx, json, root, "num_key_value_heads", 1, 1 << 20,
                               there || kv_heads == 0 ? c->heads : kv_heads, &value));
    c->kv_heads = (int32_t)value;
    return tern_config_heads(ctx, json, c);
}

tern_status tern_config_heads(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const char *where = tern_json_where(json);
    const bool divides = c->hidden_size % c->heads == 0;
    int64_t value;

    TERN_REQUIRE(ctx, c->heads % c->kv_heads == 0, TERN_ERR_CONFIG,
                 "%s: %d heads share %d of keys and values, expected a divisor", where, c->heads, c->kv_heads);
    TERN_TRY(tern_json_opt_int(ctx, json, tern_json_root(json), "head_dim", 1, 1 << 20,
                               c->head_dim > 0 ? c->head_dim
                               : divides       ? c->hidden_size / c->heads
                                               : 0,
                               &value));
    TERN_REQUIRE(ctx, value > 0, TERN_ERR_CONFIG, "%s: hidden_size is %d, expected a multiple of the %d heads", where,
                 c->hidden_size, c->heads);
    TERN_REQUIRE(ctx, value <= 512, TERN_ERR_UNSUPPORTED,
                 "%s: a head has %" PRId64 " channels, tern supports up to 512", where, value);
    TERN_REQUIRE(ctx, (int64_t)c->heads * value <= INT32_MAX / 4, TERN_ERR_UNSUPPORTED,
                 "%s: %d heads of %" PRId64 " channels, tern supports %d channels together", where, c->heads, value,
                 INT32_MAX / 4);
    c->head_dim = (int32_t)value;
    c->scale_attention = true;
    return TERN_OK;
}

tern_status tern_config_gpt(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c)
{
    const char *where = tern_json_where(json);
    int64_t inner;

    TERN_TRY(tern_config_need_int(ctx, json, "vocab_size", NULL, 1, 1 << 24, &c->vocab_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_positions", "max_position_embeddings", 1, 1 << 24, &c->n_context));
    TERN_TRY(tern_config_need_int(ctx, json, "n_embd", "hidden_size", 1, 1 << 20, &c->hidden_size));
    TERN_TRY(tern_config_need_int(ctx, json, "n_layer", "num_hidden_layers", 1, 1 << 14, &c->n_layers));
    TERN_TRY(tern_config_need_int(ctx, json, "n_head", "num_attention_heads", 1, 1 << 20, &c->heads));
    TERN_REQUIRE(ctx, c->hidden_size % c->heads == 0, TERN_ERR_CONFIG,
                 "%s: n_embd is %d, expected a multiple of n_head, %d", where, c->hidden_size, c->heads);
    c->kv_heads = c->heads;
    c->head_dim = c->hidden_size / c->heads;
    TERN_REQUIRE(ctx, c->head_dim <= 512, TERN_ERR_UNSUPPORTED,
                 "%s: n_embd / n_head is %d, tern supports heads of up to 512", where, c->head_dim);
    c->scale_attention = true;
    TERN_TRY(
        tern_json_opt_int(ctx, json, tern_json_root(json), "n_inner", 1, 1 << 22, (int64_t)4 * c->hidden_size, &inner));
    c->intermediate_size = (int32_t)inner;
    TERN_TRY(tern_config_layer_norm(ctx, json, "layer_norm_epsilon", 1e-5, c));
    return tern_config_activation_name(ctx, json, "activation_function", "gelu_new", c);
}

static tern_status norm_eps(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard,
                            tern_model_config *c)
{
    double eps;

    TERN_TRY(tern_json_opt_number(ctx, json, tern_json_root(json), key, standard, &eps));
    TERN_REQUIRE(ctx, eps > 0 && eps <= 1, TERN_ERR_CONFIG, "%s: %s is %g, expected above 0 and at most 1",
                 tern_json_where(json), key, eps);
    c->norm_eps = (float)eps;
    return TERN_OK;
}

tern_status tern_config_rms_eps(tern_ctx *ctx, const struct tern_json *json, double standard, tern_model_config *c)
{
    c->norm_type = TERN_RMS_NORM;
    return norm_eps(ctx, json, "rms_norm_eps", standard, c);
}

tern_status tern_config_layer_norm(tern_ctx *ctx, const struct tern_json *json, const char *key, double standard,
                                   tern_model_config *c)
{
    c->norm_type = TERN_LAYER_NORM;
    return norm_eps(ctx, json, key, standard, c);
}

tern_status tern_config_gated_activation(tern_ctx *ctx, const struct tern_json *json, const char *key,
                                         const char *standard, tern_model_config *c)
{
    const char *name;

    TERN_TRY(tern_json_opt_string(ctx, json, tern_json_root(json), key, standard, &name));
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0) {
        c->activation = TERN_GATED_SILU;
        return TERN_OK;
    }
    TERN_TRY(tern_config_activation_name(ctx, json, key, standard, c));
    TERN_REQUIRE(ctx, c->activation == TERN_GELU, TERN_ERR_UNSUPPORTED,
                 "%s: %s is \"%s\" behind a gate, expected silu or a GELU", tern_json_where(json), key, name);
    c->activation = TERN_GATED_GELU;
    return TERN_OK;
}

tern_status tern_config_tied(tern_ctx *ctx, const struct tern_json *json, bool standard, tern_model_config *c)
{
    return tern_json_opt_bool(ctx, json, tern_json_root(json), "tie_word_embeddings", standard, &c->tied_embeddings);
}

tern_status tern_config_layer_types(tern_ctx *ctx, const struct tern_json *json, const tern_model_config *c,
                                    struct tern_spec *spec, bool *there)
{
    const char *where = tern_json_where(json);
    const tern_json_value *list;

    TERN_TRY(tern_json_opt_value(ctx, json, tern_json_root(json), "layer_types", TERN_JSON_ARRAY, &list));
    *there = list != NULL;
    if (!list)
        return TERN_OK;
    TERN_REQUIRE(ctx, tern_json_size(list) == (size_t)c->n_layers, TERN_ERR_FORMAT,
                 "%s: layer_types has %zu names, expected %d, one for each layer", where, tern_json_size(list),
                 c->n_layers);
    for (int32_t i = 0; i < c->n_layers; i++) {
        const tern_json_value *item = tern_json_at(list, (size_t)i);
        size_t length;
        TERN_REQUIRE(ctx, tern_json_type(item) == TERN_JSON_STRING, TERN_ERR_FORMAT,
                     "%s: layer_types[%d] is %s, expected a string", where, i, tern_json_type_name(item));
        const char *name = tern_json_string(item, &length);
        spec->local[i] = strcmp(name, "sliding_attention") == 0;
        TERN_REQUIRE(ctx, spec->local[i] || strcmp(name, "full_attention") == 0, TERN_ERR_UNSUPPORTED,
                     "%s: layer_types[%d] is \"%s\", expected full_attention or sliding_attention", where, i, name);
    }
    return TERN_OK;
}

tern_status tern_config_window(tern_ctx *ctx, const struct tern_json *json, int32_t standard, enum tern_window window,
                               const tern_model_config *c, struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json), *given = tern_json_get(root, "sliding_window");
    bool used = true, there = false, told = false;
    int64_t size = 0, first = 0, pattern = 2;

    if (window == TERN_WINDOW_IF_USED || window == TERN_WINDOW_EARLY) {
        TERN_TRY(tern_json_opt_bool(ctx, json, root, "use_sliding_window", false, &used));
        TERN_TRY(tern_json_opt_int(ctx, json, root, "max_window_layers", 0, INT32_MAX, 28, &first));
    }
    if (window == TERN_WINDOW_PATTERN) {
        TERN_TRY(tern_json_opt_int(ctx, json, root, "sliding_window_pattern", 1, INT32_MAX, 0, &pattern));
        told = pattern > 0;
        pattern = told ? pattern : 6;
    }
    if (used)
        TERN_TRY(tern_json_opt_int(ctx, json, root, "sliding_window", 1, INT32_MAX, standard, &size));
    used = used && size != 0 && !(given && tern_json_type(given) == TERN_JSON_NULL);
    if (!used && window == TERN_WINDOW_ALL)
        return TERN_OK;
    TERN_TRY(tern_spec_local(ctx, c, spec));
    if (window != TERN_WINDOW_ALL)
        TERN_TRY(tern_config_layer_types(ctx, json, c, spec, &there));
    for (int32_t i = 0; !used && i < c->n_layers; i++)
        TERN_REQUIRE(ctx, !spec->local[i], TERN_ERR_FORMAT,
                     "%s: layer_types[%d] is sliding_attention where no window is used, expected full_attention, or "
                     "use_sliding_window and sliding_window",
                     tern_json_where(json), i);
    if (!used)
        return TERN_OK;
    spec->window = (int32_t)size;
    spec->local_rope = spec->rope;
    for (int32_t i = 0; !there && i < c->n_layers; i++)
        spec->local[i] = window == TERN_WINDOW_EARLY         ? i % 2 == 0 && i < first
                         : window >= TERN_WINDOW_EVERY_OTHER ? (i + 1) % pattern != 0
                                                             : i >= first;
    for (int32_t i = 0; there && told && i < c->n_layers; i++)
        TERN_REQUIRE(ctx, spec->local[i] == ((i + 1) % pattern != 0), TERN_ERR_FORMAT,
                     "%s: layer_types[%d] is %s and sliding_window_pattern is %" PRId64
                     ", expected full_attention in each such layer and sliding_attention in all others",
                     tern_json_where(json), i, spec->local[i] ? "sliding_attention" : "full_attention", pattern);
    return TERN_OK;
}

tern_task tern_config_task(const tern_model_config *c)
{
    static const struct {
        const char *end;
        tern_task task;
    } ends[] = {
        { "ForCausalLM", TERN_TASK_GENERATE },
        { "LMHeadModel", TERN_TASK_GENERATE },
        { "ForMaskedLM", TERN_TASK_FILL },
        { "ForPreTraining", TERN_TASK_FILL },
        { "ForSequenceClassification", TERN_TASK_CLASSIFY },
        { "ForTokenClassification", TERN_TASK_TAG },
    };
    const size_t n = strlen(c->architecture);

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t tail = strlen(ends[i].end);
        if (n >= tail && strcmp(c->architecture + n - tail, ends[i].end) == 0)
            return ends[i].task;
    }
    return TERN_TASK_STATES;
}

/* The names of id2label, { "0": "NEGATIVE", .. }: every number below their count once. */
static tern_status label_names(tern_ctx *ctx, const struct tern_json *json, const tern_json_value *names,
                               tern_model_config *c, struct tern_spec *spec)
{
    const char *where = tern_json_where(json);

    c->n_labels = (int32_t)tern_json_size(names);
    TERN_TRY(TERN_ALLOC(ctx, (size_t)c->n_labels, "the names of labels", &spec->labels));
    for (int32_t i = 0; i < c->n_labels; i++) {
        char key[16];
        const char *name;
        snprintf(key, sizeof key, "%" PRId32, i);
        TERN_TRY(tern_json_opt_string(ctx, json, names, key, NULL, &name));
        TERN_REQUIRE(ctx, name, TERN_ERR_FORMAT, "%s: id2label has %" PRId32 " labels and no \"%s\"", where,
                     c->n_labels, key);
        TERN_TRY(tern_strndup(ctx, name, strlen(name), "the name of a label", &spec->labels[i]));
    }
    return TERN_OK;
}

tern_status tern_config_labels(tern_ctx *ctx, const struct tern_json *json, tern_model_config *c,
                               struct tern_spec *spec)
{
    const tern_json_value *root = tern_json_root(json), *names;
    static const char *const kinds[] = { [TERN_LABELS_SINGLE] = "single_label_classification",
                                         [TERN_LABELS_MULTI] = "multi_label_classification",
                                         [TERN_LABELS_VALUE] = "regression" };
    const char *kind;
    int64_t n;

    TERN_TRY(tern_json_opt_string(ctx, json, root, "problem_type", kinds[0], &kind));
    while (c->labels < 3 && strcmp(kinds[c->labels], kind) != 0)
        c->labels++;
    TERN_REQUIRE(ctx, c->labels < 3, TERN_ERR_UNSUPPORTED, "%s: problem_type is \"%s\", expected %s, %s or %s",
                 tern_json_where(json), kind, kinds[0], kinds[1], kinds[2]);
    TERN_TRY(tern_json_opt_value(ctx, json, root, "id2label", TERN_JSON_OBJECT, &names));
    TERN_TRY(
        tern_json_opt_int(ctx, json, root, "num_labels", 1, 1 << 20, names ? (int64_t)tern_json_size(names) : 2, &n));
    TERN_REQUIRE(ctx, !names || (size_t)n == tern_json_size(names), TERN_ERR_FORMAT,
                 "%s: num_labels is %" PRId64 " and id2label has %zu, expected as many", tern_json_where(json), n,
                 tern_json_size(names));
    TERN_REQUIRE(ctx, n >= 1 && n <= 1 << 20, TERN_ERR_CONFIG, "%s: %" PRId64 " labels, expected 1..%d",
                 tern_json_where(json), n, 1 << 20);
    if (names)
        return label_names(ctx, json, names, c, spec);
    c->n_labels = (int32_t)n;
    return TERN_OK;
}

enum tern_act tern_config_act(const tern_model_config *c)
{
    if (c->activation == TERN_RELU)
        return TERN_ACT_RELU;
    return c->gelu == TERN_GELU_TANH      ? TERN_ACT_GELU_TANH
           : c->gelu == TERN_GELU_SIGMOID ? TERN_ACT_GELU_SIGMOID
                                          : TERN_ACT_GELU_ERF;
}
