/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: record, run alone: what it writes is read back by plain HDF5 calls and by kind: replay; killed,
 * on a full disk, over an existing file. */
#include "hdf5_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern const gw_kind gw_kind_record, gw_kind_replay;

enum { RATE = 2048, BLOCK = 128 };

static const int64_t START = INT64_C(1126259446) * RATE;

static gw_spec spec_of(const char *name, const char *detector, const char *channel, gw_dtype dtype,
                       uint32_t rate)
{
    gw_spec s = {.rate = {rate, 1}, .dtype = dtype, .block_samples = BLOCK, .unit = "whitened"};
    snprintf(s.name, sizeof s.name, "%s", name);
    snprintf(s.detector, sizeof s.detector, "%s", detector);
    snprintf(s.whitening, sizeof s.whitening, "minimum 2048Hz 20-30Hz");
    snprintf(s.cleaning, sizeof s.cleaning, "mains:net:0123456789abcdef:57-63");
    assert_works(gw_spec_set_channels(&s, 1, &channel));
    return s;
}

static int plan_record(alone *a, const char *path, const char *more, gw_spec *in, int n_in)
{
    char yaml[512];
    snprintf(yaml, sizeof yaml, "{path: \"%s\"%s}", path, more);
    a->plan.in = in;
    a->plan.n_in = n_in;
    return alone_plan(a, &gw_kind_record, yaml);
}

static int give(alone *a, int port, const gw_spec *s, int64_t sample0, uint32_t n, const void *x, uint64_t dq,
                uint32_t flags)
{
    gw_view v = {.data = x,
                 .stride = n,
                 .n_samples = n,
                 .n_channels = s->n_channels,
                 .sample0 = sample0,
                 .dq = dq,
                 .flags = flags};
    return a->kind->take(a->self, port, &v);
}

static double attribute(hid_t object, const char *name)
{
    double x = NAN;
    hid_t at = H5Aopen(object, name, H5P_DEFAULT);
    assert_true(at >= 0 && H5Aread(at, H5T_NATIVE_DOUBLE, &x) >= 0);
    H5Aclose(at);
    return x;
}

/* A whitened stream with warm-up, a hole, an injection and half-good data, and a statistic beside it: as it
 * was, sample for sample, spec for spec. */
