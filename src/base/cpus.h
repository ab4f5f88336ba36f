/* cpus.h: the processors that the system grants, and who decided: the default number of threads. */
#ifndef TERN_BASE_CPUS_H
#define TERN_BASE_CPUS_H

#include "base/ctx.h"

#include <limits.h>

/* Processors that are told apart: as many as Linux can be built for on any machine that tern runs on. */
#define TERN_MAX_CPUS 8192

struct tern_cpus {
    int allowed;               /* processors in the affinity mask, at least 1 */
    int allowed_cores;         /* cores that those belong to, at least 1 */
    int cores;                 /* of the whole machine, at least 1 */
    double quota;              /* CPUs that the cgroups grant, the smallest of all levels; 0: no limit */
    char quota_file[PATH_MAX]; /* the file that says so; "" without a limit */
};

/* Number of threads for a team: the smallest of cores that the mask allows, quota rounded up, and cores of the machine,
 * within 1..TERN_MAX_THREADS.
 * Rounded up: two threads under a quota of 1.5 do 1.5 times the work of one, the rest of which they are held back for.
 * *reason: "affinity mask", "cgroup quota" or "physical cores", whichever is the smallest (ties: in the reverse order of
 * this list). */
int tern_cpus_threads(const struct tern_cpus *cpus, const char **reason);

/* What this process is granted now.  The mask is the calling thread's, which is what its children inherit. */
void tern_cpus_read(struct tern_cpus *out);

/* Processors that can run threads of this process at once: min(affinity mask, quota); not a whole number under some quotas. */
double tern_cpus_granted(void);

/* Its parts.  `root` is put before /proc and /sys, so that a recorded machine can be replayed ("" is this one).
 * What cannot be read or understood limits nothing. */

/* The same from a recorded machine and a mask[n_cpus bits], n_cpus a multiple of 8 and <= TERN_MAX_CPUS. */
void tern_cpus_read_from(const char *root, const unsigned char *mask, size_t n_cpus, struct tern_cpus *out);
/* CPUs that the cgroups grant, as struct tern_cpus has it; `file` gets the name of the file, without root. */
double tern_cpus_quota(const char *root, char file[PATH_MAX]);
/* Physical cores among the processors whose bit is set in mask[n_cpus bits]. */
int tern_cpus_cores(const char *root, const unsigned char *mask, size_t n_cpus);
/* The processors of the whole machine that are switched on, as mask[n_cpus bits]; false if the system does not tell. */
bool tern_cpus_online(const char *root, unsigned char *mask, size_t n_cpus);
/* One line of text, as tern_cpus_describe() gives it. */
void tern_cpus_print(const struct tern_cpus *cpus, char *out, size_t size);

#endif
