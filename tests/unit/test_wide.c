/* SPDX-License-Identifier: GPL-3.0-or-later
 * Recordings of many channels, and series of files: what kind: record wrote is read back by kind: replay,
 * sample for sample, hole for hole, bit for bit, also after kill -9 and over a full disk. */
#include "hdf5_fixture.h"

#include <glob.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern const gw_kind gw_kind_record, gw_kind_replay;

enum { RATE = 256, BLOCK = 16, MAX_CHANNELS = 200, SPARE = 8 };

static const int64_t START = INT64_C(1000000000) * RATE;

/* What a recorder is given: blocks and holes, in order. */
typedef struct given {
    int64_t start;
    uint32_t n;   /* samples, or ... */
    uint64_t gap; /* ... a hole */
    int absent;   /* every absent-th channel is; 0 = none is; -1 = the first 40 are */
    uint64_t dq;
    uint32_t flags, reason;
} given;

typedef struct script {
    gw_spec spec;
    given *list;
    int n, room;
    int64_t end;
} script;

static void begin_script(script *s, const char *name, gw_dtype dtype, uint32_t channels, int64_t start)
{
    *s = (script){.spec = {.rate = {RATE, 1}, .dtype = dtype, .block_samples = BLOCK, .unit = "counts"},
                  .end = start};
    snprintf(s->spec.name, sizeof s->spec.name, "%s", name);
    char text[MAX_CHANNELS][16];
    const char *names[MAX_CHANNELS];
    for (uint32_t c = 0; c < channels; c++) {
        snprintf(text[c], sizeof text[c], "%s:C%u", name, (unsigned)c);
        names[c] = text[c];
    }
    assert_works(gw_spec_set_channels(&s->spec, channels, names));
}

static given *add(script *s, given g)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->list = realloc(s->list, (size_t)s->room * sizeof *s->list);
        assert_non_null(s->list);
    }
    g.start = s->end;
    s->end += g.n ? g.n : (int64_t)g.gap;
    s->list[s->n] = g;
    return &s->list[s->n++];
}

static void end_script(script *s)
{
    gw_spec_free(&s->spec);
    free(s->list);
}

/* A sample's bytes are a function of channel and number; some are NaN. */
static void sample_bytes(gw_dtype t, uint32_t channel, int64_t sample, void *to)
{
    const uint64_t x = (uint64_t)sample * 2654435761u + channel * UINT64_C(11400714819323198485);
    const bool nan = x >> 32 & 1 && sample % 97 == 0;
    const float f = nan ? NAN : (float)(int32_t)(x >> 16) / 3;
    const double d = nan ? NAN : (double)(int64_t)x / 7;
    const int16_t i = (int16_t)(x >> 20);
    const int32_t k = (int32_t)(x >> 12);
    memcpy(to,
           t == GW_F32   ? (const void *)&f
           : t == GW_F64 ? (const void *)&d
           : t == GW_I16 ? (const void *)&i
                         : &k,
           gw_dtype_bytes(t));
}

static bool is_absent(const given *g, uint32_t channel)
{
    return g->absent > 0 ? channel % (uint32_t)g->absent == 0 : g->absent < 0 && channel < 40;
}

static int give(alone *a, int port, const script *s, const given *g)
{
    uint8_t presence[MAX_CHANNELS / 8 + 1];
    if (!g->n) {
        const gw_hole hole = {g->start, g->gap, (gw_gap_reason)g->reason, g->dq};
        return a->kind->gap(a->self, port, &hole);
    }
    char *data =
        malloc((size_t)g->n * s->spec.n_channels * gw_dtype_bytes(s->spec.dtype)); /* and no byte more */
    assert_non_null(data);
    memset(presence, 0xff, sizeof presence);
    for (uint32_t c = 0; c < s->spec.n_channels; c++) {
        if (is_absent(g, c))
            presence[c / 8] &= (uint8_t) ~(1u << c % 8);
        for (uint32_t i = 0; i < g->n; i++)
            sample_bytes(s->spec.dtype, c, g->start + i,
                         data + (c * g->n + i) * gw_dtype_bytes(s->spec.dtype));
    }
    const gw_view v = {.data = data,
                       .stride = g->n,
                       .n_samples = g->n,
                       .n_channels = s->spec.n_channels,
                       .sample0 = g->start,
                       .dq = g->dq,
                       .flags = g->flags,
                       .presence = g->absent ? presence : NULL};
    int err = a->kind->take(a->self, port, &v);
    free(data);
    return err;
}

