/* test_bare_models.c: decoders under the name of the bare model ("LlamaModel"): with a head in the file, or a tied one, they generate;
 * without one they give states alone, those of the golden. */
/* labels: quick */
#include "model/golden.h"

#include <tern/encode.h>
#include <tern/generate.h>

struct bare {
    const char *folder, *from, *to; /* architectures */
    const char *head;               /* its tensor, which becomes one of another task's; NULL: stays as it is */
    const char *head_bias, *other_bias;
};

static const char *write_bare(const struct bare *b)
{
    char path[256], from[64], to[64];
    const char *dir = test_temp_dir();

    snprintf(path, sizeof path, "models/%s", b->folder);
    struct checkpoint c = checkpoint_read(test_golden(path));
    snprintf(from, sizeof from, "\"%s\"", b->from);
    snprintf(to, sizeof to, "\"%s\"", b->to);
    checkpoint_edit(&c.config, from, to);
    if (b->head) {
        snprintf(from, sizeof from, "\"%s\"", b->head);
        checkpoint_edit(&c.header, from, "\"score.weight\"");
    }
    if (b->head_bias) {
        snprintf(from, sizeof from, "\"%s\"", b->head_bias);
        snprintf(to, sizeof to, "\"%s\"", b->other_bias);
        checkpoint_edit(&c.header, from, to);
    }
    checkpoint_write(&c, dir);
    checkpoint_free(&c);
    return dir;
}

/* The states of the prompt whose states are in the golden. */
static void check_states(tern_ctx *ctx, const tern_model *model, const struct bare *b)
{
    const tern_model_config *c = tern_model_get_config(model);
    const int64_t H = c->hidden_size, L = c->n_layers;
    struct tern_safetensors *files;
    struct tern_json *json;
    tern_encoder *encoder;
    char path[256];
    double largest;
    int32_t n;

    snprintf(path, sizeof path, "models/%s/golden.json", b->folder);
    assert_ok(ctx, tern_json_read(ctx, test_golden(path), 1 << 24, &json));
    snprintf(path, sizeof path, "models/%s/golden.safetensors", b->folder);
    assert_ok(ctx, tern_safetensors_open(ctx, test_golden(path), &files));
    int32_t *ids = prompt_ids(tern_json_get(tern_json_root(json), "prompts"), 1, &n);
    float *want = golden_values(files, "hidden", 1, 3, (int64_t[]){ L + 2, n, H });
    float *got = malloc((size_t)(n * H) * sizeof *got);

    assert_non_null(got);
    assert_ok(ctx, tern_encoder_create(ctx, model, NULL, &encoder));
    assert_ok(ctx, tern_encode(encoder, &(tern_encode_text){ .ids = ids, .n_ids = n }, 1, got, NULL));
    const double error = difference(got, want + (L + 1) * n * H, (size_t)(n * H), &largest);
    if (!(error <= 3e-5 * largest)) /* as test_families.c */
        fail_msg("%s: states are off by %g, the largest value is %g", b->to, error, largest);
    tern_encoder_destroy(&encoder);
    tern_safetensors_close(&files);
    tern_json_destroy(json);
    free(ids);
    free(want);
    free(got);
}

static void check(const struct bare *cases, size_t n, tern_task task)
{
    tern_ctx *ctx = test_ctx(1);

    for (size_t i = 0; i < n; i++) {
        const char *dir = write_bare(&cases[i]);
        tern_session *session = NULL;
        tern_model_options options = tern_model_options_default();
        tern_model *model;

        options.dtype = TERN_MODEL_FP32;
        assert_ok(ctx, tern_model_open(ctx, dir, &options, &model));
        assert_string_equal(tern_model_get_config(model)->architecture, cases[i].to);
        assert_int_equal(tern_model_get_config(model)->task, task);
        check_states(ctx, model, &cases[i]);
        if (task == TERN_TASK_STATES) {
            assert_int_equal(tern_model_outputs(model), 0);
            assert_fails(ctx, tern_session_create(ctx, model, NULL, &session), TERN_ERR_UNSUPPORTED, cases[i].to);
        } else {
            assert_ok(ctx, tern_session_create(ctx, model, NULL, &session));
            tern_session_destroy(&session);
        }
        tern_model_close(&model);
        test_remove_dir(dir);
    }
    tern_ctx_destroy(&ctx);
}

