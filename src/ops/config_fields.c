/* config_fields.c: a config and the operators' parameters by name.
 *
 * One row for each name says where the value lies, what it may be and which operators read it.  Texts, JSON, --help and the
 * lists of tools come from these rows. */
#include "ops/config_fields.h"

#include "base/fpmode.h"

#include <tern/function.h>
#include <tern/quantize.h>

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { WHOLE64, WHOLE32, NUMBER, NUMBER64, TRUTH, TRUTH_OR_UNSET, CHOICE, WORD };

struct choice {
    const char *name; /* NULL ends the list */
    int value;
};

struct tern_field {
    const char *name;
    bool own;         /* a parameter of those operators whose row lists it, not a field of the config */
    const char *same; /* the name that this is another one for, or NULL */
    enum kind kind;
    size_t offset;     /* in tern_op_settings */
    int64_t low, high; /* of whole numbers; a number is >= low, or above it if `open` */
    bool open;
    bool may_be_unset;            /* a number whose default, NaN, stands for "unset" */
    const struct choice *choices; /* of CHOICE and WORD; of whole numbers where only these will do */
    unsigned reads;               /* an operator with one of these bits reads it; 0: without effect on operators */
    const char *about;
};

/* Bits above enum tern_op_reads, for what follows from the rest of a row. */
#define ALWAYS (1u << 30)
#define INT8   (1u << 29)
#define PARTS  (1u << 28) /* modules that put weights together */

static const struct choice dtypes[] = {
    { "fp32", TERN_FP32 }, { "fp16", TERN_FP16 }, { "bf16", TERN_BF16 }, { "int8", TERN_INT8 }, { NULL, 0 }
};
static const struct choice activation_dtypes[] = {
    { "fp32", TERN_FP32 }, { "fp16", TERN_FP16 }, { "bf16", TERN_BF16 }, { NULL, 0 }
};
static const struct choice norms[] = { { "LayerNorm", TERN_LAYER_NORM }, { "RMSNorm", TERN_RMS_NORM }, { NULL, 0 } };
static const struct choice activations[] = { { "GELU", TERN_GELU },
                                             { "ReLU", TERN_RELU },
                                             { "GATED_GELU", TERN_GATED_GELU },
                                             { "GATED_SILU", TERN_GATED_SILU },
                                             { NULL, 0 } };
static const struct choice gelus[] = {
    { "erf", TERN_GELU_ERF }, { "tanh", TERN_GELU_TANH }, { "sigmoid", TERN_GELU_SIGMOID }, { NULL, 0 }
};
static const struct choice devices[] = { { "cpu", TERN_CPU }, { NULL, 0 } };
static const struct choice kernels[] = { { "auto", TERN_KERNEL_AUTO },
                                         { "reference", TERN_KERNEL_REFERENCE },
                                         { NULL, 0 } };
static const struct choice quants[] = { { "none", TERN_QUANT_NONE }, { "row", TERN_QUANT_ROW }, { NULL, 0 } };

static const struct choice schemes[] = { { "checkpoint", TERN_QUANT_CHECKPOINT },
                                         { "injection", TERN_QUANT_INJECTION },
                                         { "groupwise", TERN_QUANT_GROUPWISE },
                                         { NULL, 0 } };
static const struct choice gate_layouts[] = { { "halves", TERN_GATE_HALVES },
                                              { "interleaved", TERN_GATE_INTERLEAVED },
                                              { NULL, 0 } };
/* Names that are stored as they stand here; a row says which of them its operator takes. */
static const struct choice words[] = { { "", 0 },     { "relu", 0 },      { "leaky_relu", 0 },
                                       { "gelu", 0 }, { "gelu_tanh", 0 }, { "gelu_sigmoid", 0 },
                                       { "silu", 0 }, { "sigmoid", 0 },   { NULL, 0 } };

static const struct choice widths[] = { { "8", 8 }, { "4", 4 }, { NULL, 0 } };

static const struct choice noises[] = {
    { "None", TERN_MOE_NO_NOISE }, { "Jitter", TERN_MOE_JITTER }, { "RSample", TERN_MOE_RSAMPLE }, { NULL, 0 }
};
static const struct choice mixtures[] = { { "standard", TERN_MOE_STANDARD },
                                          { "residual", TERN_MOE_RESIDUAL },
                                          { NULL, 0 } };
