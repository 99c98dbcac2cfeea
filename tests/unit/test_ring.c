/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: ring, run alone: what it holds, what it lets go, and the stretches it writes, read back by kind:
 * replay. */
#include "hdf5_fixture.h"

#include <glob.h>

extern const gw_kind gw_kind_ring, gw_kind_replay;

enum { RATE = 256, BLOCK = 16, SLABS = 64 };

static const int64_t START = INT64_C(1000000000) * RATE;

typedef struct feed {
    alone a;
    gw_spec spec[2];
    gw_pool *pool;
    int64_t at[2]; /* next sample of each port */
} feed;

/* Two streams: "aux" of `channels`, "state" at an 8th of the rate. */
static int begin(feed *f, const char *more, uint32_t channels)
{
    static const char *const one[] = {"state"};
    char yaml[512];
    *f = (feed){.at = {START, START / 8}};
    f->spec[0] = (gw_spec){.name = "aux", .rate = {RATE, 1}, .dtype = GW_F32, .block_samples = BLOCK};
    f->spec[1] = (gw_spec){.name = "state", .rate = {RATE / 8, 1}, .dtype = GW_F32, .block_samples = BLOCK};
    assert_works(gw_spec_set_channels(&f->spec[0], channels, NULL));
    assert_works(gw_spec_set_channels(&f->spec[1], 1, one));
    assert_works(gw_pool_new(&f->pool, "test", SLABS, gw_spec_slab_bytes(&f->spec[0]), GW_SPACE_HOST));
    snprintf(yaml, sizeof yaml, "{path: \"%s/dump\"%s}", fixture_folder, more);
    f->a.plan.in = f->spec;
    f->a.plan.n_in = 2;
    int err = alone_plan(&f->a, &gw_kind_ring, yaml);
    return err < 0 ? err : f->a.kind->open(f->a.self, &f->a.env);
}

static void end(feed *f)
{
    alone_close(&f->a);
    if (f->pool)
        assert_int_equal(gw_pool_free_slabs(f->pool), SLABS); /* whatever happened, all blocks are home */
    gw_pool_destroy(&f->pool);
    gw_spec_free(&f->spec[0]);
    gw_spec_free(&f->spec[1]);
}

static float value(int port, uint32_t channel, int64_t sample)
{
    return (float)(sample % 100000) + (float)channel / 128 + (float)port / 2;
}

static void give(feed *f, int port, bool absent)
{
    gw_block *b;
    const gw_spec *s = &f->spec[port];
    assert_works(gw_pool_take(f->pool, &b));
    float *x = b->data;
    for (uint32_t c = 0; c < s->n_channels; c++)
        for (int i = 0; i < BLOCK; i++)
            x[c * BLOCK + (uint32_t)i] = value(port, c, f->at[port] + i);
    b->hdr.dtype = GW_F32;
    b->hdr.sample0 = f->at[port];
    b->hdr.n_samples = BLOCK;
    b->hdr.n_channels = s->n_channels;
    b->hdr.payload_bytes = s->n_channels * BLOCK * sizeof *x;
    b->hdr.dq = GW_DQ_ALL;
    if (absent) {
        b->hdr.presence_offset = (uint32_t)b->hdr.payload_bytes;
        b->hdr.presence_bytes = (s->n_channels + 7) / 8;
        memset((char *)b->data + b->hdr.presence_offset, 0xfe, b->hdr.presence_bytes);
    }
    gw_block_seal(b);
    const gw_view v = {.data = b->data,
                       .stride = BLOCK,
                       .n_samples = BLOCK,
                       .n_channels = s->n_channels,
                       .sample0 = b->hdr.sample0,
                       .dq = b->hdr.dq,
                       .presence = gw_block_presence(b),
                       .block = b};
    assert_works(f->a.kind->take(f->a.self, port, &v));
    gw_block_unref(&b);
    f->at[port] += BLOCK;
}

/* Both streams until `seconds` after the start. */
static void run_until(feed *f, double seconds)
{
    const int64_t until = (int64_t)(seconds * RATE);
    while (f->at[0] - START < until) {
        give(f, 0, false);
        if ((f->at[0] - START) % (8 * BLOCK) == 0)
            give(f, 1, false);
    }
}