static void test_without_a_head_states_alone(void **state)
{
    static const struct bare cases[] = {
        { "bloom-residual", "BloomForCausalLM", "BloomModel", "lm_head.weight", NULL, NULL },
        { "falcon-40b", "FalconForCausalLM", "FalconModel", "lm_head.weight", NULL, NULL },
        { "gemma-biases", "GemmaForCausalLM", "GemmaModel", "lm_head.weight", NULL, NULL },
        { "gpt-neo-types", "GPTNeoForCausalLM", "GPTNeoModel", "lm_head.weight", NULL, NULL },
        { "gpt-neox-tiny", "GPTNeoXForCausalLM", "GPTNeoXModel", "embed_out.weight", NULL, NULL },
        { "gptj-tied", "GPTJForCausalLM", "GPTJModel", NULL, "lm_head.bias", "qa_outputs.bias" },
        { "gptj-tiny", "GPTJForCausalLM", "GPTJModel", "lm_head.weight", "lm_head.bias", "qa_outputs.bias" },
        { "internlm-tiny", "InternLMForCausalLM", "InternLMModel", "lm_head.weight", NULL, NULL },
        { "internlm2-tiny", "InternLM2ForCausalLM", "InternLM2Model", "output.weight", NULL, NULL },
        { "llama-tiny", "LlamaForCausalLM", "LlamaModel", "lm_head.weight", NULL, NULL },
        { "mistral-tiny", "MistralForCausalLM", "MistralModel", "lm_head.weight", NULL, NULL },
        { "mixtral-tiny", "MixtralForCausalLM", "MixtralModel", "lm_head.weight", NULL, NULL },
        { "opt-plain", "OPTForCausalLM", "OPTModel", "lm_head.weight", NULL, NULL },
        { "phi-norms", "PhiForCausalLM", "PhiModel", NULL, "lm_head.bias", "classifier.bias" },
        { "phi-tiny", "PhiForCausalLM", "PhiModel", "lm_head.weight", "lm_head.bias", "classifier.bias" },
        { "phi3-tiny", "Phi3ForCausalLM", "Phi3Model", "lm_head.weight", NULL, NULL },
        { "qwen2-window", "Qwen2ForCausalLM", "Qwen2Model", "lm_head.weight", NULL, NULL },
        { "qwen2-moe-tiny", "Qwen2MoeForCausalLM", "Qwen2MoeModel", "lm_head.weight", NULL, NULL },
        { "qwen3-tiny", "Qwen3ForCausalLM", "Qwen3Model", "lm_head.weight", NULL, NULL },
        { "qwen3-moe-tiny", "Qwen3MoeForCausalLM", "Qwen3MoeModel", "lm_head.weight", NULL, NULL },
        { "stablelm-tiny", "StableLmForCausalLM", "StableLmModel", "lm_head.weight", NULL, NULL },
    };

    (void)state;
    check(cases, sizeof cases / sizeof cases[0], TERN_TASK_STATES);
}

static void test_with_a_head_they_generate(void **state)
{
    static const struct bare cases[] = {
        { "gemma2-tiny", "Gemma2ForCausalLM", "Gemma2Model", NULL, NULL, NULL },
        { "gemma3-tiny", "Gemma3ForCausalLM", "Gemma3TextModel", NULL, NULL, NULL },
        { "gpt-neox-sequential", "GPTNeoXForCausalLM", "GPTNeoXModel", NULL, NULL, NULL },
        { "gptj-tiny", "GPTJForCausalLM", "GPTJModel", NULL, NULL, NULL },
        { "llama-tiny", "LlamaForCausalLM", "LlamaModel", NULL, NULL, NULL },
        { "phi-norms", "PhiForCausalLM", "PhiModel", NULL, NULL, NULL },
        { "stablelm-norms", "StableLmForCausalLM", "StableLmModel", NULL, NULL, NULL },
    };

    (void)state;
    check(cases, sizeof cases / sizeof cases[0], TERN_TASK_GENERATE);
}

/* Whose head is not there, and whose name says that there is one. */
static void test_a_missing_head_is_told(void **state)
{
    static const struct bare b = { "phi-tiny", "PhiForCausalLM", "PhiForCausalLM", "lm_head.weight", NULL, NULL };
    const char *dir = write_bare(&b);
    tern_ctx *ctx = test_ctx(1);
    tern_model *model;

    (void)state;
    assert_fails(ctx, tern_model_open(ctx, dir, NULL, &model), TERN_ERR_NOT_FOUND, "no tensor \"lm_head.weight\"");
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_head_states_alone),
        cmocka_unit_test(test_with_a_head_they_generate),
        cmocka_unit_test(test_a_missing_head_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
