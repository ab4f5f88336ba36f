/* tune.h: the inside of tuning: the clock, and what operators tune when they are created. */
#ifndef TERN_OPS_TUNE_H
#define TERN_OPS_TUNE_H

#include "kernels/plans.h"

#include <tern/config.h>
#include <tern/tune.h>

struct tern_op_row; /* op_table.h */
struct tern_weight; /* kernel_calls.h */

/* Told before and after each measurement, with the plan that is tried: a test's clock goes as it likes. */
struct tern_tune_clock {
    double (*seconds)(void *user, const struct tern_plan *plan);
    void *user;
};

bool tern_tune_is_same(const tern_tune_product *a, const tern_tune_product *b);

/* tern_tune_products() with a clock; NULL is the machine's. */
tern_status tern_tune_measure(tern_ctx *ctx, const tern_tune_product *products, size_t n,
                              const tern_tune_options *options, const struct tern_tune_clock *clock);

/* Tunes what an operator with this checked config multiplies, if the config asks for it: triton_autotune, layer_id 0, a size, and
 * kernels that are not the definitions.  What is known is not measured again.  Nothing with TERN_TUNE=off. */
tern_status tern_tune_created(tern_ctx *ctx, const struct tern_op_row *row, const tern_config *config);
/* The same for what a module has bound, up to four weights of any format; those in groups are left out. */
tern_status tern_tune_bound(tern_ctx *ctx, const char *owner, const tern_config *config,
                            const struct tern_weight *const *weights, size_t n);

#endif