static void comes_back(void **state)
{
    (void)state;
    const char *path = temporary("out.hdf5");
    gw_spec in[2] = {spec_of("white.L1", "L1", "L1:STRAIN", GW_F32, RATE),
                     spec_of("search", "", "statistic", GW_F32, 16)};
    in[0].phase_ns = 1234;
    in[1].whitening[0] = '\0';
    static float x[16 * BLOCK];
    for (int i = 0; i < 16 * BLOCK; i++)
        x[i] = (float)sin(0.1 * i);
    alone a = {0};
    assert_works(plan_record(&a, path, "", in, 2));
    assert_works(a.kind->open(a.self, &a.env));
    const gw_hole warm = {START, 2 * BLOCK, GW_GAP_WARMUP, GW_DQ_ALL},
                  nan = {START + 8 * BLOCK, 100000, GW_GAP_NAN, 5},
                  last = {START + 10 * BLOCK + 100000, BLOCK, GW_GAP_QUALITY, 0};
    assert_works(a.kind->gap(a.self, 0, &warm));
    for (int b = 2; b < 8; b++) {
        assert_works(give(&a, 0, &in[0], START + b * BLOCK, BLOCK, x + b * BLOCK,
                          b == 4 ? 0xf0003 : GW_DQ_ALL, b == 5 ? GW_FLAG_INJECTION : GW_FLAG_REPLAY));
        assert_works(give(&a, 1, &in[1], START / 128 + b, 1, x + b, GW_DQ_ALL, 0));
    }
    assert_works(a.kind->gap(a.self, 0, &nan));
    for (int b = 8; b < 10; b++)
        assert_works(give(&a, 0, &in[0], START + 100000 + b * BLOCK, BLOCK, x + b * BLOCK, GW_DQ_ALL, 0));
    assert_works(a.kind->gap(a.self, 0, &last));
    assert_fails(give(&a, 0, &in[0], START, BLOCK, x, GW_DQ_ALL, 0), GW_EBUG, "white.L1");
    assert_works(a.kind->drain(a.self, NULL));
    alone_close(&a);

    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, "L1:STRAIN", H5P_DEFAULT);
    assert_true(d >= 0);
    assert_true(fabs(attribute(d, "x0") - 1126259446.000001234) < 2.4e-7);
    assert_true(attribute(d, "dx") == 1.0 / RATE);
    assert_int_equal(H5Aget_num_attrs(d), 6); /* GWpy's constructor takes no others */
    hid_t g = H5Gopen2(f, "gwstream/white.L1", H5P_DEFAULT);
    assert_true(attribute(g, "gap_samples") == 3 * BLOCK + 100000);
    assert_true(attribute(g, "sample0") == (double)START);
    H5Gclose(g);
    H5Dclose(d);
    d = H5Dopen2(f, "statistic", H5P_DEFAULT);
    assert_true(attribute(d, "x0") == 1126259446 + 0.125);
    H5Dclose(d);
    H5Fclose(f);
    struct stat st;
    stat(path, &st);
    assert_true(st.st_size < 80000); /* the hole costs nothing */

    alone r = {0};
    taken t[2] = {0};
    char yaml[256];
    snprintf(yaml, sizeof yaml, "{files: [\"%s\"], block: 1/16s}", path);
    assert_works(alone_plan(&r, &gw_kind_replay, yaml));
    assert_int_equal(r.plan.n_out, 2);
    const gw_spec *w = &r.plan.out[0], *s = &r.plan.out[1];
    assert_string_equal(w->detector, "L1");
    assert_string_equal(w->whitening, in[0].whitening);
    assert_string_equal(w->cleaning, in[0].cleaning);
    assert_string_equal(w->unit, "whitened");
    assert_string_equal(w->channel[0], "L1:STRAIN");
    assert_int_equal(w->dtype, GW_F32);
    assert_int_equal(w->phase_ns, 1234);
    assert_int_equal(w->rate.num, RATE);
    assert_string_equal(s->name, "search");
    assert_string_equal(s->detector, "");
    assert_works(alone_run(&r, t, NULL));
    assert_int_equal(t[0].sample0, START);
    assert_int_equal(t[0].end, START + 11 * BLOCK + 100000);
    for (int64_t i = 0; i < t[0].end - START; i++) {
        const int64_t k = i < 8 * BLOCK ? i : i < 8 * BLOCK + 100000 ? -1 : i - 100000;
        const int b = (int)(k / BLOCK);
        const int want = k < 0 ? GW_GAP_NAN : b < 2 ? GW_GAP_WARMUP : b == 10 ? GW_GAP_QUALITY : GW_GAP_NONE;
        assert_int_equal(t[0].reason[i], want);
        if (want != GW_GAP_NONE)
            continue;
        assert_true(t[0].x[i] == (double)x[k]);
        assert_true(t[0].dq[i] == (b == 4 ? 0xf0003 : GW_DQ_ALL));
        assert_int_equal(t[0].flags[i] & GW_FLAG_INJECTION, b == 5 ? GW_FLAG_INJECTION : 0);
    }
    for (int b = 2; b < 8; b++)
        assert_true(t[1].x[START / 128 + b - t[1].sample0] == (double)x[b]);
    assert_int_equal(r.env.bad_inputs, 0);
    taken_free(t, 2);
    alone_close(&r);
    gw_spec_free(&in[0]);
    gw_spec_free(&in[1]);
}

