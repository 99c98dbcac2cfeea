/* SPDX-License-Identifier: GPL-3.0-or-later
 * What memory gives on this machine just now, as one line of JSON: memcpy (512 MiB, one thread) and reading
 * with one and with two threads. Everything else is told as a share of these. Run by link.py and
 * critical_rate.py. */
#include "pipeline/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint32_t sum_words(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t sum = 0, word;
    for (size_t i = 0; i < bytes / 4; i++) {
        memcpy(&word, p + 4 * i, 4);
        sum += word;
    }
    return sum;
}

typedef struct reading {
    const char *data;
    size_t bytes;
    uint32_t sum;
    pthread_barrier_t *start;
} reading;

static void *read_main(void *arg)
{
    reading *r = arg;
    pthread_barrier_wait(r->start);
    r->sum = sum_words(r->data, r->bytes);
    return NULL;
}

static double read_GB_per_s(const char *data, size_t bytes, int threads)
{
    pthread_t thread[2];
    reading r[2];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        r[i] = (reading){.data = data + bytes / (size_t)threads * (size_t)i,
                         .bytes = bytes / (size_t)threads,
                         .start = &start};
        pthread_create(&thread[i], NULL, read_main, &r[i]);
    }
    pthread_barrier_wait(&start);
    const int64_t from_ns = gw_monotonic_ns();
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    const double s = (double)(gw_monotonic_ns() - from_ns) * 1e-9;
    pthread_barrier_destroy(&start);
    return (double)bytes / s / 1e9;
}

/* Three times each; the middle one. */
static double middle(double a, double b, double c)
{
    return a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
}

int main(void)
{
    const size_t bytes = (size_t)512 << 20;
    char *from = aligned_alloc(4096, bytes), *to = aligned_alloc(4096, bytes);
    if (!from || !to) {
        free(from);
        free(to);
        fprintf(stderr, "bench_memory: two buffers of %zu bytes are too much\n", bytes);
        return 1;
    }
    (void)madvise(from, bytes, MADV_HUGEPAGE);
    (void)madvise(to, bytes, MADV_HUGEPAGE);
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    double copy[3], one[3], two[3];
    for (int i = 0; i < 3; i++) {
        const int64_t from_ns = gw_monotonic_ns();
        memcpy(to, from, bytes);
        copy[i] = (double)bytes / (double)(gw_monotonic_ns() - from_ns);
        from[(size_t)i * 4096] = to[(size_t)i * 64]; /* what is copied is used */
        one[i] = read_GB_per_s(from, bytes, 1);
        two[i] = read_GB_per_s(from, bytes, 2);
    }
    printf(
        "{\"memcpy_GB_per_s\": %.3f, \"read_1_thread_GB_per_s\": %.3f, \"read_2_threads_GB_per_s\": %.3f}\n",
        middle(copy[0], copy[1], copy[2]), middle(one[0], one[1], one[2]), middle(two[0], two[1], two[2]));
    free(from);
    free(to);
    return 0;
}
