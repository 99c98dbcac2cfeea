/* SPDX-License-Identifier: GPL-3.0-or-later
 * The HDF5 lock and the one-line reason. Called by everything that reads or writes HDF5; it knows no
 * file layout. */
#include "pipeline/hdf5_lock.h"

#include <hdf5.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool begun; /* under the lock */

void gw_hdf5_lock(void)
{
    static _Thread_local bool
        silenced; /* the library keeps an error stack, and how to print it, for each thread */
    pthread_mutex_lock(&lock);
    /* Every file is closed by its owner. One that could not be (a full disk) stays open until the end, and
     * the library's own clean-up at exit was seen to crash over it. Must be the first call of all. */
    if (!begun)
        H5dont_atexit();
    begun = true;
    if (!silenced)
        silenced = H5Eset_auto2(H5E_DEFAULT, NULL, NULL) >= 0;
}

void gw_hdf5_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* The walk begins at the innermost error: the first one says it best. */
static herr_t first_error(unsigned n, const H5E_error2_t *e, void *text)
{
    const char **found = text;
    if (n == 0)
        *found = e->desc;
    return 0;
}

const char *gw_hdf5_reason(void)
{
    static _Thread_local char text[256];
    const char *desc = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_error, &desc);
    if (!desc || !*desc)
        return "HDF5 gives no reason";
    /* System calls are reported as "...: name = 'f', errno = 28, error message = 'No space left', ...";
     * the message alone is what a reader wants. */
    static const char mark[] = "error message = '";
    const char *from = strstr(desc, mark);
    size_t n = strlen(desc);
    if (from) {
        desc = from + strlen(mark);
        n = strcspn(desc, "'");
    }
    if (n >= sizeof text)
        n = sizeof text - 1;
    memcpy(text, desc, n);
    text[n] = '\0';
    for (char *c = text; *c; c++) /* some descriptions carry a ctime() with its newline */
        if ((unsigned char)*c < ' ')
            *c = ' ';
    (void)H5Eclear2(H5E_DEFAULT); /* told; the library would keep it until its next error */
    return text;
}