static const struct choice drops[] = { { "order", TERN_MOE_DROP_ORDER },
                                       { "probs", TERN_MOE_DROP_PROBS },
                                       { NULL, 0 } };

/* clang-format off */
#define AT(field)                     .offset = offsetof(tern_op_settings, field)
#define OWN(n, f, k)                  .name = n, .own = true, .kind = k, AT(params.f)
#define MOE(f, k)                     .name = #f, .own = true, .kind = k, AT(moe.f)
#define FIELD(f, k, r, text)          .name = #f, .kind = k, AT(config.f), .reads = r, .about = text
#define WHOLE(f, k, min, max, r, text) { FIELD(f, k, r, text), .low = min, .high = max }
#define FLAG(f, r, text)              { FIELD(f, TRUTH, r, text) }
#define NAMES(f, list, r, text)       { FIELD(f, CHOICE, r, text), .choices = list }
#define ALIAS(n, f, k, r, text)       .name = n, .same = #f, .kind = k, AT(config.f), .reads = r, .about = text

#define HEADS     TERN_READS_HEADS
#define ATTENTION TERN_READS_ATTENTION
#define NORM      TERN_READS_NORM
#define BLOCK     TERN_READS_BLOCK

static const struct tern_field fields[] = {
    /* A mixture's. */
    { MOE(moe_experts, WHOLE32), .low = 1, .high = INT32_MAX, .about = "experts of this rank; 1 stands for all of global_experts" },
    { MOE(global_experts, WHOLE32), .low = 1, .high = INT32_MAX, .about = "X; 1 stands for moe_experts" },
    { MOE(capacity_factor, NUMBER64), .about = "training's: without effect" },
    { MOE(eval_capacity_factor, NUMBER64), .about = "f: an expert takes max(min_capacity, ceil(T / X f k)) tokens" },
    { MOE(min_capacity, WHOLE32), .high = INT32_MAX, .about = "tokens that an expert takes at least" },
    { MOE(noisy_gate_policy, CHOICE), .choices = noises, .about = "noise on the gate: there is none but None" },
    { MOE(drop_tokens, TRUTH), .about = "whether experts have a capacity" },
    { MOE(use_rts, TRUTH), .about = "random choice of the tokens to drop: true is not there" },
    { MOE(mlp_type, CHOICE), .choices = mixtures, .about = "residual: a dense feed-forward beside the experts" },
    { MOE(normalize, TRUTH_OR_UNSET), .about = "scores divided by their sum; unset: where k > 1" },
    { MOE(drop_policy, CHOICE), .choices = drops, .about = "which tokens a full expert takes" },

    /* The operators' own, which come before a config's field of the same name. */
    { OWN("q_groups", q_groups, WHOLE64), .low = 1, .high = INT32_MAX, .about = "groups of a weight's scales" },
    { OWN("merge_count", merge_count, WHOLE32), .low = 1, .high = INT32_MAX, .about = "shards that were merged, a power of two" },
    { OWN("layer_scale", softmax.layer_scale, NUMBER), .low = -INT64_MAX, .about = "scores are multiplied by it" },
    { OWN("triangular", softmax.triangular, TRUTH), .about = "row i of the last S sees columns j <= i + T - S (also: causal, triangular_masking)" },
    { OWN("local_attention", softmax.local_attention, TRUTH), .about = "a row sees the last window_size columns only" },
    { OWN("window_size", softmax.window_size, WHOLE32), .low = 1, .high = INT32_MAX, .about = "columns, its own included" },
    { OWN("head_offset", softmax.head_offset, WHOLE32), .high = INT32_MAX, .about = "first head of this rank in alibi" },
    { OWN("add_bias", add_bias, TRUTH_OR_UNSET), .about = "whether bias (residual_add: attention_bias) is added; unset: where one is given" },
    { OWN("do_flash_attn", do_flash_attn, TRUTH), .about = "q, k and v apart, [3, B, h, S, E'], padded" },
    { OWN("num_heads", num_heads, WHOLE32), .high = INT32_MAX, .about = "h" },
    { OWN("scale", scale, NUMBER), .low = -INT64_MAX, .may_be_unset = true, .about = "multiplier of q.k" },
    { OWN("softcap", softcap, NUMBER), .about = "scores s become softcap tanh(s / softcap); 0: as they are" },
    { OWN("v_head_dim", v_head_dim, WHOLE32), .high = 512, .about = "width of a value head; 0: as q and k" },
    { OWN("causal", causal, TRUTH), .about = "a row sees what stands before it" },
    { OWN("activation", activation, WORD), .choices = words, .about = "what is applied last; \"\": nothing, in gated_activation gelu" },
    { OWN("gate_layout", gate_layout, CHOICE), .choices = gate_layouts, .about = "[up | gate], or gate, up, gate, up, .." },
    { OWN("gamma", gamma, NUMBER), .low = -INT64_MAX, .about = "a is multiplied by it" },
    { OWN("head_size", head_size, WHOLE64), .high = INT32_MAX, .about = "E" },
    { MOE(k, WHOLE32), .low = 1, .high = INT32_MAX, .about = "experts of each token" },
    { OWN("k", k, WHOLE32), .low = 1, .high = INT32_MAX, .about = "experts of each token" },
    { OWN("normalise", normalise, TRUTH), .about = "scores are divided by their sum" },
    { .name = "rotary_dim", .own = true, .kind = WHOLE32, AT(config.rotary_dim), .low = 2, .high = INT32_MAX, .about = "leading channels that turn, an even number; to be given" },
    { OWN("offset", offset, WHOLE64), .high = INT32_MAX, .about = "rows of the position table before position 0" },
    { OWN("add_attn_bias", add_attn_bias, TRUTH), .about = "the parallel form adds attention_bias" },
    { OWN("pre_norm", pre_norm, TRUTH), .about = "norm before each sub-block" },
    { OWN("batch", batch, WHOLE64), .low = 1, .high = INT32_MAX, .about = "sequences at once" },
    { OWN("prompt_len", prompt_len, WHOLE64), .high = INT32_MAX, .about = "rows of a sequence in one step; 0: max_out_tokens" },
    { OWN("memory", memory, WHOLE64), .high = INT64_MAX, .about = "bytes that there are, for fewer tokens where all do not fit; 0: no limit" },
    { OWN("scheme", scheme, CHOICE), .choices = schemes, .about = "how codes come about" },
    { OWN("bits", bits, WHOLE32), .choices = widths, .about = "of a code" },
    { OWN("groups", groups, WHOLE64), .high = INT32_MAX, .about = "groups of the tensor; 0: 1 in checkpoint, one for each slice in injection" },
    { OWN("group_size", group_size, WHOLE64), .low = 1, .high = INT32_MAX, .about = "elements of a run in groupwise" },
    { OWN("group_dim", group_dim, WHOLE32), .high = TERN_MAX_RANK - 1, .about = "axis of the runs in groupwise" },
    { OWN("mlp_extra_grouping", mlp_extra_grouping, TRUTH), .about = "checkpoint: twice the groups for a feed-forward's shapes" },
    { OWN("n_shards", n_shards, WHOLE64), .low = 1, .high = INT32_MAX, .about = "shards that were merged along the last axis" },

    WHOLE(hidden_size, WHOLE64, -1, INT32_MAX, HEADS | TERN_READS_SIZES | TERN_READS_TUNE, "H"),
    WHOLE(intermediate_size, WHOLE64, -INT32_MAX, INT32_MAX, TERN_READS_SIZES | TERN_READS_TUNE, "I; 0 or less: 4 H"),
    WHOLE(heads, WHOLE32, -1, INT32_MAX, HEADS, "h, query heads of all ranks, a divisor of H"),
    WHOLE(num_hidden_layers, WHOLE32, -1, INT32_MAX, TERN_READS_WORKSPACE, "layers of a cache"),
    { FIELD(layer_norm_eps, NUMBER, NORM | TERN_READS_EPS, "added to the variance"), .low = 0 },
    { ALIAS("epsilon", layer_norm_eps, NUMBER, NORM | TERN_READS_EPS, "another name for layer_norm_eps"), .low = 0 },
    WHOLE(local_rank, WHOLE32, -1, INT32_MAX, 0, "without effect"),
    WHOLE(mp_size, WHOLE32, 1, INT32_MAX, HEADS | TERN_READS_MP | TERN_READS_SIZES, "ranks that share each matrix"),
    NAMES(dtype, dtypes, ALWAYS, "what is computed with"),
    FLAG(pre_layer_norm, NORM | BLOCK, "norm before each sub-block, or after it"),
    NAMES(norm_type, norms, NORM, "the norm"),
    FLAG(stochastic_mode, 0, "without effect"),
    FLAG(scale_attention, ATTENTION, "scores are multiplied by 1 / sqrt(E)"),
    FLAG(triangular_masking, ATTENTION, "causal"),
    { ALIAS("causal", triangular_masking, TRUTH, ATTENTION, "another name for triangular_masking") },
    FLAG(local_attention, ATTENTION, "a query sees the last window_size keys only"),
    WHOLE(window_size, WHOLE32, -1, INT32_MAX, ATTENTION, "keys, the query's own included"),
    WHOLE(rotary_dim, WHOLE32, -1, INT32_MAX, ATTENTION | TERN_READS_ROTARY, "leading channels of a head that turn; 0 or less: none"),
    FLAG(rotate_half, ATTENTION | TERN_READS_ROTARY, "pairs (p, p + rotary_dim / 2)"),
    { FIELD(rotate_every_two, TRUTH_OR_UNSET, ATTENTION | TERN_READS_ROTARY, "pairs (2p, 2p + 1); unset: the opposite of rotate_half") },
    FLAG(return_tuple, 0, "informative"),
    FLAG(mlp_after_attn, BLOCK | TERN_READS_AFTER, "sequential block, or parallel"),
    NAMES(mlp_act_func_type, activations, TERN_READS_ACTIVATION | TERN_READS_WORKSPACE, "activation of a feed-forward"),
    WHOLE(training_mp_size, WHOLE32, 1, INT32_MAX, 0, "without effect"),
    FLAG(bigscience_bloom, ATTENTION | TERN_READS_WORKSPACE, "q, k and v of each head side by side, scale 1 / sqrt(E); workspace: no cache"),
    WHOLE(max_out_tokens, WHOLE32, 1, INT32_MAX, TERN_READS_WORKSPACE | TERN_READS_TUNE, "positions of a sequence, prompt and output"),
    WHOLE(min_out_tokens, WHOLE32, 1, INT32_MAX, TERN_READS_WORKSPACE | TERN_READS_TUNE, "the fewest; a workspace of fewer is an error"),
    FLAG(enable_qkv_quantization, 0, "without effect"),
    FLAG(use_mup, ATTENTION, "1 / E instead of 1 / sqrt(E)"),
    FLAG(scale_attn_by_inverse_layer_idx, ATTENTION, "scores are divided by layer_id + 1"),
    FLAG(return_single_tuple, 0, "informative"),
    FLAG(set_empty_params, PARTS, "q, k, v and up, gate may be given apart"),
    FLAG(transposed_mode, TERN_READS_MATRIX, "2-D weights are [out, in]"),
    FLAG(use_triton, 0, "without effect"),
    FLAG(triton_autotune, TERN_READS_TUNE, "with layer_id 0: measures, when it is created, how products of min to max_out_tokens rows are best cut"),
    WHOLE(num_kv, WHOLE32, -1, INT32_MAX, HEADS, "G, key/value heads, a divisor of h; less than 0: h"),
    { FIELD(rope_theta, NUMBER, ATTENTION | TERN_READS_ROTARY, "base of the rotary wavelengths"), .low = 1, .open = true },
    FLAG(invert_mask, TERN_READS_MASK, "bool and integer masks: what is not 0 is visible; false: hidden"),
    WHOLE(layer_id, WHOLE32, -1, INT32_MAX, ATTENTION | TERN_READS_TUNE, "index of the layer"),
    NAMES(device, devices, ALWAYS, "where it runs"),
    NAMES(kernel, kernels, ALWAYS, "the fastest for this machine, or the definition"),
    NAMES(gelu, gelus, TERN_READS_GELU | TERN_READS_ACTIVATION,
          "formula of GELU; unset: tanh in bias_gelu, mlp_gemm and gelu_gemm, erf in gelu, matmul, moe_gemm and where it is gated"),
    NAMES(activation_dtype, activation_dtypes, INT8, "what activations are stored in where dtype is int8"),
    NAMES(activation_quant, quants, INT8, "how activations enter a product where dtype is int8"),
};
/* clang-format on */
#define N_FIELDS (sizeof fields / sizeof fields[0])

