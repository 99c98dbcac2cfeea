/* SPDX-License-Identifier: GPL-3.0-or-later
 * The GPU as the house's device (pipeline/device.h): memory of either kind, copies in every direction, whole
 * and by rows, queues that wait for each other's marks. What comes back must be what was sent, to the bit. */
#include "tests/check/check.h"

#include <string.h>

#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"

enum { MOST = 1 << 18 };

typedef struct rig {
    gw_check *c;
    const gw_device *d;
    gw_queue *queue[3];
    gw_mark *mark[3];
    void *pinned[2], *device[2]; /* [MOST] */
} rig;

static void works(rig *r, int err, const char *what)
{
    gw_check_that(r->c, err == GW_OK, "%s: %s", what, err == GW_OK ? "" : gw_err_detail());
}

/* Up in one queue, across in another, down in a third; each begins when the one before it is done. */
static void round_trip(rig *r, size_t bytes)
{
    unsigned char *to = r->pinned[0], *back = r->pinned[1];
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)gw_check_random(r->c);
    memset(back, 0, bytes);
    works(r, r->d->copy(r->queue[0], r->device[0], to, bytes), "up");
    works(r, r->d->mark(r->queue[0], r->mark[0]), "mark");
    works(r, r->d->after(r->queue[1], r->mark[0]), "after");
    works(r, r->d->copy(r->queue[1], r->device[1], r->device[0], bytes), "across");
    works(r, r->d->mark(r->queue[1], r->mark[1]), "mark");
    works(r, r->d->after(r->queue[2], r->mark[1]), "after");
    works(r, r->d->copy(r->queue[2], back, r->device[1], bytes), "down");
    works(r, r->d->mark(r->queue[2], r->mark[2]), "mark");
    works(r, r->d->wait(r->mark[2]), "wait");
    for (int i = 0; i < 3; i++)
        works(r, r->d->fired(r->mark[i]), "fired");
    gw_check_that(r->c, memcmp(to, back, bytes) == 0, "%zu bytes came back changed", bytes);
}

/* Channels of a longer block, packed on their way up and spread out again on their way down. */
static void rows(rig *r, size_t row_bytes, size_t pitch, size_t n)
{
    unsigned char *to = r->pinned[0], *back = r->pinned[1];
    for (size_t i = 0; i < pitch * n; i++)
        to[i] = (unsigned char)gw_check_random(r->c);
    memset(back, 7, pitch * n);
    works(r, r->d->copy_rows(r->queue[0], r->device[0], row_bytes, to, pitch, row_bytes, n), "rows up");
    works(r, r->d->copy_rows(r->queue[0], back, pitch, r->device[0], row_bytes, row_bytes, n), "rows down");
    works(r, r->d->queue_wait(r->queue[0]), "queue");
    size_t wrong = 0;
    for (size_t i = 0; i < pitch * n; i++)
        wrong += back[i] != (i % pitch < row_bytes ? to[i] : 7);
    gw_check_that(r->c, wrong == 0, "%zu rows of %zu in %zu bytes: %zu wrong", n, row_bytes, pitch, wrong);
}

static void run_device(gw_check *c, const gw_kernels *ref, const gw_kernels *k)
{
    (void)ref;
    rig r = {.c = c, .d = gw_kernels_device()};
    gw_bulk_ops bulk;
    gw_bulk_cuda(&bulk);
    if (!r.d || k->bulk.step != bulk.step || /* this level is another, or has no GPU */
        !gw_check_begin(c, "copies", (gw_check_fn)memcpy, (gw_check_fn)r.d->copy))
        return;
    for (int i = 0; i < 3; i++) {
        works(&r, r.d->queue_new(&r.queue[i]), "queue");
        works(&r, r.d->mark_new(&r.mark[i]), "mark");
    }
    for (int i = 0; i < 2; i++) {
        works(&r, r.d->memory_new(&r.pinned[i], MOST, GW_SPACE_PINNED), "pinned");
        works(&r, r.d->memory_new(&r.device[i], MOST, GW_SPACE_DEVICE), "device");
        gw_check_that(c, ((size_t)r.pinned[i] | (size_t)r.device[i]) % 64 == 0, "alignment");
    }
    if (r.pinned[0] && r.pinned[1] && r.device[0] && r.device[1] && r.queue[2] && r.mark[2]) {
        for (size_t bytes = 1; bytes <= MOST; bytes = bytes * 5 + 3)
            round_trip(&r, bytes);
        round_trip(&r, MOST);
        rows(&r, 12, 20, 5);
        rows(&r, 4096, 16384, 16);
        rows(&r, 100, 100, 33);
    }
    for (int i = 0; i < 3; i++) {
        r.d->mark_destroy(&r.mark[i]);
        r.d->queue_destroy(&r.queue[i]);
    }
    for (int i = 0; i < 2; i++) {
        r.d->memory_destroy(&r.pinned[i], GW_SPACE_PINNED);
        r.d->memory_destroy(&r.device[i], GW_SPACE_DEVICE);
        r.d->memory_destroy(&r.device[i], GW_SPACE_DEVICE); /* nothing any more */
    }
}
#else
static void run_device(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    (void)c, (void)r, (void)k;
}
#endif

const gw_check_family gw_check_suite = {.name = "device", .run = run_device};
