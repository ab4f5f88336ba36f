/* relative_bias.c: see relative_bias.h. */
#include "model/relative_bias.h"

#include "base/memory.h"

#define HALF  (TERN_RELATIVE_BUCKETS / 2)
#define EXACT (HALF / 2)

/* Bucket EXACT + i begins where distance / EXACT is 16^(i / 8), whose square is 2^i: whole numbers say so exactly. */
int32_t tern_relative_bucket(int64_t behind)
{
    const int64_t distance = behind < 0 ? -behind : behind;
    int32_t bucket = EXACT;

    if (distance < EXACT)
        bucket = (int32_t)distance;
    else
        while (bucket + 1 < HALF && distance * distance >= (int64_t)EXACT * EXACT << (bucket + 1 - EXACT))
            bucket++;
    return behind < 0 ? HALF + bucket : bucket;
}

tern_status tern_relative_bias(tern_ctx *ctx, const float *table, int32_t heads, int32_t n, float **out)
{
    const size_t width = 2 * (size_t)n - 1;

    TERN_TRY(TERN_ALLOC(ctx, (size_t)heads * width, "what distances add to the scores of a model", out));
    for (size_t i = 0; i < width; i++) {
        const size_t bucket = (size_t)tern_relative_bucket((int64_t)n - 1 - (int64_t)i);
        for (size_t h = 0; h < (size_t)heads; h++)
            (*out)[h * width + i] = table[bucket * (size_t)heads + h];
    }
    return TERN_OK;
}