static void hole(feed *f, int port, int64_t samples)
{
    const gw_hole h = {f->at[port], (uint64_t)samples, GW_GAP_DROPPED, GW_DQ_ALL};
    assert_works(f->a.kind->gap(f->a.self, port, &h));
    f->at[port] += samples;
}

static void tell(feed *f, gw_phase phase, double seconds)
{
    const gw_event e = {.id = "E1", .phase = phase, .gps_ns = (int64_t)((1e9 + seconds) * 1e9)};
    assert_works(f->a.kind->event(f->a.self, &e));
}

static int files(void)
{
    char pattern[128];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s/*.hdf5", fixture_folder);
    const int n = glob(pattern, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* The file holds [from, to) seconds of both streams, exact, with a hole where it is said. */
static void check_file(const char *name, double from, double to, double hole_from, double hole_to)
{
    alone a = {0};
    taken t[2] = {0};
    char yaml[256];
    snprintf(yaml, sizeof yaml, "{files: [\"%s/%s\"]}", fixture_folder, name);
    assert_works(alone_plan(&a, &gw_kind_replay, yaml));
    assert_int_equal(a.plan.n_out, 2);
    assert_works(alone_run(&a, t, NULL));
    for (int p = 0; p < 2; p++) {
        const int rate = p ? RATE / 8 : RATE;
        const int64_t start = p ? START / 8 : START;
        int64_t first = t[p].sample0, last = t[p].end; /* replay's span is that of the longer stream */
        while (first < last && t[p].reason[first - t[p].sample0] == GW_GAP_ABSENT)
            first++;
        while (first < last && t[p].reason[last - 1 - t[p].sample0] == GW_GAP_ABSENT)
            last--;
        const double block_s = (double)BLOCK / rate;
        const double begins = (double)(first - start) / rate, ends = (double)(last - start) / rate;
        assert_true(begins <= from && begins > from - block_s);
        assert_true(ends >= to && ends < to + block_s);
        for (int64_t i = first; i < last; i++) {
            const double at = (double)(i - start) / rate;
            const bool lost = p == 0 && at >= hole_from && at < hole_to;
            assert_int_equal(t[p].reason[i - t[p].sample0], lost ? GW_GAP_DROPPED : GW_GAP_NONE);
            if (!lost)
                assert_true(t[p].x[i - t[p].sample0] == (double)value(p, 0, i));
        }
    }
    taken_free(t, 2);
    alone_close(&a);
}

static void forget_files(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -f %s/*.hdf5", fixture_folder);
    assert_int_equal(system(command), 0);
}

/* It holds the blocks themselves, as many as it may, and lets go of the rest. */
static void holds_and_lets_go(void **state)
{
    (void)state;
    feed f;
    assert_works(begin(&f, ", keep: 1s, before: 1s", 3));
    assert_true(f.a.plan.keep_ns[0] >= GW_SECOND_NS && f.a.plan.keep_ns[0] <= 2 * GW_SECOND_NS);
    run_until(&f, 20);
    const int held = SLABS - gw_pool_free_slabs(f.pool);
    assert_true(held >= 16 + 2 && held <= 17 + 4); /* a second of each stream, and what it begins in */
    hole(&f, 0, 10 * RATE);
    assert_true(SLABS - gw_pool_free_slabs(f.pool) <= 4);
    assert_int_equal(files(), 0);
    end(&f);
}

/* Round an event: what was before it, and what comes after it. In both layouts. */
static void stretch_round_an_event(void **state)
{
    (void)state;
    for (uint32_t channels = 3; channels < 100; channels += 90) {
        feed f;
        assert_works(begin(&f, ", keep: 2s, before: 1s, after: 1500ms", channels));
        run_until(&f, 5.1);
        hole(&f, 0, RATE / 4 - (f.at[0] - START) % (RATE / 4));
        run_until(&f, 6);
        tell(&f, GW_PHASE_FIRST, 5.7); /* not asked for */
        assert_int_equal(files(), 0);
        tell(&f, GW_PHASE_FINAL, 5.7);
        run_until(&f, 12);
        assert_works(f.a.kind->drain(f.a.self, NULL));
        end(&f);
        assert_int_equal(files(), 1);
        check_file("dump-1000000004.hdf5", 4.7, 7.2, 5.125, 5.25);
        forget_files();
    }
}

/* Stretches that overlap are one file; another begins another; the end of the streams ends a stretch. */
static void several_events(void **state)
{
    (void)state;
    feed f;
    assert_works(begin(&f, ", keep: 2s, before: 1s, after: 1s, on: [first, final]", 3));
    run_until(&f, 3);
    tell(&f, GW_PHASE_FIRST, 2.5);
    tell(&f, GW_PHASE_FINAL, 2.9);
    run_until(&f, 3.5);
    tell(&f, GW_PHASE_FINAL, 3.4);
    run_until(&f, 9);
    assert_int_equal(files(), 1);
    tell(&f, GW_PHASE_FINAL, 8.75);
    assert_int_equal(files(), 2);
    assert_works(f.a.kind->drain(f.a.self, NULL));
    end(&f);
    check_file("dump-1000000001.hdf5", 1.5, 4.4, 0, 0);
    check_file("dump-1000000007.hdf5", 7.75, 9, 0, 0);
    forget_files();
}

static int command(feed *f, const char *words, char answer[256])
{
    return f->a.kind->command(f->a.self, words, answer, 256);
}

static void on_command(void **state)
{
    (void)state;
    feed f;
    char words[256], answer[256];
    assert_works(begin(&f, ", keep: 2s, before: 1s", 70));
    assert_int_equal(command(&f, "dump 1 x", answer), GW_EAGAIN);
    run_until(&f, 4);
    assert_int_equal(command(&f, "dump", answer), GW_EUSAGE);
    assert_non_null(strstr(answer, "dump SECONDS PATH"));
    assert_true(command(&f, "dump much /tmp/x", answer) < 0);
    assert_int_equal(command(&f, "dump 1 /no/such/folder/x.hdf5", answer), GW_EMISSING);
    snprintf(words, sizeof words, "dump 1.5 %s/now.hdf5", fixture_folder);
    assert_works(command(&f, words, answer));
    assert_non_null(strstr(answer, "GPS 1000000002.500 to 1000000004.000"));
    assert_int_equal(command(&f, words, answer), GW_EBUSY); /* is there */
    run_until(&f, 5);
    check_file("now.hdf5", 2.5, 4, 0, 0);
    snprintf(words, sizeof words, "dump 1min %s/all.hdf5", fixture_folder); /* as much as is kept */
    assert_works(command(&f, words, answer));
    run_until(&f, 6);
    assert_works(f.a.kind->drain(f.a.self, NULL));
    end(&f);
    check_file("all.hdf5", 3, 5, 0, 0);
    forget_files();
}

/* Absent channels go into the file. */
static void presence(void **state)
{
    (void)state;
    feed f;
    assert_works(begin(&f, ", keep: 2s, before: 1s, after: 0s", 70));
    for (int i = 0; i < 32; i++)
        give(&f, 0, i >= 20 && i < 24);
    give(&f, 1, false);
    tell(&f, GW_PHASE_FINAL, 2);
    assert_works(f.a.kind->drain(f.a.self, NULL));
    end(&f);
    hid_t file = H5Fopen(temporary("dump-1000000001.hdf5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t d = H5Dopen2(file, "gwstream/aux/absent", H5P_DEFAULT), s = H5Dget_space(d);
    assert_int_equal(H5Sget_simple_extent_npoints(s), 1);
    struct {
        int64_t sample0, n_samples;
    } row;
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof row);
    H5Tinsert(type, "sample0", 0, H5T_NATIVE_INT64);
    H5Tinsert(type, "n_samples", 8, H5T_NATIVE_INT64);
    assert_true(H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &row) >= 0);
    assert_int_equal(row.sample0, START + 20 * BLOCK);
    assert_int_equal(row.n_samples, 4 * BLOCK);
    H5Tclose(type);
    H5Sclose(s);
    H5Dclose(d);
    H5Fclose(file);
    forget_files();
}

static void refused(void **state)
{
    (void)state;
    feed f;
    assert_fails(begin(&f, ", keep: 1s", 3), GW_ECONFIG, "before", "keep");
    end(&f);
    assert_fails(begin(&f, ", on: [often]", 3), GW_ECONFIG, "often");
    end(&f);
    assert_fails(begin(&f, ", before: 0s, after: 0s", 3), GW_ECONFIG, "nothing is left");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_and_lets_go), cmocka_unit_test(stretch_round_an_event),
        cmocka_unit_test(several_events),    cmocka_unit_test(on_command),
        cmocka_unit_test(presence),          cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
