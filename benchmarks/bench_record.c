/* SPDX-License-Identifier: GPL-3.0-or-later
 * One round of recording and reading back, beside plain pwrite and pread of the same bytes, as one line of
 * JSON. Which rounds, how often, and what follows from them is benchmarks/record.py's.
 *
 *   bench_record FOLDER [--layout wide|gwpy] [--channels 1024] [--samples 1024] [--chunk BYTES] [--blocks
 * 128]
 *                       [--swap]
 *
 * The four are timed one after the other (with --swap: recording first), each into new files, which are gone
 * afterwards. Recording is what the record sink does with each block and each second; reading is what replay
 * does with each block. */
#include "sinks/series.h"
#include "sources/archive.h"

#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PREPARED = 16, RATE = 16384, SERIES_SECONDS = 3600 };

typedef struct bench {
    const char *folder;
    gw_layout layout;
    uint32_t channels, samples;
    int blocks;
    size_t chunk_bytes, block_bytes;
    gw_spec spec;
    char *prepared; /* [PREPARED][channel][sample] */
    char *block;    /* read into this */
    char raw[4096], path[4096];
} bench;

/* Wall and processor time since *since, which it renews. */
typedef struct lap {
    double wall_s, cpu_s;
} lap;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static lap now(void)
{
    return (lap){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static lap since(lap begin)
{
    const lap end = now();
    return (lap){end.wall_s - begin.wall_s, end.cpu_s - begin.cpu_s};
}

static const char *block_at(const bench *b, int i)
{
    return b->prepared + (size_t)(i % PREPARED) * b->block_bytes;
}

/* ---- the plain way ---- */

static int raw_write(bench *b, lap *took)
{
    int fd = open(b->raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return gw_fail(GW_EIO, "%s: cannot be made", b->raw);
    const lap begin = now();
    int err = GW_OK;
    for (int i = 0; i < b->blocks && err == GW_OK; i++)
        if (pwrite(fd, block_at(b, i), b->block_bytes, (off_t)((size_t)i * b->block_bytes)) !=
            (ssize_t)b->block_bytes)
            err = gw_fail(GW_EIO, "%s: cannot be written", b->raw);
    close(fd);
    *took = since(begin);
    return err;
}

static int raw_read(bench *b, lap *took)
{
    int fd = open(b->raw, O_RDONLY | O_CLOEXEC), err = GW_OK;
    const lap begin = now();
    for (int i = 0; i < b->blocks && err == GW_OK; i++)
        if (pread(fd, b->block, b->block_bytes, (off_t)((size_t)i * b->block_bytes)) !=
            (ssize_t)b->block_bytes)
            err = gw_fail(GW_EIO, "%s: cannot be read", b->raw);
    *took = since(begin);
    close(fd);
    return err;
}

/* ---- ours ---- */

static int record_blocks(bench *b, gw_series *s)
{
    const int64_t first = INT64_C(1400000400) * RATE; /* where a file of the series begins */
    int64_t next_ns = gw_monotonic_ns() + GW_SECOND_NS;
    for (int i = 0; i < b->blocks; i++) {
        const gw_view v = {.data = block_at(b, i),
                           .stride = b->samples,
                           .n_samples = b->samples,
                           .n_channels = b->channels,
                           .sample0 = first + (int64_t)i * b->samples,
                           .dq = GW_DQ_ALL};
        GW_TRY(gw_series_write(s, 0, &v));
        if (gw_monotonic_ns() >= next_ns) {
            GW_TRY(gw_series_flush(s));
            next_ns += GW_SECOND_NS;
        }
    }
    return gw_series_finish(s);
}

static int record(bench *b, lap *took)
{
    const gw_series_conf c = {.name = "record",
                              .every_ns = SERIES_SECONDS * GW_SECOND_NS,
                              .file = {.path = b->path,
                                       .overwrite = true,
                                       .layout = b->layout,
                                       .chunk_bytes = b->chunk_bytes,
                                       .spec = &b->spec,
                                       .n_streams = 1}};
    gw_series *s = NULL;
    const lap begin = now();
    int err = gw_series_new(&s, &c);
    if (err == GW_OK)
        err = record_blocks(b, s);
    gw_series_destroy(&s);
    *took = since(begin);
    return err;
}

static int read_wide(bench *b, gw_archive *a)
{
    int64_t start, end;
    for (int i = 0; i < b->blocks; i++) {
        GW_TRY(gw_archive_read_column(a, 0, (int64_t)i * b->samples, b->block, &start, &end));
        if (memcmp(b->block, block_at(b, i), 64) != 0)
            return gw_fail(GW_EBUG, "block %d came back as another one", i);
    }
    return GW_OK;
}

static int read_gwpy(bench *b, gw_archive *a)
{
    const size_t row = b->samples * sizeof(float);
    for (int i = 0; i < b->blocks; i++)
        for (uint32_t c = 0; c < b->channels; c++)
            GW_TRY(gw_archive_read(a, (int)c, (int64_t)i * b->samples, b->samples, b->block + c * row));
    return GW_OK;
}

static int replay(bench *b, lap *took)
{
    char pattern[4096];
    glob_t found = {0};
    gw_archive *a = NULL;
    snprintf(pattern, sizeof pattern, "%s/bench-*.hdf5", b->folder);
    if (glob(pattern, 0, NULL, &found) != 0)
        return gw_fail(GW_EMISSING, "%s", pattern);
    const lap begin = now();
    int err = gw_archive_open(&a, found.gl_pathv[0]);
    if (err == GW_OK)
        err = b->layout == GW_LAYOUT_WIDE ? read_wide(b, a) : read_gwpy(b, a);
    gw_archive_close(&a);
    *took = since(begin);
    unlink(found.gl_pathv[0]);
    globfree(&found);
    return err;
}

/* ---- a round ---- */

static int run(bench *b, bool swap)
{
    lap raw_out = {0}, raw_in = {0}, ours_out = {0}, ours_in = {0};
    if (swap)
        GW_TRY(record(b, &ours_out));
    GW_TRY(raw_write(b, &raw_out));
    if (!swap)
        GW_TRY(record(b, &ours_out));
    GW_TRY(raw_read(b, &raw_in));
    GW_TRY(replay(b, &ours_in));
    const double gb = 1e-9 * (double)b->block_bytes * b->blocks;
    printf("{\"GB\": %.3f, \"pwrite_GB_per_s\": %.3f, \"record_GB_per_s\": %.3f, \"pread_GB_per_s\": %.3f, "
           "\"read_GB_per_s\": %.3f, \"record_of_pwrite\": %.3f, \"read_of_pread\": %.3f, "
           "\"record_cpu_of_pwrite\": %.3f, \"read_cpu_of_pread\": %.3f}\n",
           gb, gb / raw_out.wall_s, gb / ours_out.wall_s, gb / raw_in.wall_s, gb / ours_in.wall_s,
           raw_out.wall_s / ours_out.wall_s, raw_in.wall_s / ours_in.wall_s, ours_out.cpu_s / raw_out.cpu_s,
           ours_in.cpu_s / raw_in.cpu_s);
    return GW_OK;
}

static int prepare(bench *b)
{
    b->block_bytes = (size_t)b->channels * b->samples * sizeof(float);
    b->prepared = malloc(PREPARED * b->block_bytes);
    b->block = malloc(b->block_bytes);
    if (!b->prepared || !b->block)
        return gw_fail(GW_ENOMEM, "%d blocks of %zu bytes", PREPARED, b->block_bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < PREPARED * b->block_bytes / sizeof x; i++) {
        x = x * 1664525 + 1013904223;
        const float value = (float)(x >> 8);
        memcpy(b->prepared + i * sizeof value, &value, sizeof value);
    }
    memset(b->block, 0, b->block_bytes);
    b->spec = (gw_spec){.name = "bench",
                        .rate = {RATE, 1},
                        .dtype = GW_F32,
                        .n_channels = b->channels,
                        .block_samples = b->samples};
    snprintf(b->raw, sizeof b->raw, "%s/bench.raw", b->folder);
    snprintf(b->path, sizeof b->path, "%s/bench.hdf5", b->folder);
    return gw_spec_set_channels(&b->spec, b->channels, NULL);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"layout", required_argument, NULL, 'l'},
                                            {"channels", required_argument, NULL, 'c'},
                                            {"samples", required_argument, NULL, 's'},
                                            {"chunk", required_argument, NULL, 'k'},
                                            {"blocks", required_argument, NULL, 'b'},
                                            {"swap", no_argument, NULL, 'w'},
                                            {0}};
    static bench b = {.layout = GW_LAYOUT_WIDE, .channels = 1024, .samples = 1024, .blocks = 128};
    bool swap = false, good = true;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'l':
            b.layout = strcmp(optarg, "gwpy") ? GW_LAYOUT_WIDE : GW_LAYOUT_GWPY;
            break;
        case 'c':
            b.channels = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            b.samples = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            b.chunk_bytes = strtoul(optarg, NULL, 10);
            break;
        case 'b':
            b.blocks = atoi(optarg);
            break;
        case 'w':
            swap = true;
            break;
        default:
            good = false;
        }
    }
    if (!good || optind != argc - 1 || !b.channels || !b.samples || b.blocks < 1) {
        fprintf(stderr, "usage: bench_record FOLDER [--layout wide|gwpy] [--channels N] [--samples N] "
                        "[--chunk BYTES] [--blocks N] [--swap]\n");
        return 2;
    }
    b.folder = argv[optind];
    int err = prepare(&b);
    if (err == GW_OK)
        err = run(&b, swap);
    if (err < 0)
        fprintf(stderr, "bench_record: %s\n", gw_err_detail());
    unlink(b.raw);
    gw_spec_free(&b.spec);
    free(b.prepared);
    free(b.block);
    return err < 0;
}