tern_op_settings tern_op_settings_default(void)
{
    return (tern_op_settings){ .config = tern_config_default(),
                               .params = tern_op_params_default(),
                               .moe = tern_moe_config_default() };
}

tern_op_params tern_op_params_default(void)
{
    return (tern_op_params){ .softmax = tern_softmax_options_default(),
                             .q_groups = 1,
                             .merge_count = 1,
                             .add_bias = -1,
                             .scale = NAN,
                             .activation = "",
                             .gamma = 1,
                             .k = 1,
                             .pre_norm = true,
                             .batch = 1,
                             .scheme = TERN_QUANT_CHECKPOINT,
                             .bits = 8,
                             .group_size = 64,
                             .group_dim = 1,
                             .n_shards = 1 };
}

/* What the modules read: the fields of their operators, as if each were one. */
static const struct tern_op_row modules[] = {
    { .name = "mlp",
      .dtypes = TERN_ALL_DTYPES,
      .norms = TERN_ANY_NORM,
      .devices = TERN_ON_CPU,
      .reads = NORM | TERN_READS_ACTIVATION | BLOCK | TERN_READS_SIZES | TERN_READS_MATRIX | TERN_READS_TUNE | PARTS,
      .params = "q_groups merge_count mlp_extra_grouping" },
    { .name = "attention",
      .dtypes = TERN_ALL_DTYPES,
      .norms = TERN_ANY_NORM,
      .devices = TERN_ON_CPU,
      .reads = NORM | HEADS | ATTENTION | BLOCK | TERN_READS_MATRIX | TERN_READS_MASK | TERN_READS_TUNE | PARTS,
      .params = "scale softcap v_head_dim q_groups merge_count" },
    { .name = "layer",
      .dtypes = TERN_ALL_DTYPES,
      .norms = TERN_ANY_NORM,
      .devices = TERN_ON_CPU,
      .reads = NORM | TERN_READS_ACTIVATION | HEADS | ATTENTION | BLOCK | TERN_READS_SIZES | TERN_READS_MATRIX |
               TERN_READS_MASK | TERN_READS_TUNE | PARTS,
      .params = "scale softcap v_head_dim q_groups merge_count mlp_extra_grouping" },
    { .name = "moe",
      .dtypes = TERN_ALL_DTYPES,
      .devices = TERN_ON_CPU,
      .reads = TERN_READS_ACTIVATION | TERN_READS_SIZES | TERN_READS_MATRIX,
      .params = "moe_experts global_experts k capacity_factor eval_capacity_factor min_capacity noisy_gate_policy "
                "drop_tokens use_rts mlp_type normalize drop_policy" },
};

