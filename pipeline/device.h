/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the house asks of a processor with memory of its own (a GPU): memory, queues of work, copies, marks.
 * The house knows no CUDA: kernels/cuda/device.cu fills the table, and so does a device made of threads in
 * the tests. The program sets it once, before the first graph is loaded (gw_device_set); without one all
 * stages run on the host. Like error.h this header includes nothing else of ours, so that kernels may.
 *
 * A queue works in the order in which it was given work; two queues know nothing of each other, but through a
 * mark. All calls but those that say that they wait return at once; an error of work that was enqueued shows
 * in the mark behind it. A queue and its marks are used by one thread at a time. */
#ifndef GW_DEVICE_H
#define GW_DEVICE_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Where memory lies. PINNED: the host's, locked, so that the device copies it at full speed. DEVICE: the
 * host must not touch it. SHARED: the host's, and other processes see it. */
typedef enum gw_space { GW_SPACE_HOST, GW_SPACE_PINNED, GW_SPACE_DEVICE, GW_SPACE_SHARED } gw_space;

typedef struct gw_queue gw_queue; /* what it is only its device knows; with CUDA it is the cudaStream_t */
typedef struct gw_mark gw_mark;   /* a place in a queue; with CUDA the cudaEvent_t */

typedef struct gw_device {
    const char *name; /* for people: "NVIDIA H200" */
    /* space: GW_SPACE_PINNED or GW_SPACE_DEVICE. At least 256-byte aligned; holds rubbish. GW_ENOMEM. destroy
     * wants the same space, waits until the device no longer uses it where it must, nulls. */
    int (*memory_new)(void **m, size_t bytes, gw_space space);
    void (*memory_destroy)(void **m, gw_space space);
    int (*queue_new)(gw_queue **q);
    void (*queue_destroy)(gw_queue **q); /* waits until it is done; nulls */
    int (*queue_wait)(gw_queue *q);      /* waits until all that was enqueued is done; its error, if any */
    /* Enqueues a copy in any direction. Both ends stay as they are, and src is not written, until it is done.
     * From or to memory of the host that is not pinned it may wait, and is slow. */
    int (*copy)(gw_queue *q, void *dst, const void *src, size_t bytes);
    /* The same for `rows` rows of row_bytes, which begin so many bytes apart. */
    int (*copy_rows)(gw_queue *q, void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                     size_t row_bytes, size_t rows);
    int (*mark_new)(gw_mark **m);
    void (*mark_destroy)(gw_mark **m);
    int (*mark)(gw_queue *q, gw_mark *m);  /* m fires when all that q holds now is done. Again and again */
    int (*after)(gw_queue *q, gw_mark *m); /* what q is given from now on waits until m has fired */
    int (*fired)(gw_mark *m);              /* GW_OK; GW_EAGAIN: not yet; or what went wrong before it */
    int (*wait)(gw_mark *m);               /* waits until it has fired, without burning a core */
} gw_device;

/* This process's device, NULL = none. Set before any graph is loaded, and not while one lives. */
void gw_device_set(const gw_device *d);
const gw_device *gw_device_get(void);

#endif
