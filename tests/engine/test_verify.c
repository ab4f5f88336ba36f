/* test_verify.c: tern_verify() says that a checkpoint is as its golden, in every dtype, and where it is not: the golden, or the model, is
 * damaged in one place, and the report names that place.
 *
 * What it reads is made here from the goldens of tests/golden/models, which transformers computed. */
/* labels: quick */
#include "model/golden.h"

#include <tern/verify.h>

#define TOLERANCE 1e-4 /* what tern verify takes for fp32 */

/* ---- a golden file, tensor by tensor ---- */

struct file {
    char header[1 << 14];
    size_t header_size, size;
    unsigned char *data;
    char path[4096];
};

static unsigned char *file_add(struct file *f, const char *name, const char *dtype, int rank, const int64_t *dim,
                               const void *data, size_t size)
{
    char shape[96];

    f->data = realloc(f->data, f->size + size + 1);
    assert_non_null(f->data);
    if (data)
        memcpy(f->data + f->size, data, size);
    f->header_size += (size_t)snprintf(f->header + f->header_size, sizeof f->header - f->header_size,
                                       "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                                       f->header_size ? "," : "{", name, dtype, tern_file_shape_text(shape, rank, dim),
                                       f->size, f->size + size);
    assert_true(f->header_size + 2 < sizeof f->header);
    f->size += size;
    return f->data + f->size - size;
}

static void file_bytes(struct file *f, const char *name, const char *text)
{
    const int64_t n = (int64_t)strlen(text);

    file_add(f, name, "U8", 1, &n, text, (size_t)n);
}

/* Its path; the file is in dir. */
static const char *file_write(struct file *f, const char *dir)
{
    f->header[f->header_size] = '}';
    snprintf(f->path, sizeof f->path, "%s",
             write_safetensors(dir, "verify.safetensors", f->header, f->header_size + 1, f->data, f->size));
    f->header[f->header_size] = '\0';
    return f->path;
}

/* ---- a golden of tests/golden/models in that form ---- */

struct golden {
    char path[4096];
    struct tern_json *json;
    struct tern_safetensors *files;
    int64_t n_layers;
    bool answers; /* of the model; else its states are all that there is */
};

static void golden_open(tern_ctx *ctx, const char *folder, struct golden *g)
{
    tern_model_options options = tern_model_options_default();
    tern_model *model;
    char path[4200];

    snprintf(path, sizeof path, "models/%s", folder);
    snprintf(g->path, sizeof g->path, "%s", test_golden(path));
    snprintf(path, sizeof path, "%s/golden.json", g->path);
    assert_ok(ctx, tern_json_read(ctx, path, 1 << 24, &g->json));
    snprintf(path, sizeof path, "%s/golden.safetensors", g->path);
    assert_ok(ctx, tern_safetensors_open(ctx, path, &g->files));
    options.describe = true;
    assert_ok(ctx, tern_model_open(ctx, g->path, &options, &model));
    g->n_layers = tern_model_get_config(model)->n_layers;
    g->answers = tern_model_outputs(model) > 0;
    tern_model_close(&model);
}

static void golden_close(struct golden *g)
{
    tern_safetensors_close(&g->files);
    tern_json_destroy(g->json);
}

static void add_ids(struct file *f, const char *kind, size_t to, const tern_json_value *lists, size_t p)
{
    char name[32];
    int32_t n;
    int32_t *ids = prompt_ids(lists, p, &n);
    const int64_t T = n;

    snprintf(name, sizeof name, "%s.%zu", kind, to);
    file_add(f, name, "I32", 1, &T, ids, (size_t)n * sizeof *ids);
    free(ids);
}

/* All prompts with what the model answers, and the states of the one that has some: hidden.I is the first L of them, final.I the last. */
static void add_prompts(const struct golden *g, struct file *f)
{
    const tern_json_value *root = tern_json_root(g->json), *prompts = tern_json_get(root, "prompts");
    const tern_json_value *segments = tern_json_get(root, "segments");

    for (size_t p = 0, to = 0; p < tern_json_size(prompts); p++) {
        char name[32], from[32];
        snprintf(from, sizeof from, "hidden.%zu", p);
        const struct tern_file_tensor *states = tern_safetensors_find(g->files, from);
        if (!g->answers && !states)
            continue;
        add_ids(f, "ids", to, prompts, p);
        if (segments)
            add_ids(f, "segments", to, segments, p);
        snprintf(name, sizeof name, "logits.%zu", p);
        const struct tern_file_tensor *t = tern_safetensors_find(g->files, name);
        assert_non_null(t);
        snprintf(name, sizeof name, "%s.%zu", t->rank == 2 ? "logits" : "answer", to);
        if (g->answers)
            file_add(f, name, "F32", t->rank, t->dim, t->data, t->size);
        to++;
        if (!states)
            continue;
        const size_t state = states->size / (size_t)states->dim[0], L = (size_t)g->n_layers;
        snprintf(name, sizeof name, "hidden.%zu", to - 1);
        file_add(f, name, "F32", 3, (int64_t[]){ g->n_layers, states->dim[1], states->dim[2] }, states->data,
                 state * L);
        snprintf(name, sizeof name, "final.%zu", to - 1);
        file_add(f, name, "F32", 2, states->dim + 1, states->data + states->size - state, state);
    }
}

/* ---- families ---- */

struct family {
    const char *folder;
    const char *layer; /* a tensor of a layer, before and behind its number */
    const char *behind;
    const char *embed;
    bool shared; /* all layers are one */
};

static const struct family families[] = {
    { "albert-tiny", "encoder.albert_layer_groups.", ".albert_layers.0.attention.dense.weight",
      "embeddings.word_embeddings.weight", true },
    { "bert-classify", "bert.encoder.layer.", ".attention.output.dense.weight",
      "bert.embeddings.word_embeddings.weight", false },
    { "bert-fill", "bert.encoder.layer.", ".output.dense.weight", "bert.embeddings.word_embeddings.weight", false },
    { "clip-text-projection", "text_model.encoder.layers.", ".self_attn.out_proj.weight",
      "text_model.embeddings.token_embedding.weight", false },
    { "gemma3-tiny", "model.layers.", ".self_attn.o_proj.weight", "model.embed_tokens.weight", false },
    { "gpt-neox-tiny", "gpt_neox.layers.", ".attention.dense.weight", "gpt_neox.embed_in.weight", false },
    { "llama-tiny", "model.layers.", ".mlp.down_proj.weight", "model.embed_tokens.weight", false },
    { "mixtral-tiny", "model.layers.", ".self_attn.o_proj.weight", "model.embed_tokens.weight", false },
    { "modernbert-tiny", "layers.", ".attn.Wo.weight", "embeddings.tok_embeddings.weight", false },
    { "opt-350m", "model.decoder.layers.", ".self_attn.out_proj.weight", "model.decoder.embed_tokens.weight", false },
    { "phi-tiny", "model.layers.", ".self_attn.dense.weight", "model.embed_tokens.weight", false },
    { "qwen3-moe-tiny", "model.layers.", ".self_attn.q_proj.weight", "model.embed_tokens.weight", false },
};
#define N_FAMILIES (sizeof families / sizeof families[0])

static tern_verify_report verify(tern_ctx *ctx, const char *model, const char *golden, tern_model_dtype dtype)
{
    tern_verify_report report;

    assert_ok(ctx, tern_verify(ctx, model, golden, dtype, TOLERANCE, &report));
    return report;
}

/* The signs of all of a tensor's numbers, whose size its dtype tells. */
static void negate(struct checkpoint *c, const char *name)
{
    char key[256];
    size_t size;
    unsigned char *data = checkpoint_tensor(c, name, &size);

    snprintf(key, sizeof key, "\"%s\":{", name);
    const char *dtype = strstr(strstr(c->header, key), "\"dtype\":\"") + 9;
    const size_t width = strncmp(dtype, "F32", 3) == 0 ? 4 : 2;
    for (size_t at = width - 1; at < size; at += width)
        data[at] ^= 0x80;
}

/* As the golden in fp32; and in each other dtype as far off as that dtype's bound is, but not as near as fp32. */
static void test_a_checkpoint_is_as_its_golden(void **state)
{
    /* rms bounds of docs/numerics.md are for rms errors: the largest of a few thousand is up to 8 of them. */
    static const struct {
        tern_model_dtype dtype;
        double largest;
    } narrow[] = { { TERN_MODEL_BF16, 0.15 }, { TERN_MODEL_INT8, 0.6 } };
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const char *dir = test_temp_dir();
        struct file f = { .header_size = 0 };
        struct golden g;
        golden_open(ctx, families[i].folder, &g);
        add_prompts(&g, &f);
        const char *path = file_write(&f, dir);
        const tern_verify_report r = verify(ctx, g.path, path, TERN_MODEL_FP32);
        if (r.first_state >= 0)
            fail_msg("%s: state %d diverges", families[i].folder, r.first_state);
        assert_int_equal(r.n_states, g.n_layers + 1);
        assert_true(r.states_rel > 0 && r.states_rel <= 3e-5 && r.logits_rel <= 3e-5 && r.answers_rel <= 3e-5);
        assert_true(!g.answers || r.n_rows > 0 || r.n_answers > 0);
        assert_int_equal(r.n_best, r.n_rows);
        for (size_t n = 0; n < 2; n++) {
            const tern_verify_report other = verify(ctx, g.path, path, narrow[n].dtype);
            assert_true(other.first_state >= 0 && other.states_rel > r.states_rel);
            if (other.states_rel > narrow[n].largest)
                fail_msg("%s in %s: states are off by %g", families[i].folder, tern_model_dtype_name(narrow[n].dtype),
                         other.states_rel);
        }
        free(f.data);
        golden_close(&g);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

/* A model with one tensor's signs turned: which state is the first that diverges. */
static int32_t first_of(tern_ctx *ctx, const struct golden *g, const char *golden, const char *tensor)
{
    const char *dir = test_temp_dir();
    struct checkpoint c = checkpoint_read(g->path);

    negate(&c, tensor);
    checkpoint_write(&c, dir);
    const tern_verify_report r = verify(ctx, dir, golden, TERN_MODEL_FP32);
    assert_true(r.logits_rel > TOLERANCE || r.answers_rel > TOLERANCE || !g->answers);
    checkpoint_free(&c);
    test_remove_dir(dir);
    return r.first_state;
}

static void test_a_damaged_layer_is_the_first_that_diverges(void **state)
{
    tern_ctx *ctx = test_ctx(2);

    (void)state;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const struct family *family = &families[i];
        const char *dir = test_temp_dir();
        struct file f = { .header_size = 0 };
        struct golden g;
        golden_open(ctx, family->folder, &g);
        add_prompts(&g, &f);
        const char *path = file_write(&f, dir);
        assert_int_equal(first_of(ctx, &g, path, family->embed), 0);
        for (int64_t layer = 0; layer < (family->shared ? 1 : g.n_layers); layer++) {
            char name[128];
            snprintf(name, sizeof name, "%s%d%s", family->layer, (int)layer, family->behind);
            const int32_t first = first_of(ctx, &g, path, name);
            if (first != (int32_t)layer + 1)
                fail_msg("%s: %s is damaged, the first state that diverges is %d", family->folder, name, first);
        }
        free(f.data);
        golden_close(&g);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

/* One number of a golden is another: nothing else is off. */
static void test_a_damaged_golden_is_told_where(void **state)
{
    tern_ctx *ctx = test_ctx(2);
    struct golden g;

    (void)state;
    golden_open(ctx, "llama-tiny", &g);
    for (int64_t damaged = -1; damaged <= g.n_layers; damaged++) { /* -1: the logits */
        const char *dir = test_temp_dir();
        struct file f = { .header_size = 0 };
        add_prompts(&g, &f);
        const char *path = file_write(&f, dir);
        struct tern_safetensors *written;
        assert_ok(ctx, tern_safetensors_open(ctx, path, &written));
        const struct tern_file_tensor *t = tern_safetensors_find(written, damaged < 0            ? "logits.1"
                                                                          : damaged < g.n_layers ? "hidden.1"
                                                                                                 : "final.1");
        const struct tern_file_tensor *first = tern_safetensors_find(written, "ids.0");
        const size_t states = (size_t)g.n_layers;
        const size_t at = (size_t)(t->data - first->data) +
                          (damaged > 0 && damaged < g.n_layers ? t->size / states * (size_t)damaged : 0) + 8;
        const float other = 1000;
        memcpy(f.data + at, &other, sizeof other);
        tern_safetensors_close(&written);
        const tern_verify_report r = verify(ctx, g.path, file_write(&f, dir), TERN_MODEL_FP32);
        assert_int_equal(r.first_state, damaged);
        assert_true((r.logits_rel > TOLERANCE) == (damaged < 0));
        assert_true(r.n_best + 1 >= r.n_rows && r.final_norm);
        free(f.data);
        test_remove_dir(dir);
    }
    golden_close(&g);
    tern_ctx_destroy(&ctx);
}

/* ---- texts, chats, sentences ---- */

/* What jinja2 made of a conversation, and of the same one another text. */
static void test_rendered_chats(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    const char *dir = test_temp_dir();
    struct file f = { .header_size = 0 };
    struct tern_json *json;
    const tern_json_value *one = NULL;
    size_t size, length;

    (void)state;
    assert_ok(ctx, tern_json_read(ctx, test_golden("templates/templates.json"), 1 << 26, &json));
    const tern_json_value *cases = tern_json_get(tern_json_root(json), "cases");
    for (size_t i = 0; i < tern_json_size(cases) && !one; i++) {
        const tern_json_value *item = tern_json_at(cases, i), *text = tern_json_get(item, "text");
        const char *name = tern_json_string(tern_json_get(item, "template"), &length);
        const tern_json_value *prompt = tern_json_get(item, "prompt");
        if (strcmp(name, "chatml") == 0 && text && prompt && tern_json_bool(prompt))
            one = item;
    }
    assert_non_null(one);
    char *template = test_read(test_golden("templates/chatml.jinja"), &size);
    test_write(dir, "chat_template.jinja", template, size);
    free(template);
    const char *messages = tern_json_string(tern_json_get(one, "messages"), &length);
    const char *text = tern_json_string(tern_json_get(one, "text"), &length);
    file_bytes(&f, "chat.0", messages);
    file_bytes(&f, "rendered.0", text);
    file_bytes(&f, "chat.1", messages);
    file_bytes(&f, "rendered.1", "another text");
    const tern_verify_report r = verify(ctx, dir, file_write(&f, dir), TERN_MODEL_FP32);
    assert_true(r.n_chats == 2 && r.n_chats_same == 1 && r.n_prompts == 0);
    free(f.data);
    tern_json_destroy(json);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* tests/golden/sentences/mean with its golden of tools/make_golden.py: texts, answers, states and vectors; one number or one letter is
 * another. */
static void test_texts_and_embeddings(void **state)
{
    static const struct {
        const char *tensor;
        int32_t n_texts_same;
        bool vectors, answers;
    } cases[] = {
        { NULL, 2, true, true },
        { "vector.1", 2, false, true },
        { "answer.0", 2, true, false },
        { "text.1", 1, true, true },
    };
    tern_ctx *ctx = test_ctx(1);
    char model[4096];

    (void)state;
    snprintf(model, sizeof model, "%s", test_golden("sentences/mean"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = test_temp_dir();
        char path[4200];
        size_t size;
        struct tern_safetensors *files;
        snprintf(path, sizeof path, "%s/golden.safetensors", model);
        char *bytes = test_read(path, &size);
        assert_ok(ctx, tern_safetensors_open(ctx, path, &files));
        if (cases[i].tensor) {
            const struct tern_file_tensor *t = tern_safetensors_find(files, cases[i].tensor);
            size_t data = 0;
            assert_non_null(t);
            for (size_t k = 0; k < tern_safetensors_count(files); k++)
                data += tern_safetensors_at(files, k)->size;
            const unsigned char *begin = NULL;
            for (size_t k = 0; k < tern_safetensors_count(files); k++) {
                const struct tern_file_tensor *one = tern_safetensors_at(files, k);
                begin = !begin || one->data < begin ? one->data : begin;
            }
            char *at = bytes + (size - data) + (t->data - begin);
            const float other = 2;
            if (t->dtype == TERN_UINT8)
                *at = *at == 'a' ? 'b' : 'a';
            else
                memcpy(at, &other, sizeof other);
        }
        const char *golden = test_write(dir, "golden.safetensors", bytes, size);
        const tern_verify_report r = verify(ctx, model, golden, TERN_MODEL_FP32);
        assert_true(r.n_texts == 2 && r.n_vectors == 2 && r.n_answers == 2 && r.first_state == -1 && !r.final_norm);
        assert_int_equal(r.n_texts_same, cases[i].n_texts_same);
        assert_true((r.vectors_abs <= TOLERANCE) == cases[i].vectors);
        assert_true((r.answers_rel <= TOLERANCE) == cases[i].answers);
        free(bytes);
        tern_safetensors_close(&files);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

/* ---- goldens that do not fit ---- */

static void test_what_does_not_fit_is_refused(void **state)
{
    static const int32_t ids[] = { 1, 2, 3 }, far[] = { 1, 97, 3 };
    static const int64_t three = 3;
    static const struct {
        const char *name, *dtype;
        int rank;
        int64_t dim[3];
        tern_status status;
        const char *words;
        bool far; /* with an id beyond the vocabulary */
    } cases[] = {
        { "logits.0",
          "F32",
          2,
          { 3, 96 },
          TERN_ERR_SHAPE,
          "tensor \"logits.0\": shape is [3, 96], expected [any, 97]",
          false },
        { "logits.0", "F32", 2, { 4, 97 }, TERN_ERR_FORMAT, "has 4 rows, the prompt 3 tokens", false },
        { "answer.0", "F32", 1, { 97 }, TERN_ERR_FORMAT, "gives no answer for a text", false },
        { "hidden.0", "F32", 3, { 2, 3, 32 }, TERN_ERR_SHAPE, "shape is [2, 3, 32], expected [3, 3, 32]", false },
        { "final.0", "I32", 2, { 3, 32 }, TERN_ERR_DTYPE, "dtype is int32, expected fp32", false },
        { "logit.0", "F32", 2, { 3, 97 }, TERN_ERR_FORMAT, "neither logits, answer, hidden, final nor text", false },
        { "segments.0", "I32", 1, { 3 }, TERN_ERR_FORMAT, "neither logits", false },
        { "logits.0", "F32", 2, { 3, 97 }, TERN_ERR_FORMAT, "\"ids.0\"[1] is 97, the vocabulary has 97 ids", true },
    };
    tern_ctx *ctx = test_ctx(1);
    tern_verify_report report;
    char model[4096];

    (void)state;
    snprintf(model, sizeof model, "%s", test_golden("models/llama-tiny"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = test_temp_dir();
        struct file f = { .header_size = 0 };
        size_t size = 4;
        for (int d = 0; d < cases[i].rank; d++)
            size *= (size_t)cases[i].dim[d];
        char *zero = calloc(size, 1);
        assert_non_null(zero);
        file_add(&f, "ids.0", "I32", 1, &three, cases[i].far ? far : ids, sizeof ids);
        file_add(&f, cases[i].name, cases[i].dtype, cases[i].rank, cases[i].dim, zero, size);
        assert_fails(ctx, tern_verify(ctx, model, file_write(&f, dir), TERN_MODEL_FP32, TOLERANCE, &report),
                     cases[i].status, cases[i].words);
        free(zero);
        free(f.data);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

/* Behind a gap in the numbers nothing would be read. */
static void test_a_tensor_that_nothing_reads_is_told(void **state)
{
    static const int32_t ids[] = { 1, 2, 3 };
    static const float logits[3 * 97];
    static const int64_t three = 3;
    tern_ctx *ctx = test_ctx(1);
    const char *dir = test_temp_dir();
    struct file f = { .header_size = 0 };
    tern_verify_report report;

    (void)state;
    file_add(&f, "ids.0", "I32", 1, &three, ids, sizeof ids);
    file_add(&f, "logits.0", "F32", 2, (int64_t[]){ 3, 97 }, logits, sizeof logits);
    file_add(&f, "logits.2", "F32", 2, (int64_t[]){ 3, 97 }, logits, sizeof logits);
    assert_fails(
        ctx,
        tern_verify(ctx, test_golden("models/llama-tiny"), file_write(&f, dir), TERN_MODEL_FP32, TOLERANCE, &report),
        TERN_ERR_FORMAT, "tensor \"logits.2\" is none that is compared");
    free(f.data);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_checkpoint_is_as_its_golden),
        cmocka_unit_test(test_a_damaged_layer_is_the_first_that_diverges),
        cmocka_unit_test(test_a_damaged_golden_is_told_where),
        cmocka_unit_test(test_rendered_chats),
        cmocka_unit_test(test_texts_and_embeddings),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_a_tensor_that_nothing_reads_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