const struct tern_op_row *tern_op_row_or_module(int index)
{
    const int n = (int)(sizeof modules / sizeof modules[0]);

    return index >= TERN_MODULE_MLP && index < TERN_MODULE_MLP + n ? &modules[index - TERN_MODULE_MLP]
                                                                   : tern_op_row(index);
}

/* Where `name` stands in a row's list of parameters, and what the list calls it: "causal=triangular" is parameter triangular under
 * another name.  NULL: not there. */
static const char *listed(const struct tern_op_row *row, const char *name, size_t *length)
{
    const size_t n = strlen(name);

    for (const char *c = row && row->params ? row->params : ""; *c; c += strspn(c, " ")) {
        const char *word = c, *stands_for;
        c += strcspn(c, " ");
        stands_for = memchr(word, '=', (size_t)(c - word));
        const size_t own = (size_t)((stands_for ? stands_for : c) - word);
        if (own == n && memcmp(word, name, n) == 0) {
            *length = stands_for ? (size_t)(c - stands_for - 1) : own;
            return stands_for ? stands_for + 1 : word;
        }
    }
    return NULL;
}

const struct tern_field *tern_field_find(int index, const char *key)
{
    size_t length;
    const char *own = listed(tern_op_row_or_module(index), key, &length);
    const bool mixture = index == TERN_MODULE_MOE; /* its k comes before the parameter of that name */

    for (size_t i = 0; i < N_FIELDS; i++)
        if (own ? fields[i].own && (mixture || fields[i].offset < offsetof(tern_op_settings, moe)) &&
                      strlen(fields[i].name) == length && memcmp(fields[i].name, own, length) == 0
                : !fields[i].own && strcmp(fields[i].name, key) == 0)
            return &fields[i];
    return NULL;
}