/* Two streams with one channel name stand in groups, and replay wants to be told which. */
static void shared_channel_names(void **state)
{
    (void)state;
    const char *path = temporary("shared.hdf5");
    gw_spec in[3] = {spec_of("sky.H1", "H1", "H1:STRAIN", GW_F64, 4096),
                     spec_of("white.H1", "H1", "H1:STRAIN", GW_F32, RATE),
                     spec_of("sky.L1", "L1", "L1:STRAIN", GW_I16, 4096)};
    in[0].whitening[0] = in[2].whitening[0] = '\0';
    double x[BLOCK] = {1e-21};
    float y[BLOCK] = {2};
    int16_t z[BLOCK] = {-3};
    alone a = {0}, r = {0};
    assert_works(plan_record(&a, path, "", in, 3));
    assert_works(a.kind->open(a.self, &a.env));
    assert_works(give(&a, 0, &in[0], 4096000, BLOCK, x, GW_DQ_ALL, 0));
    assert_works(give(&a, 1, &in[1], RATE * 1000, BLOCK, y, GW_DQ_ALL, 0));
    assert_works(give(&a, 2, &in[2], 4096000, BLOCK, z, GW_DQ_ALL, 0));
    assert_works(a.kind->drain(a.self, NULL));
    alone_close(&a);
    char yaml[256];
    snprintf(yaml, sizeof yaml, "{files: [\"%s\"]}", path);
    assert_fails(alone_plan(&r, &gw_kind_replay, yaml), GW_EMISMATCH, "sky.H1/H1:STRAIN",
                 "white.H1/H1:STRAIN", "channels");
    alone_close(&r);
    taken t[2] = {0};
    snprintf(yaml, sizeof yaml, "{files: [\"%s\"], channels: [white.H1, \"L1:STRAIN\"]}", path);
    assert_works(alone_plan(&r, &gw_kind_replay, yaml));
    assert_int_equal(r.plan.n_out, 2);
    assert_int_equal(r.plan.out[0].rate.num, RATE);
    assert_string_equal(r.plan.out[0].channel[0], "H1:STRAIN");
    assert_works(alone_run(&r, t, NULL));
    assert_true(t[0].x[0] == 2);
    assert_true(t[1].x[0] == -3);
    taken_free(t, 2);
    alone_close(&r);
    for (int i = 0; i < 3; i++)
        gw_spec_free(&in[i]);
}

static void refuses_to_overwrite(void **state)
{
    (void)state;
    gw_spec in = spec_of("white.H1", "H1", "H1:STRAIN", GW_F32, RATE);
    alone a = {0};
    const char *path = temporary("there.txt");
    FILE *f = fopen(path, "w");
    fputs("precious", f);
    fclose(f);
    assert_fails(plan_record(&a, path, "", &in, 1), GW_EBUSY, path, "overwrite: true");
    alone_close(&a);
    struct stat s;
    stat(path, &s);
    assert_int_equal(s.st_size, 8);
    assert_works(plan_record(&a, path, ", overwrite: true", &in, 1));
    assert_works(a.kind->open(a.self, &a.env));
    alone_close(&a);
    stat(path, &s);
    assert_true(s.st_size > 8);
    assert_fails(plan_record(&a, fixture_folder, ", overwrite: true", &in, 1), GW_EACCESS, "directory");
    alone_close(&a);
    assert_fails(plan_record(&a, temporary("no/such/x.hdf5"), "", &in, 1), GW_EMISSING, "folder");
    alone_close(&a);
    assert_fails(plan_record(&a, "", "", &in, 1), GW_ECONFIG, "path");
    alone_close(&a);
    /* Somebody makes the file between plan and open. */
    path = temporary("race.hdf5");
    assert_works(plan_record(&a, path, "", &in, 1));
    f = fopen(path, "w");
    fclose(f);
    assert_fails(a.kind->open(a.self, &a.env), GW_EBUSY, path);
    alone_close(&a);
    gw_spec_free(&in);
}

