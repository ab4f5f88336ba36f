/* op_modules.h: the modules that tern op runs. */
#ifndef TERN_CLI_OP_MODULES_H
#define TERN_CLI_OP_MODULES_H

#include "op_job.h"

extern const struct op_subject op_modules[];
extern const size_t op_n_modules;

#endif
