/* status.h: what every call of tern answers. */
#ifndef TERN_STATUS_H
#define TERN_STATUS_H

#include <tern/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Result of a call.  The numbers are part of the ABI: new ones are appended.
 *  The text that goes with an error names both sides of the mismatch and is read with tern_error(). */
typedef enum tern_status {
    TERN_OK = 0,
    TERN_ERR_ARG = 1,         /**< a null pointer, or a number outside of its range */
    TERN_ERR_SHAPE = 2,       /**< dimensions that do not fit each other */
    TERN_ERR_DTYPE = 3,       /**< an element type that is not the expected one */
    TERN_ERR_CONFIG = 4,      /**< a config field with a value that cannot be */
    TERN_ERR_UNSUPPORTED = 5, /**< well formed, and tern does not do it: the text lists what there is */
    TERN_ERR_FORMAT = 6,      /**< a file or a text that is not what its format says */
    TERN_ERR_NOT_FOUND = 7,   /**< no such file, tensor or name */
    TERN_ERR_IO = 8,          /**< the system refused to read or write */
    TERN_ERR_MEMORY = 9,      /**< an allocation failed */
    TERN_ERR_THREAD = 10,     /**< a thread could not be started */
    TERN_ERR_CAPACITY = 11,   /**< more tokens, sequences or bytes than the object was made for */
    TERN_ERR_CANCELLED = 12,  /**< the caller's cancel flag or callback stopped the work */
    TERN_ERR_STATE = 13       /**< the call does not fit the object's state */
} tern_status;

/** Name of a status, "shape mismatch" for instance.  Never NULL; static storage. */
TERN_API const char *tern_status_name(tern_status status);

#ifdef __cplusplus
}
#endif
#endif