static int plan_record(alone *a, const char *path, const char *more, const script *s, int n)
{
    char yaml[512];
    static gw_spec in[GW_MAX_PORTS];
    for (int i = 0; i < n; i++)
        in[i] = s[i].spec;
    snprintf(yaml, sizeof yaml, "{path: \"%s\"%s}", path, more);
    a->plan.in = in;
    a->plan.n_in = n;
    return alone_plan(a, &gw_kind_record, yaml);
}

static void record_all(const char *path, const char *more, const script *s, int n)
{
    alone a = {0};
    assert_works(plan_record(&a, path, more, s, n));
    assert_works(a.kind->open(a.self, &a.env));
    int at[GW_MAX_PORTS] = {0};
    for (bool left = true; left;) {
        left = false;
        for (int i = 0; i < n; i++)
            if (at[i] < s[i].n) {
                assert_works(give(&a, i, &s[i], &s[i].list[at[i]++]));
                left = true;
            }
    }
    assert_works(a.kind->drain(a.self, NULL));
    alone_close(&a);
}

/* One piece of replay against the script. */
static void check_piece(const script *s, const gw_piece *p)
{
    const int64_t n = p->n_samples ? p->n_samples : (int64_t)p->gap_samples;
    const size_t size = gw_dtype_bytes(s->spec.dtype);
    int k = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t sample = p->sample0 + i;
        while (k < s->n &&
               s->list[k].start + (s->list[k].n ? s->list[k].n : (int64_t)s->list[k].gap) <= sample)
            k++;
        assert_true(k < s->n);
        const given *g = &s->list[k];
        assert_true(p->dq == g->dq);
        if (!g->n) {
            assert_int_equal(p->n_samples, 0);
            assert_int_equal(p->reason, g->reason);
            i += (int64_t)g->gap - (sample - g->start) - 1; /* the whole hole is alike */
            continue;
        }
        assert_true(p->n_samples > 0);
        assert_int_equal(p->flags, g->flags | GW_FLAG_REPLAY);
        for (uint32_t c = 0; c < s->spec.n_channels; c++) {
            char want[8];
            assert_int_equal(gw_present(p->presence, c), !is_absent(g, c));
            if (is_absent(g, c))
                continue;
            sample_bytes(s->spec.dtype, c, sample, want);
            assert_memory_equal((const char *)p->data + (c * p->n_samples + (size_t)i) * size, want, size);
        }
    }
}

/* Replays `files` (a YAML list's inside) and compares with the scripts, port by port. */
static void check_replay(const char *files, const char *more, const script *s, int n)
{
    alone a = {0};
    char yaml[1024];
    static char data[MAX_CHANNELS * BLOCK * SPARE * 16];
    uint8_t presence[MAX_CHANNELS / 8 + 1];
    int64_t end[GW_MAX_PORTS];
    snprintf(yaml, sizeof yaml, "{files: [%s]%s}", files, more);
    assert_works(alone_plan(&a, &gw_kind_replay, yaml));
    assert_int_equal(a.plan.n_out, n);
    assert_works(a.kind->open(a.self, &a.env));
    for (int i = 0; i < n; i++) {
        const gw_spec *spec = &a.plan.out[i];
        assert_string_equal(spec->name, s[i].spec.name);
        assert_int_equal(spec->dtype, s[i].spec.dtype);
        assert_int_equal(spec->n_channels, s[i].spec.n_channels);
        assert_string_equal(spec->unit, "counts");
        for (uint32_t c = 0; c < spec->n_channels; c++)
            assert_string_equal(spec->channel[c], s[i].spec.channel[c]);
        end[i] = INT64_MIN;
        for (int err = GW_OK; err != GW_EEND;) {
            memset(presence, 0xff, sizeof presence);
            gw_piece p = {
                .data = data, .capacity_samples = spec->block_samples, .dq = GW_DQ_ALL, .presence = presence};
            err = a.kind->next(a.self, i, &p);
            if (err == GW_EEND)
                break;
            assert_works(err);
            if (end[i] == INT64_MIN)
                assert_int_equal(p.sample0, s[i].list[0].start);
            else
                assert_int_equal(p.sample0, end[i]);
            end[i] = p.sample0 + (p.n_samples ? p.n_samples : (int64_t)p.gap_samples);
            check_piece(&s[i], &p);
        }
        assert_int_equal(end[i], s[i].end);
    }
    assert_int_equal(a.env.bad_inputs, 0);
    alone_close(&a);
}

