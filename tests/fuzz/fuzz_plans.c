/* fuzz_plans.c: any bytes as a file of plans.  The checksum is set right first, or no other byte would matter.  What is accepted holds
 * plans that a product can be cut by, and is written as a text that is read as the same; what is refused has a text. */
#include "base/ctx.h"
#include "base/memory.h"
#include "kernels/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUM_SIZE 26 /* "checksum 0123456789abcdef\n" */

static const char head[] = "tern plans 1\ncpu x\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tern_ctx ctx = { 0 };
    struct tern_plans *plans, *again;
    char *text = malloc(size + SUM_SIZE + 1), *written, *rewritten;
    uint64_t sum = 0xcbf29ce484222325;
    size_t n, m;

    if (!text || tern_plans_create(&ctx, &plans) || tern_plans_create(&ctx, &again))
        abort();
    memcpy(text, data, size);
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 0x100000001b3;
    snprintf(text + size, SUM_SIZE + 1, "checksum %016" PRIx64 "\n", sum);
    for (int right = 0; right < 2; right++) {
        const tern_status status = tern_plans_parse(&ctx, text, size + (right ? SUM_SIZE : 0), "input", head, plans);
        if (status != TERN_OK && (status != TERN_ERR_FORMAT || !ctx.error[0]))
            abort();
        for (size_t i = 0; i < plans->count; i++)
            if (!tern_plan_entry_is_valid(&plans->entries[i]) ||
                tern_plans_find(plans, &plans->entries[i].key) != &plans->entries[i])
                abort();
    }
    if (tern_plans_format(&ctx, plans, head, &written, &n) ||
        tern_plans_parse(&ctx, written, n, "again", head, again) || again->count != plans->count ||
        tern_plans_format(&ctx, again, head, &rewritten, &m) || n != m || memcmp(written, rewritten, n) != 0)
        abort();
    tern_free(rewritten);
    tern_free(written);
    tern_plans_destroy(plans);
    tern_plans_destroy(again);
    free(text);
    return 0;
}