size_t tern_field_offset(const struct tern_field *field)
{
    return field->offset;
}

tern_status tern_field_unknown(tern_ctx *ctx, const char *where, int index, const char *key)
{
    char known[TERN_ERROR_SIZE] = "";
    size_t used = 0;

    for (size_t i = 0; i < N_FIELDS; i++) {
        if (tern_field_find(index, fields[i].name) != &fields[i])
            continue;
        const int n = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", fields[i].name);
        if (n < 0 || used + (size_t)n >= sizeof known)
            break;
        used += (size_t)n;
    }
    return tern_fail(ctx, TERN_ERR_CONFIG, "%.200s: there is no key \"%.60s\", the keys are: %s", where, key, known);
}

/* The axes of the table of operators. */
static bool is_axis(const struct tern_field *f)
{
    return f->choices == dtypes || f->choices == norms || f->choices == devices;
}

/* Whether a row has this one of a field's choices; without a row every one is there. */
static bool offers(const struct tern_op_row *row, const struct tern_field *f, const struct choice *c)
{
    if (!row)
        return true;
    if (f->kind == WORD) {
        for (const char *const *name = row->activations; name && *name; name++)
            if (strcmp(*name, c->name) == 0)
                return true;
        return false;
    }
    const unsigned bits = f->choices == dtypes    ? row->dtypes
                          : f->choices == norms   ? row->norms
                          : f->choices == devices ? row->devices
                                                  : 0;
    return bits == 0 || bits >> c->value & 1;
}

