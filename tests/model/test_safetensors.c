/* test_safetensors.c: the container: what is read, and every way in which a file can be wrong. */
#include "checkpoint.h"

#define F32(name, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void test_reads(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[3,1,2],\"data_offsets\":[8,20]}," F32(
            "a", "[2]", 0, 8) ","
                              "\"c.scalar\":{\"shape\":[],\"data_offsets\":[20,28],\"dtype\":\"I64\"},"
                              "\"d.empty\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,7],\"data_offsets\":[28,28]}}   ";
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;

    (void)state;
    const char *path = write_safetensors(dir, "x.safetensors", header, strlen(header), NULL, 28);
    assert_ok(ctx, tern_safetensors_open(ctx, path, &files));
    assert_int_equal(tern_safetensors_count(files), 4);
    assert_string_equal(tern_safetensors_at(files, 0)->name, "a");
    assert_string_equal(tern_safetensors_at(files, 3)->name, "d.empty");
    const struct tern_file_tensor *b = tern_safetensors_find(files, "b"), *c = tern_safetensors_find(files, "c.scalar");
    assert_true(b && c && !tern_safetensors_find(files, "c") && !tern_safetensors_find(files, "__metadata__"));
    assert_true(b->dtype == TERN_BF16 && b->rank == 3 && b->dim[0] == 3 && b->dim[1] == 1 && b->dim[2] == 2 &&
                b->size == 12);
    assert_true(c->dtype == TERN_INT64 && c->rank == 0 && c->size == 8 && !c->used);
    assert_int_equal(b->data[0], (unsigned char)(8 * 7 + 3));
    tern_safetensors_drop(files, b);
    assert_int_equal(b->data[11], (unsigned char)(19 * 7 + 3)); /* a dropped page is read again */
    assert_string_equal(tern_safetensors_path(files, b), path);
    tern_safetensors_close(&files);
    assert_null(files);

    write_safetensors(dir, "none.safetensors", "{}", 2, NULL, 0);
    char none[4096];
    snprintf(none, sizeof none, "%s/none.safetensors", dir);
    assert_ok(ctx, tern_safetensors_open(ctx, none, &files));
    assert_int_equal(tern_safetensors_count(files), 0);
    assert_null(tern_safetensors_find(files, "a"));
    tern_safetensors_close(&files);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

