/* status.c: the names of the statuses. */
#include <tern/status.h>

const char *tern_status_name(tern_status status)
{
    switch (status) {
    case TERN_OK:
        return "ok";
    case TERN_ERR_ARG:
        return "invalid argument";
    case TERN_ERR_SHAPE:
        return "shape mismatch";
    case TERN_ERR_DTYPE:
        return "dtype mismatch";
    case TERN_ERR_CONFIG:
        return "invalid configuration";
    case TERN_ERR_UNSUPPORTED:
        return "unsupported";
    case TERN_ERR_FORMAT:
        return "malformed input";
    case TERN_ERR_NOT_FOUND:
        return "not found";
    case TERN_ERR_IO:
        return "input/output error";
    case TERN_ERR_MEMORY:
        return "out of memory";
    case TERN_ERR_THREAD:
        return "thread not started";
    case TERN_ERR_CAPACITY:
        return "capacity exceeded";
    case TERN_ERR_CANCELLED:
        return "cancelled";
    case TERN_ERR_STATE:
        return "wrong state";
    }
    return "unknown status";
}
