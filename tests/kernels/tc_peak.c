/* tc_peak.c: what one thread of this machine can do at best, in the same minute as the kernels. */
#include "tc.h"

#include "kernels/peak.h"

#define PEAK_RUNS 25
#define READ_RUNS 5

double tc_peak_flops(const struct tern_kernels *kernels)
{
    double best = 0;

    if (!tern_peak_is_loop(kernels->isa, TERN_PEAK_F32))
        return 0;
    for (int run = 0; run < PEAK_RUNS; run++) {
        const double start = tern_machine_seconds(), flops = tern_peak_arithmetic(kernels, TERN_PEAK_F32);
        best = fmax(best, flops / (tern_machine_seconds() - start));
    }
    return best;
}

double tc_peak_read(const void *p, size_t bytes)
{
    double best = 0;

    for (int run = 0; run < READ_RUNS; run++) {
        const double start = tern_machine_seconds();

        tern_peak_read(p, bytes);
        best = fmax(best, (double)bytes / (tern_machine_seconds() - start));
    }
    return best;
}