static void test_every_dtype(void **state)
{
    static const struct {
        const char *name;
        tern_dtype dtype;
    } types[] = { { "F32", TERN_FP32 },   { "F16", TERN_FP16 },         { "BF16", TERN_BF16 },
                  { "F64", TERN_FP64 },   { "I8", TERN_INT8 },          { "U8", TERN_UINT8 },
                  { "I16", TERN_INT16 },  { "U16", TERN_UINT16 },       { "I32", TERN_INT32 },
                  { "U32", TERN_UINT32 }, { "I64", TERN_INT64 },        { "U64", TERN_UINT64 },
                  { "BOOL", TERN_BOOL },  { "F8_E4M3", TERN_FP8_E4M3 }, { "F8_E5M2", TERN_FP8_E5M2 } };
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;
    char header[256];

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const size_t size = 3 * tern_dtype_size(types[i].dtype);
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                 types[i].name, size);
        const char *path = write_safetensors(dir, "t.safetensors", header, strlen(header), NULL, size);
        assert_ok(ctx, tern_safetensors_open(ctx, path, &files));
        assert_int_equal(tern_safetensors_find(files, "t")->dtype, types[i].dtype);
        tern_safetensors_close(&files);
    }
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* Header, bytes of data, and what the refusal says. */
static const struct {
    const char *header;
    size_t data_size;
    tern_status status;
    const char *words;
} bad[] = {
    { "[]", 0, TERN_ERR_FORMAT, "header does not begin with {" },
    { " {}", 0, TERN_ERR_FORMAT, "header does not begin with {" },
    { "{", 0, TERN_ERR_FORMAT, "line 1" },
    { "{]", 0, TERN_ERR_FORMAT, "line 1" },
    { "{}{}", 0, TERN_ERR_FORMAT, "line 1" },
    { "{\"a\":7}", 0, TERN_ERR_FORMAT, "tensor \"a\" is an integer, expected an object" },
    { "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_UNSUPPORTED,
      "tensor \"a\": dtype is \"F33\"" },
    { "{\"a\":{\"dtype\":\"F32\\u0000\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_UNSUPPORTED,
      "dtype is \"F32\"" },
    { "{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_FORMAT,
      "dtype is an integer, expected a string" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_FORMAT, "dtype is nothing, expected a string" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, TERN_ERR_FORMAT, "shape is nothing, expected an array" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, TERN_ERR_FORMAT, "has no data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"stride\":[1]}}", 4, TERN_ERR_FORMAT,
      "unknown key \"stride\"" },
    { "{" F32("a", "{}", 0, 4) "}", 4, TERN_ERR_FORMAT, "shape is an object, expected an array" },
    { "{" F32("a", "[1.0]", 0, 4) "}", 4, TERN_ERR_FORMAT, "shape[0] is a number" },
    { "{" F32("a", "[-1]", 0, 4) "}", 4, TERN_ERR_FORMAT, "shape[0] is -1, expected at least 0" },
    { "{" F32("a", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, TERN_ERR_UNSUPPORTED, "9 dimensions, expected at most 8" },
    { "{" F32("a", "[4294967296,4294967296]", 0, 4) "}", 4, TERN_ERR_FORMAT,
      "shape [4294967296, 4294967296] of fp32 overflows" },
    { "{" F32("a", "[4611686018427387904]", 0, 0) "}", 0, TERN_ERR_FORMAT, "overflows" },
    { "{" F32("a", "[99999999999999999999]", 0, 4) "}", 4, TERN_ERR_FORMAT,
      "shape[0] is a number, expected an integer" },
    { "{" F32("a", "[2]", 0, 4) "}", 4, TERN_ERR_FORMAT, "data_offsets are [0, 4], 4 bytes; [2] of fp32 takes 8" },
    { "{" F32("a", "[1]", 4, 0) "}", 4, TERN_ERR_FORMAT, "data_offsets are [4, 0], expected 0 <= begin <= end" },
    { "{" F32("a", "[1]", -4, 0) "}", 4, TERN_ERR_FORMAT, "data_offsets are [-4, 0]" },
    { "{" F32("a", "[1]", 0, 4.5) "}", 4, TERN_ERR_FORMAT, "expected 2 integers" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, TERN_ERR_FORMAT,
      "an array with 1 items, expected an array of 2" },
    { "{" F32("a", "[2]", 0, 8) "}", 4, TERN_ERR_FORMAT, "data_offsets are [0, 8], the file has 4 bytes of data" },
    { "{" F32("a", "[1]", 9223372036854775800, 9223372036854775804) "}", 4, TERN_ERR_FORMAT,
      "the file has 4 bytes of data" },
    { "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 4, 12) "}", 12, TERN_ERR_FORMAT,
      "tensor \"b\" begins at byte 4 of the data, inside of tensor \"a\" that ends at 8: they overlap" },
    { "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 0, 8) "}", 8, TERN_ERR_FORMAT, "they overlap" },
    { "{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 8, 12) "}", 12, TERN_ERR_FORMAT,
      "begins at byte 8 of the data, expected 4: no tensor covers" },
    { "{" F32("a", "[1]", 4, 8) "}", 8, TERN_ERR_FORMAT, "begins at byte 4 of the data, expected 0" },
    { "{" F32("a", "[1]", 0, 4) "}", 9, TERN_ERR_FORMAT,
      "tensors end at byte 4 of the data, the file has 9 bytes of data" },
    { "{}", 1, TERN_ERR_FORMAT, "tensors end at byte 0 of the data, the file has 1 bytes of data" },
    { "{" F32("a", "[1]", 0, 4) "," F32("a", "[1]", 4, 8) "}", 8, TERN_ERR_FORMAT, "\"a\" is there twice" },
    { "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_FORMAT, "NUL" },
    { "{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TERN_ERR_FORMAT, "line 1" },
    { "{\"__metadata__\":[]}", 0, TERN_ERR_FORMAT, "__metadata__ is an array, expected an object of strings" },
    { "{\"__metadata__\":{\"format\":1}}", 0, TERN_ERR_FORMAT,
      "__metadata__: \"format\" is an integer, expected a string" },
};

static void test_bad_headers(void **state)
{
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *path =
            write_safetensors(dir, "bad.safetensors", bad[i].header, strlen(bad[i].header), NULL, bad[i].data_size);
        assert_fails(ctx, tern_safetensors_open(ctx, path, &files), bad[i].status, bad[i].words);
        assert_non_null(strstr(tern_error(ctx), "bad.safetensors"));
        assert_null(files);
    }
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* The length in front of the header, and depth and size of what is behind it. */
static void test_bad_lengths(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } cases[] = {
        { "", 0, "file has 0 bytes, expected at least the 8" },
        { "\x02\0\0\0\0\0\0", 7, "file has 7 bytes, expected at least the 8" },
        { "\x02\0\0\0\0\0\0\0", 8, "header has 2 bytes, the file ends after 0 of them: truncated" },
        { "\x10\0\0\0\0\0\0\0{\"a\":", 13, "header has 16 bytes, the file ends after 5 of them: truncated" },
        { "\x01\xe1\xf5\x05\0\0\0\0{}", 10, "header has 100000001 bytes, expected at most 100000000" },
        { "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10,
          "header has 18446744073709551615 bytes, expected at most 100000000" },
        { "\0\0\0\0\0\0\0\0{}", 10, "header does not begin with {" },
        { "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20", 10, "expected at most 100000000" }, /* a pickle */
    };
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_fails(ctx, tern_safetensors_open(ctx, test_write(dir, "x", cases[i].bytes, cases[i].size), &files),
                     TERN_ERR_FORMAT, cases[i].words);

    /* A million levels, and a header that is one long name. */
    const size_t n = 1000000;
    char *header = malloc(n + 1);
    assert_non_null(header);
    memset(header, '[', n);
    memcpy(header, "{\"a\":", 5);
    assert_fails(ctx, tern_safetensors_open(ctx, write_safetensors(dir, "x", header, n, NULL, 0), &files),
                 TERN_ERR_FORMAT, "x");
    memset(header, 'n', n);
    memcpy(header, "{\"", 2);
    memcpy(header + n - 4, "\":7}", 4);
    assert_fails(ctx, tern_safetensors_open(ctx, write_safetensors(dir, "x", header, n, NULL, 0), &files),
                 TERN_ERR_FORMAT, "tensor \"nnn");
    free(header);

    assert_fails(ctx, tern_safetensors_open(ctx, dir, &files), TERN_ERR_IO, "a directory, expected a regular file");
    assert_fails(ctx, tern_safetensors_open(ctx, "/nonexistent/x", &files), TERN_ERR_NOT_FOUND, "/nonexistent/x");
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* Every prefix of a real file is refused. */
static void test_truncated(void **state)
{
    static const char header[] = "{" F32("a", "[2]", 0, 8) "," F32("b", "[1]", 8, 12) "}";
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;
    size_t size;

    (void)state;
    char *bytes = test_read(write_safetensors(dir, "whole", header, strlen(header), NULL, 12), &size);
    for (size_t n = 0; n < size; n++)
        assert_fails(ctx, tern_safetensors_open(ctx, test_write(dir, "part", bytes, n), &files), TERN_ERR_FORMAT,
                     "part: ");
    free(bytes);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* ---- shards ---- */

static void write_shards(const char *dir)
{
    static const char one[] = "{" F32("a", "[2]", 0, 8) "," F32("c", "[1]", 8, 12) "}",
                      two[] = "{" F32("b", "[1]", 0, 4) "}";

    write_safetensors(dir, "one.safetensors", one, strlen(one), NULL, 12);
    write_safetensors(dir, "two.safetensors", two, strlen(two), NULL, 4);
}

static tern_status open_with_index(tern_ctx *ctx, const char *dir, const char *index, struct tern_safetensors **files)
{
    test_write(dir, "model.safetensors.index.json", index, strlen(index));
    return tern_safetensors_open_dir(ctx, dir, files);
}

static void test_shards(void **state)
{
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;

    (void)state;
    write_shards(dir);
    assert_ok(
        ctx,
        open_with_index(
            ctx, dir,
            "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\","
            "\"c\":\"one.safetensors\"}}",
            &files));
    assert_int_equal(tern_safetensors_count(files), 3);
    assert_non_null(strstr(tern_safetensors_path(files, tern_safetensors_find(files, "a")), "one.safetensors"));
    assert_non_null(strstr(tern_safetensors_path(files, tern_safetensors_find(files, "b")), "two.safetensors"));
    tern_safetensors_close(&files);

    /* A single file comes before an index. */
    write_safetensors(dir, "model.safetensors", "{}", 2, NULL, 0);
    assert_ok(ctx, tern_safetensors_open_dir(ctx, dir, &files));
    assert_int_equal(tern_safetensors_count(files), 0);
    tern_safetensors_close(&files);
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

static void test_bad_index(void **state)
{
    static const struct {
        const char *index;
        tern_status status;
        const char *words;
    } cases[] = {
        { "", TERN_ERR_FORMAT, "index.json" },
        { "[]", TERN_ERR_FORMAT, "is an array, expected an object" },
        { "{}", TERN_ERR_FORMAT, "has no weight_map, expected an object" },
        { "{\"weight_map\":[]}", TERN_ERR_FORMAT, "weight_map is an array, expected an object" },
        { "{\"weight_map\":{}}", TERN_ERR_FORMAT, "weight_map is empty" },
        { "{\"weight_map\":{\"a\":1}}", TERN_ERR_FORMAT, "\"a\" is an integer, expected the name of a file" },
        { "{\"weight_map\":{\"a\":\"../one.safetensors\"}}", TERN_ERR_FORMAT,
          "expected the name of a file beside the index" },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", TERN_ERR_FORMAT, "expected the name of a file beside the index" },
        { "{\"weight_map\":{\"a\":\"..\"}}", TERN_ERR_FORMAT, "expected the name of a file beside the index" },
        { "{\"weight_map\":{\"a\":\"\"}}", TERN_ERR_FORMAT, "expected the name of a file beside the index" },
        { "{\"weight_map\":{\"a\":\"one\\u0000\"}}", TERN_ERR_FORMAT, "expected the name of a file beside the index" },
        { "{\"weight_map\":{\"a\":\"three.safetensors\"}}", TERN_ERR_NOT_FOUND, "three.safetensors" },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}", TERN_ERR_FORMAT,
          "\"a\" is there twice" },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", TERN_ERR_FORMAT,
          "one.safetensors: tensor \"c\" is not in the weight_map" },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"one.safetensors\",\"d\":\"one.safetensors\"}}",
          TERN_ERR_FORMAT, "tensor \"d\" is said to be in one.safetensors, found it in no file" },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"c\":\"two.safetensors\"}}",
          TERN_ERR_FORMAT, "tensor \"c\" is said to be in two.safetensors, found it in" },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"c\":\"copy.safetensors\"}}",
          TERN_ERR_FORMAT, "is also in" },
    };
    const char *dir = test_temp_dir();
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;
    static const char copy[] = "{" F32("c", "[1]", 0, 4) "}";

    (void)state;
    write_shards(dir);
    write_safetensors(dir, "copy.safetensors", copy, strlen(copy), NULL, 4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(ctx, open_with_index(ctx, dir, cases[i].index, &files), cases[i].status, cases[i].words);
        assert_null(files);
    }
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