/* kill -9 at any moment: the file opens without repair and holds what was flushed. */
static void survives_kill(void **state)
{
    (void)state;
    gw_spec in = spec_of("white.H1", "H1", "H1:STRAIN", GW_F32, RATE);
    for (int round = 0; round < 8; round++) {
        const char *path = temporary("killed.hdf5");
        unlink(path);
        int word[2];
        assert_int_equal(pipe(word), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alone a = {0};
            float x[BLOCK];
            int err = plan_record(&a, path, ", flush: 2ms", &in, 1);
            err = err < 0 ? err : a.kind->open(a.self, &a.env);
            for (int64_t b = 0; err == GW_OK; b++) {
                for (int i = 0; i < BLOCK; i++)
                    x[i] = (float)(b * BLOCK + i);
                err = give(&a, 0, &in, START + b * BLOCK, BLOCK, x, b & 1 ? GW_DQ_ALL : 3, 0);
                if (b % 50 == 49)
                    usleep(1000); /* so that a flush falls due at least every 150 blocks */
                if (b % 50 == 49 && write(word[1], &b, sizeof b) != sizeof b)
                    break;
            }
            _exit(1);
        }
        close(word[1]);
        int64_t told = 0;
        while (told < 400 + 300 * round) /* by then hundreds of flushes were done */
            assert_int_equal(read(word[0], &told, sizeof told), sizeof told);
        usleep((unsigned)(round * 1700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(word[0]);
        alone r = {0};
        taken t = {0};
        char yaml[256];
        snprintf(yaml, sizeof yaml, "{files: [\"%s\"]}", path);
        assert_works(alone_plan(&r, &gw_kind_replay, yaml));
        assert_works(alone_run(&r, &t, NULL));
        const int64_t n = t.end - t.sample0;
        assert_true(t.sample0 == START);
        assert_true(n > 100 * BLOCK);
        for (int64_t i = 0; i < n; i++)
            assert_true(t.reason[i] == GW_GAP_NONE ? t.x[i] == (double)(float)i
                                                   : t.reason[i] == GW_GAP_ABSENT);
        taken_free(&t, 1);
        alone_close(&r);
    }
    gw_spec_free(&in);
}

/* The disk is full (here: the largest file size that we are allowed). */
static void full_disk(void **state)
{
    (void)state;
    gw_spec in = spec_of("white.H1", "H1", "H1:STRAIN", GW_F32, RATE);
    const char *path = temporary("full.hdf5");
    alone a = {0};
    static float x[BLOCK];
    struct rlimit was, small;
    getrlimit(RLIMIT_FSIZE, &was);
    small = (struct rlimit){100000, was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_works(plan_record(&a, path, ", flush: 1ms", &in, 1));
    assert_works(a.kind->open(a.self, &a.env));
    setrlimit(RLIMIT_FSIZE, &small);
    int err = GW_OK;
    for (int b = 0; b < 100000 && err == GW_OK; b++)
        err = give(&a, 0, &in, START + b * BLOCK, BLOCK, x, GW_DQ_ALL, 0);
    if (err == GW_OK)
        err = a.kind->drain(a.self, NULL);
    assert_fails(err, GW_EIO, path, "File too large");
    alone_close(&a);
    setrlimit(RLIMIT_FSIZE, &was);
    gw_spec_free(&in);
    /* The library is not left in a bad way. */
    gw_spec again = spec_of("white.H1", "H1", "H1:STRAIN", GW_F32, RATE);
    assert_works(plan_record(&a, temporary("next.hdf5"), "", &again, 1));
    assert_works(a.kind->open(a.self, &a.env));
    assert_works(give(&a, 0, &again, START, BLOCK, x, GW_DQ_ALL, 0));
    assert_works(a.kind->drain(a.self, NULL));
    alone_close(&a);
    gw_spec_free(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(shared_channel_names),
        cmocka_unit_test(refuses_to_overwrite),
        cmocka_unit_test(survives_kill),
        cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