/* "a whole number from -1 to 7", "true or false", "erf, tanh, sigmoid". */
static void describe_values(const struct tern_op_row *row, const struct tern_field *f, char *out, size_t size)
{
    const char *between = "";
    size_t used = 0;

    for (const struct choice *c = f->choices; c && c->name && used < size; c++)
        if (offers(row, f, c)) {
            used += (size_t)snprintf(out + used, size - used, "%s%s", between, *c->name ? c->name : "\"\"");
            between = ", ";
        }
    if (f->choices)
        return;
    switch (f->kind) {
    case WHOLE64:
    case WHOLE32:
        snprintf(out, size, "a whole number from %" PRId64 " to %" PRId64, f->low, f->high);
        return;
    case NUMBER:
    case NUMBER64:
        if (f->low == -INT64_MAX)
            snprintf(out, size, "a finite number");
        else
            snprintf(out, size, "a finite number %s %" PRId64, f->open ? ">" : ">=", f->low);
        return;
    case TRUTH:
    case TRUTH_OR_UNSET:
        snprintf(out, size, "true or false");
        return;
    case CHOICE:
    case WORD:
        return;
    }
}

/* A name for an axis of the table that is none there asks for what tern does not have; anything else is a wrong value. */
static tern_status refuse(tern_ctx *ctx, const char *where, const struct tern_op_row *row, const struct tern_field *f,
                          const struct tern_value *value)
{
    const bool name = value->kind == TERN_VALUE_NAME, axis = is_axis(f) && name;
    const char *quote = name ? "\"" : "";
    char values[96] = "";

    describe_values(row, f, values, sizeof values);
    return tern_fail(ctx, axis ? TERN_ERR_UNSUPPORTED : TERN_ERR_CONFIG, "%.200s: %s is %s%.60s%s, %s%s", where,
                     f->name, quote, value->name, quote,
                     axis         ? "there is: "
                     : f->choices ? "expected one of "
                                  : "expected ",
                     values);
}

/* The choice of that name, or of that number; NULL: there is none. */
static const struct choice *choose(const struct tern_op_row *row, const struct tern_field *f,
                                   const struct tern_value *value)
{
    for (const struct choice *c = f->choices; c && c->name; c++)
        if (offers(row, f, c) && (value->kind == TERN_VALUE_NAME  ? strcmp(c->name, value->name) == 0
                                  : value->kind == TERN_VALUE_INT ? f->kind <= WHOLE32 && c->value == value->whole
                                                                  : false))
            return c;
    return NULL;
}