static void test_other_formats(void **state)
{
    tern_ctx *ctx = test_ctx(1);
    struct tern_safetensors *files;
    const char *dir = test_temp_dir();

    (void)state;
    assert_fails(ctx, tern_safetensors_open_dir(ctx, dir, &files), TERN_ERR_NOT_FOUND, "neither model.safetensors nor");
    test_write(dir, "tf_model.h5", "x", 1);
    assert_fails(ctx, tern_safetensors_open_dir(ctx, dir, &files), TERN_ERR_UNSUPPORTED,
                 "tf_model.h5, expected model.safetensors");
    test_write(dir, "pytorch_model.bin", "x", 1);
    assert_fails(ctx, tern_safetensors_open_dir(ctx, dir, &files), TERN_ERR_UNSUPPORTED, "pytorch_model.bin");
    assert_non_null(strstr(tern_error(ctx), "from safetensors.torch import save_file"));
    test_remove_dir(dir);
    tern_ctx_destroy(&ctx);
}

/* Files of other writers. */
static void test_outside(void **state)
{
    static const struct {
        const char *path;
        size_t n;
    } cases[] = {
        { "checkpoints/hf-tiny-bert-fixtures/coldfire_tiny_bert/model.safetensors", 37 },
        { "checkpoints/hf-tiny-bert-fixtures/jammi_tiny_bert/model.safetensors", 21 },
        { "checkpoints/hf-tiny-llama-fixtures/tiny_llama_model/model.safetensors", 12 },
        { "checkpoints/hf-tiny-llama-fixtures/gpt_test_weights.safetensors", 28 },
        { "checkpoints/hf-tiny-llama-fixtures/llama_test_weights.safetensors", 21 },
        { "checkpoints/hf-tiny-llama-fixtures/llama_test_weights_bf16.safetensors", 21 },
        { "checkpoints/hf-tiny-llama-fixtures/test_tensors.safetensors", 4 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        TEST_NEED_DATA(path, cases[i].path);
        tern_ctx *ctx = test_ctx(1);
        struct tern_safetensors *files;
        assert_ok(ctx, tern_safetensors_open(ctx, path, &files));
        assert_int_equal(tern_safetensors_count(files), cases[i].n);
        tern_safetensors_close(&files);
        tern_ctx_destroy(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),       cmocka_unit_test(test_every_dtype),   cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_lengths), cmocka_unit_test(test_truncated),     cmocka_unit_test(test_shards),
        cmocka_unit_test(test_bad_index),   cmocka_unit_test(test_other_formats), cmocka_unit_test(test_outside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
