/* golden.h: what transformers computed from a checkpoint (tests/golden/README.md), as the tests read it. */
#ifndef TERN_TESTS_GOLDEN_H
#define TERN_TESTS_GOLDEN_H

#include "checkpoint.h"

#include <math.h>

/* A prompt's ids; freed with free(). */
static inline int32_t *prompt_ids(const tern_json_value *prompts, size_t index, int32_t *n)
{
    const tern_json_value *list = tern_json_at(prompts, index);
    int32_t *ids = malloc(tern_json_size(list) * sizeof *ids);

    assert_true(ids && tern_json_size(list) > 0);
    *n = (int32_t)tern_json_size(list);
    for (int32_t i = 0; i < *n; i++)
        ids[i] = (int32_t)tern_json_int(tern_json_at(list, (size_t)i));
    return ids;
}

/* The values of a stored tensor, with its shape checked; freed with free(). */
static inline float *golden_values(struct tern_safetensors *files, const char *kind, size_t index, int rank,
                                   const int64_t *dim)
{
    char name[64];

    snprintf(name, sizeof name, "%s.%zu", kind, index);
    const struct tern_file_tensor *t = tern_safetensors_find(files, name);
    assert_true(t && t->dtype == TERN_FP32 && t->rank == rank && memcmp(t->dim, dim, (size_t)rank * sizeof *dim) == 0);
    float *values = malloc(t->size);
    assert_non_null(values);
    memcpy(values, t->data, t->size);
    return values;
}

/* Largest |got - want|; a NaN counts as infinite.  *largest: of |want|. */
static inline double difference(const float *got, const float *want, size_t n, double *largest)
{
    double worst = 0;

    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
        *largest = fmax(*largest, fabs((double)want[i]));
    }
    return worst;
}

static inline double sum_of_squares(const float *got, const float *want, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
    return sum;
}

#endif