/* Everything that a block can be. */
static void all_sorts(script *s)
{
    add(s, (given){.gap = 5 * BLOCK + 3, .reason = GW_GAP_WARMUP, .dq = GW_DQ_ALL});
    add(s, (given){.n = BLOCK - 10, .dq = GW_DQ_ALL});
    for (int i = 0; i < 20; i++)
        add(s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .flags = i == 7 ? GW_FLAG_INJECTION : 0});
    add(s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = 3});
    add(s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = 3});
    add(s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = -1});
    add(s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = 1});
    add(s, (given){.n = 5, .dq = 0});
    add(s, (given){.n = 4, .dq = GW_DQ_ALL, .absent = 2});
    add(s, (given){.gap = 3, .reason = GW_GAP_DROPPED, .dq = GW_DQ_ALL});
    add(s, (given){.n = 4, .dq = GW_DQ_ALL});
    add(s, (given){.gap = 40 * RATE, .reason = GW_GAP_LATE, .dq = 5});
    for (int i = 0; i < 3 * RATE / BLOCK; i++)
        add(s, (given){.n = BLOCK, .dq = i % 5 ? GW_DQ_ALL : GW_DQ_DATA});
    add(s, (given){.n = 7, .dq = GW_DQ_ALL});
    add(s, (given){.gap = BLOCK, .reason = GW_GAP_QUALITY, .dq = 0});
}

static const char *in_quotes(const char *path)
{
    static char text[256];
    snprintf(text, sizeof text, "\"%s\"", path);
    return text;
}