tern_status tern_field_store(tern_ctx *ctx, const char *where, int index, const struct tern_field *f,
                             const struct tern_value *value, tern_op_settings *settings)
{
    const struct tern_op_row *row = tern_op_row_or_module(index);
    const struct choice *choice = choose(row, f, value);
    char *at = (char *)settings + f->offset;

    switch (f->kind) {
    case WHOLE64:
    case WHOLE32:
        if (value->kind != TERN_VALUE_INT || (f->choices ? !choice : value->whole < f->low || value->whole > f->high))
            return refuse(ctx, where, row, f, value);
        if (f->kind == WHOLE64)
            memcpy(at, &value->whole, sizeof(int64_t));
        else
            memcpy(at, &(int32_t){ (int32_t)value->whole }, sizeof(int32_t));
        return TERN_OK;
    case NUMBER64: {
        const double x = value->kind == TERN_VALUE_INT ? (double)value->whole : value->number;
        if ((value->kind != TERN_VALUE_INT && value->kind != TERN_VALUE_NUMBER) || !isfinite(x) || x < (double)f->low)
            return refuse(ctx, where, row, f, value);
        memcpy(at, &x, sizeof x);
        return TERN_OK;
    }
    case NUMBER: {
        const double x = value->kind == TERN_VALUE_INT ? (double)value->whole : value->number;
        const float stored = (float)x;
        const double low = (double)f->low;
        if ((value->kind != TERN_VALUE_INT && value->kind != TERN_VALUE_NUMBER) || !isfinite(stored) ||
            !(f->open ? stored > low : stored >= low))
            return refuse(ctx, where, row, f, value);
        memcpy(at, &stored, sizeof stored);
        return TERN_OK;
    }
    case TRUTH:
    case TRUTH_OR_UNSET:
        if (value->kind != TERN_VALUE_BOOL)
            return refuse(ctx, where, row, f, value);
        if (f->kind == TRUTH)
            memcpy(at, &value->truth, sizeof(bool));
        else
            memcpy(at, &(int32_t){ value->truth }, sizeof(int32_t));
        return TERN_OK;
    case CHOICE:
        if (!choice)
            return refuse(ctx, where, row, f, value);
        memcpy(at, &choice->value, sizeof(int)); /* every enum here has the size of an int */
        return TERN_OK;
    case WORD:
        if (!choice)
            return refuse(ctx, where, row, f, value);
        memcpy(at, &choice->name, sizeof choice->name);
        return TERN_OK;
    }
    return TERN_OK;
}

_Static_assert(sizeof(tern_dtype) == sizeof(int) && sizeof(tern_norm) == sizeof(int) &&
                   sizeof(tern_activation) == sizeof(int) && sizeof(tern_gelu_form) == sizeof(int) &&
                   sizeof(tern_device) == sizeof(int) && sizeof(tern_kernel_choice) == sizeof(int) &&
                   sizeof(tern_activation_quant) == sizeof(int),
               "enums are stored as int");

/* ---- from texts ---- */

/* What a text can be taken for where the field wants a `kind`. */
static void read_text(const char *text, enum kind kind, struct tern_value *out)
{
    char *end;

    *out = (struct tern_value){ .kind = TERN_VALUE_NAME, .name = text };
    if (kind == TRUTH || kind == TRUTH_OR_UNSET) {
        const bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        if (yes || strcmp(text, "false") == 0 || strcmp(text, "0") == 0) {
            out->kind = TERN_VALUE_BOOL;
            out->truth = yes;
        }
        return;
    }
    if (kind == WORD && strcmp(text, "\"\"") == 0) {
        out->name = ""; /* as lists show it */
        return;
    }
    if (kind == CHOICE || kind == WORD || !*text || !strchr("-+.0123456789", *text) ||
        text[strspn(text, "-+.0123456789eE")])
        return;
    errno = 0;
    out->whole = strtoll(text, &end, 10);
    if (!*end && !errno) {
        out->kind = TERN_VALUE_INT;
        return;
    }
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return;
    const tern_fpmode caller = tern_fpmode_enter(); /* strtod rounds as the mode says */
    out->number = strtod_l(text, &end, c_locale);
    tern_fpmode_leave(caller);
    freelocale(c_locale);
    if (!*end && end != text)
        out->kind = TERN_VALUE_NUMBER;
}

