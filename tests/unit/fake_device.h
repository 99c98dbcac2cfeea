/* SPDX-License-Identifier: GPL-3.0-or-later
 * A device without hardware, for tests of what is asynchronous about one: each queue is a thread that comes
 * to its work late, by chance. The host cannot touch the device's memory (it would be a fault), which holds
 * rubbish until something was really written. Work that touches what unfinished work of another queue writes,
 * or writes what it touches, without having waited for it, is a violation, and so is memory that goes while
 * work is under way on it. One device a process, one graph at a time. */
#ifndef GW_FAKE_DEVICE_H
#define GW_FAKE_DEVICE_H

#include "pipeline/device.h"

#include <stdint.h>

typedef struct fake_wish {
    unsigned seed;
    int delay_us;        /* the longest delay of a piece of work */
    int64_t fail_at;     /* the piece of work that fails, from 1 on; 0: none */
    size_t memory_bytes; /* of the device; 0: no limit */
    bool hasty;          /* marks claim to have fired as soon as they are set: as if nobody waited */
} fake_wish;

typedef struct fake_report {
    uint64_t copies_up, copies_down, works, bytes_up, bytes_down;
    int most_pending;    /* pieces of work at a time, in all queues */
    size_t memory_bytes; /* not given back */
    int queues, marks;   /* likewise */
    int violations;
    char text[256]; /* the first violation */
} fake_report;

const gw_device *fake_device_begin(const fake_wish *w);
fake_report fake_device_end(void);

/* Enqueues dst = f(src), of `bytes` each; f is called with pointers that the host can use. For stages of
 * tests.
 */
typedef void (*fake_work)(void *dst, const void *src, size_t bytes, double k);
int fake_run(gw_queue *q, fake_work f, void *dst, const void *src, size_t bytes, double k);

#endif