static int count_files(const char *pattern)
{
    glob_t found = {0};
    const int n = glob(pattern, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* All types, several group sizes (one chunk; groups that divide the channels and that do not), all block
 * lengths on the way back. */
static void wide_comes_back(void **state)
{
    (void)state;
    static const gw_dtype dtypes[] = {GW_F32, GW_F64, GW_I16, GW_I32};
    static const char *const chunk[] = {"", ", chunk: 2KiB", ", chunk: 1KiB", ", chunk: 3000B"};
    static const char *const block[] = {"", ", block: 1/64s", ", block: 1/4s", ", block: 1s",
                                        ", start: 1000000001.3"};
    for (int t = 0; t < 4; t++) {
        script s;
        begin_script(&s, "aux", dtypes[t], 77, START + 7);
        all_sorts(&s);
        const char *path = temporary("w.hdf5");
        char more[128], pattern[128];
        snprintf(more, sizeof more, ", every: 2s, layout: wide%s", chunk[t]);
        record_all(path, more, &s, 1);
        snprintf(pattern, sizeof pattern, "%s/w-*.hdf5", fixture_folder);
        /* One before the long hole, which makes none of its own, and three from 1000000041.9 on. */
        assert_int_equal(count_files(pattern), 4);
        for (int b = 0; b < 4; b++)
            check_replay(in_quotes(pattern), block[b], &s, 1);
        check_replay(in_quotes(fixture_folder), "", &s, 1);
        glob_t found;
        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
        assert_non_null(strstr(found.gl_pathv[0], "w-1000000000-2.hdf5"));
        for (size_t i = 0; i < found.gl_pathc; i++)
            unlink(found.gl_pathv[i]);
        globfree(&found);
        end_script(&s);
    }
}

/* Other programs find NaN where a channel was absent, not what happened to be in the slab; and a chunk of
 * absent channels takes no room. */
static void absent_is_nan(void **state)
{
    (void)state;
    script s;
    static float x[77 * 3 * BLOCK];
    begin_script(&s, "aux", GW_F32, 77, START + BLOCK);
    add(&s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = 3});
    add(&s, (given){.n = BLOCK, .dq = GW_DQ_ALL, .absent = -1});
    record_all(temporary("nan.hdf5"), ", every: 2s, chunk: 1KiB", &s,
               1); /* 16 channels a chunk, 13 in the last */
    const char *path = temporary("nan-1000000000-2.hdf5");
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, "aux/samples", H5P_DEFAULT);
    assert_true(d >= 0 && H5Dread(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    for (int i = 0; i < 77 * 3 * BLOCK; i++) {
        const int channel = i / (3 * BLOCK), block = i % (3 * BLOCK) / BLOCK - 1;
        float want = NAN;
        if (block >= 0 && !is_absent(&s.list[block], (uint32_t)channel))
            sample_bytes(GW_F32, (uint32_t)channel, START + i % (3 * BLOCK), &want);
        assert_memory_equal(&x[i], &want, sizeof want);
    }
    hsize_t chunks = 0;
    hid_t space = H5Dget_space(d);
    assert_true(H5Dget_num_chunks(d, space, &chunks) >= 0);
    assert_int_equal(chunks, 5 + 3);
    H5Sclose(space);
    H5Dclose(d);
    H5Fclose(f);
    unlink(path);
    end_script(&s);
}

/* The same in GWpy's layout: channels keep their order, integers their type. */
static void series_in_gwpy_layout(void **state)
{
    (void)state;
    static const gw_dtype dtypes[] = {GW_F32, GW_F64, GW_I16, GW_I32};
    for (int t = 0; t < 4; t++) {
        script s;
        char pattern[128];
        begin_script(&s, "few", dtypes[t], 12, START + 7);
        all_sorts(&s);
        record_all(temporary("g.hdf5"), ", every: 2s", &s, 1);
        snprintf(pattern, sizeof pattern, "%s/g-*.hdf5", fixture_folder);
        check_replay(in_quotes(pattern), "", &s, 1);
        check_replay(in_quotes(pattern), ", block: 1/4s", &s, 1);
        record_all(temporary("one.hdf5"), ", overwrite: true", &s, 1);
        check_replay(in_quotes(temporary("one.hdf5")), "", &s, 1);
        glob_t found;
        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
        for (size_t i = 0; i < found.gl_pathc; i++)
            unlink(found.gl_pathv[i]);
        globfree(&found);
        unlink(temporary("one.hdf5"));
        end_script(&s);
    }
}

/* Streams of different block lengths, phases and pace: each block goes to the file of its time. */
static void streams_apart(void **state)
{
    (void)state;
    script s[2];
    alone a = {0};
    begin_script(&s[0], "fast", GW_F32, 70, START);
    begin_script(&s[1], "slow", GW_I32, 3, START + BLOCK);
    s[1].spec.block_samples = 4 * BLOCK;
    s[1].spec.phase_ns = 3900625;
    for (int i = 0; i < 200; i++)
        add(&s[0], (given){.n = BLOCK, .dq = GW_DQ_ALL});
    add(&s[1], (given){.n = 3 * BLOCK, .dq = GW_DQ_ALL});
    for (int i = 0; i < 49; i++)
        add(&s[1], (given){.n = 4 * BLOCK, .dq = GW_DQ_ALL});
    assert_works(plan_record(&a, temporary("apart.hdf5"), ", every: 2s", s, 2));
    assert_works(a.kind->open(a.self, &a.env));
    for (int i = 0; i < 200; i++) { /* the second is 7 s late, and all of it comes in the end */
        assert_works(give(&a, 0, &s[0], &s[0].list[i]));
        if (i >= 112 && (i - 112) % 4 == 0)
            assert_works(give(&a, 1, &s[1], &s[1].list[(i - 112) / 4]));
    }
    for (int i = 22; i < 50; i++)
        assert_works(give(&a, 1, &s[1], &s[1].list[i]));
    assert_works(a.kind->drain(a.self, NULL));
    alone_close(&a);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "\"%s/apart-*.hdf5\"", fixture_folder);
    check_replay(pattern, ", channels: [fast]", &s[0], 1);
    check_replay(pattern, ", channels: [slow]", &s[1], 1);
    end_script(&s[0]);
    end_script(&s[1]);
}

static void refused(void **state)
{
    (void)state;
    script s;
    alone a = {0};
    begin_script(&s, "aux", GW_F32, 70, START);
    assert_fails(plan_record(&a, temporary("x.hdf5"), ", every: 1500ms", &s, 1), GW_ECONFIG, "every",
                 "whole");
    alone_close(&a);
    assert_fails(plan_record(&a, temporary("x.hdf5"), ", every: 100d", &s, 1), GW_ECONFIG, "every");
    alone_close(&a);
    assert_fails(plan_record(&a, temporary("x.hdf5"), ", layout: tall", &s, 1), GW_ECONFIG, "tall");
    alone_close(&a);
    s.spec.block_samples = 8 * RATE;
    assert_fails(plan_record(&a, temporary("x.hdf5"), ", every: 4s", &s, 1), GW_ECONFIG, "shorter", "aux");
    alone_close(&a);
    s.spec.dtype = GW_U8;
    assert_fails(plan_record(&a, temporary("x.hdf5"), "", &s, 1), GW_ENOTSUP, "aux");
    alone_close(&a);
    char yaml[256];
    snprintf(yaml, sizeof yaml, "{files: [\"%s/none-*.hdf5\"]}", fixture_folder);
    assert_fails(alone_plan(&a, &gw_kind_replay, yaml), GW_EMISSING, "none-");
    alone_close(&a);
    end_script(&s);
}

/* What is there up to some sample is exact; what is not is a hole. Returns how many samples are there. */
static int64_t exact_or_hole(const char *files, const script *s, gw_gap_reason hole)
{
    alone a = {0};
    char yaml[256];
    static char data[MAX_CHANNELS * BLOCK * SPARE];
    uint8_t presence[MAX_CHANNELS / 8 + 1];
    int64_t there = 0, end = s->list[0].start;
    snprintf(yaml, sizeof yaml, "{files: [\"%s\"]}", files);
    assert_works(alone_plan(&a, &gw_kind_replay, yaml));
    assert_works(a.kind->open(a.self, &a.env));
    for (int err = GW_OK;;) {
        memset(presence, 0xff, sizeof presence);
        gw_piece p = {.data = data, .capacity_samples = BLOCK, .dq = GW_DQ_ALL, .presence = presence};
        err = a.kind->next(a.self, 0, &p);
        if (err == GW_EEND)
            break;
        assert_works(err);
        assert_int_equal(p.sample0, end);
        end = p.sample0 + (p.n_samples ? p.n_samples : (int64_t)p.gap_samples);
        if (p.n_samples)
            check_piece(s, &p);
        else
            assert_int_equal(p.reason, hole);
        there += p.n_samples;
    }
    alone_close(&a);
    return there;
}

/* kill -9 at any moment: a plain reader opens the file, what was flushed is there, and a new recorder goes on
 * beside it. */
static void survives_kill(void **state)
{
    (void)state;
    script s;
    begin_script(&s, "aux", GW_F32, 70, START);
    for (int i = 0; i < 8000; i++)
        add(&s, (given){.n = BLOCK, .dq = i % 40 ? GW_DQ_ALL : GW_DQ_DATA, .absent = i % 100 == 3 ? 5 : 0});
    char path[160], name[160], pattern[160];
    for (int round = 0; round < 6; round++) {
        snprintf(path, sizeof path, "%s/k%d.hdf5", fixture_folder, round);
        int word[2];
        assert_int_equal(pipe(word), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alone a = {0};
            int err = plan_record(&a, path, ", every: 4000s, flush: 2ms, chunk: 2KiB", &s, 1);
            err = err < 0 ? err : a.kind->open(a.self, &a.env);
            for (int i = 0; i < s.n && err == GW_OK; i++) {
                err = give(&a, 0, &s, &s.list[i]);
                if (i % 50 == 49)
                    usleep(1000); /* so that a flush falls due at least every 150 blocks */
                if (i % 50 == 49 && write(word[1], &i, sizeof i) != sizeof i)
                    break;
            }
            pause();
            _exit(1);
        }
        close(word[1]);
        int told = 0;
        while (told < 400 + 150 * round)
            assert_int_equal(read(word[0], &told, sizeof told), sizeof told);
        usleep((unsigned)(round * 1700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(word[0]);
        snprintf(name, sizeof name, "%s/k%d-1000000000-4000.hdf5", fixture_folder, round);
        hid_t f = H5Fopen(name, H5F_ACC_RDONLY, H5P_DEFAULT);
        assert_true(f >= 0);
        uint8_t complete = 9;
        hid_t at = H5Aopen_by_name(f, "gwstream", "complete", H5P_DEFAULT, H5P_DEFAULT);
        assert_true(at >= 0 && H5Aread(at, H5T_NATIVE_UINT8, &complete) >= 0);
        assert_int_equal(complete, 0);
        H5Aclose(at);
        H5Fclose(f);
        assert_true(exact_or_hole(name, &s, GW_GAP_ABSENT) > 200 * BLOCK);
        /* Started again, it takes another name, and both together are the recording. */
        alone a = {0};
        assert_works(plan_record(&a, path, ", every: 4000s", &s, 1));
        assert_works(a.kind->open(a.self, &a.env));
        for (int i = 7000; i < s.n; i++)
            assert_works(give(&a, 0, &s, &s.list[i]));
        assert_works(a.kind->drain(a.self, NULL));
        alone_close(&a);
        snprintf(pattern, sizeof pattern, "%s/k%d-1000000000-4000*.hdf5", fixture_folder, round);
        assert_int_equal(count_files(pattern), 2);
        assert_true(exact_or_hole(pattern, &s, GW_GAP_ABSENT) > 1200 * BLOCK);
    }
    end_script(&s);
}

/* Records with a limit on file sizes for the first half, and returns what was said at the end. In a process
 * of its own: such a limit leaves a file that the library can neither write nor close. */
static void record_on_full_disk(const char *path, const char *more, const script *s, rlim_t bytes,
                                char said[256])
{
    int word[2];
    assert_int_equal(pipe(word), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alone a = {0};
        struct rlimit was, small;
        getrlimit(RLIMIT_FSIZE, &was);
        small = (struct rlimit){bytes, was.rlim_max};
        signal(SIGXFSZ, SIG_IGN);
        int err = plan_record(&a, path, more, s, 1);
        err = err < 0 ? err : a.kind->open(a.self, &a.env);
        setrlimit(RLIMIT_FSIZE, &small);
        for (int i = 0; i < s->n && err == GW_OK; i++) {
            if (i == s->n / 2) {
                setrlimit(RLIMIT_FSIZE, &was);
                usleep(1100000);
            }
            err = give(&a, 0, s, &s->list[i]);
        }
        if (err == GW_OK)
            err = a.kind->drain(a.self, NULL);
        const char *detail = err == GW_EIO ? gw_err_detail() : "no such failure";
        _exit(write(word[1], detail, strlen(detail)) < 0);
    }
    close(word[1]);
    const ssize_t n = read(word[0], said, 255);
    said[n > 0 ? n : 0] = '\0';
    close(word[0]);
    waitpid(child, NULL, 0);
}

/* A full disk leaves a hole in the series, stated in it, and the end says how much. */
static void full_disk(void **state)
{
    (void)state;
    static const char *const layout[] = {"wide", "gwpy"};
    for (int k = 0; k < 2; k++) {
        script s;
        char path[128], more[64], said[256];
        begin_script(&s, "aux", GW_F32, 70, START);
        for (int i = 0; i < 600; i++)
            add(&s, (given){.n = BLOCK, .dq = GW_DQ_ALL});
        snprintf(more, sizeof more, ", every: 100s, flush: 1ms, layout: %s", layout[k]);
        snprintf(path, sizeof path, "%s/full%d.hdf5", fixture_folder, k);
        record_on_full_disk(path, more, &s, k ? 3000000 : 900000, said);
        const char *count = strstr(said, "hdf5: ");
        int64_t lost = 0;
        assert_non_null(strstr(said, "samples a channel are lost"));
        assert_true(count && sscanf(count + 6, "%" SCNd64, &lost) == 1 && lost > 0);
        snprintf(path, sizeof path, "%s/full%d-*.hdf5", fixture_folder, k);
        const int64_t there = exact_or_hole(path, &s, GW_GAP_DROPPED);
        assert_true(there >= 310 * BLOCK);
        assert_true(there + lost >= 600 * BLOCK); /* nothing is missing without a word */
        end_script(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_comes_back),
        cmocka_unit_test(absent_is_nan),
        cmocka_unit_test(series_in_gwpy_layout),
        cmocka_unit_test(streams_apart),
        cmocka_unit_test(refused),
        cmocka_unit_test(survives_kill),
        cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