static tern_status set(tern_ctx *ctx, int index, tern_op_settings *settings, const char *key, const char *value)
{
    const struct tern_field *field = tern_field_find(index, key);
    struct tern_value v;

    if (!field)
        return tern_field_unknown(ctx, "config", index, key);
    read_text(value, field->kind, &v);
    return tern_field_store(ctx, "config", index, field, &v, settings);
}

tern_status tern_config_set(tern_ctx *ctx, tern_config *config, const char *key, const char *value)
{
    tern_op_settings settings;

    TERN_REQUIRE(ctx, config && key && value, TERN_ERR_ARG, "config_set: %s is NULL",
                 !config ? "config"
                 : !key  ? "key"
                         : "value");
    settings.config = *config;
    TERN_TRY(set(ctx, -1, &settings, key, value));
    *config = settings.config;
    return TERN_OK;
}

tern_status tern_op_settings_set(tern_ctx *ctx, int index, tern_op_settings *settings, const char *key,
                                 const char *value)
{
    TERN_REQUIRE(ctx, settings && key && value, TERN_ERR_ARG, "op_settings_set: %s is NULL",
                 !settings ? "settings"
                 : !key    ? "key"
                           : "value");
    TERN_REQUIRE(ctx, tern_op_row_or_module(index), TERN_ERR_ARG,
                 "op_settings_set: index is %d, expected 0..%d or a module", index, tern_op_count() - 1);
    return set(ctx, index, settings, key, value);
}

/* ---- for tools ---- */

static void describe_standard(const struct tern_field *f, char *out, size_t size)
{
    const tern_op_settings standard = tern_op_settings_default();
    const char *at = (const char *)&standard + f->offset;
    int64_t whole = 0;
    int32_t whole32 = 0;
    const char *word = NULL;
    double number64 = 0;
    float number = 0;
    bool truth = false;

    snprintf(out, size, "unset");
    switch (f->kind) {
    case WHOLE64:
        memcpy(&whole, at, sizeof whole);
        snprintf(out, size, "%" PRId64, whole);
        return;
    case WHOLE32:
        memcpy(&whole32, at, sizeof whole32);
        if (f->choices || whole32 >= f->low) /* below it: to be given */
            snprintf(out, size, "%" PRId32, whole32);
        return;
    case NUMBER64:
        memcpy(&number64, at, sizeof number64);
        snprintf(out, size, "%g", number64);
        return;
    case NUMBER:
        memcpy(&number, at, sizeof number);
        if (!isnan(number))
            snprintf(out, size, "%g", (double)number);
        return;
    case TRUTH:
        memcpy(&truth, at, sizeof truth);
        snprintf(out, size, truth ? "true" : "false");
        return;
    case TRUTH_OR_UNSET:
        return;
    case CHOICE:
        memcpy(&whole32, at, sizeof whole32);
        for (const struct choice *c = f->choices; c->name; c++)
            if (c->value == whole32)
                snprintf(out, size, "%s", c->name);
        return;
    case WORD:
        memcpy(&word, at, sizeof word);
        snprintf(out, size, "%s", *word ? word : "\"\"");
        return;
    }
}

bool tern_op_key_at(int index, int key, tern_op_key *out)
{
    const struct tern_op_row *row = tern_op_row_or_module(index);

    if (!row || !out || key < 0)
        return false;
    unsigned reads = row->reads | ALWAYS | (row->dtypes >> TERN_INT8 & 1 ? INT8 : 0);
    for (int i = 0; row->io[i].name; i++)
        reads |= row->io[i].type == TERN_OP_MATRIX ? TERN_READS_MATRIX
                 : row->io[i].type == TERN_OP_MASK ? TERN_READS_MASK
                                                   : 0;
    for (size_t i = 0; i < N_FIELDS; i++) {
        const struct tern_field *f = &fields[i];
        if ((!f->own && !(f->reads & reads)) || tern_field_find(index, f->name) != f || key-- > 0)
            continue;
        *out = (tern_op_key){ .name = f->name, .about = f->about };
        describe_values(row, f, out->values, sizeof out->values);
        describe_standard(f, out->standard, sizeof out->standard);
        return true;
    }
    return false;
}
