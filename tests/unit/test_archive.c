/* SPDX-License-Identifier: GPL-3.0-or-later
 * sources/archive.c on real recordings (read a second time by plain HDF5 calls), on small files of every
 * layout, and on files that are broken in every way we know. */
#include "hdf5_fixture.h"
#include "sources/archive.h"

static const char H4[] = "strain-4k/H-H1_LOSC_4_V2-1126259446-32.hdf5";

static void read_plainly(const char *path, const char *dataset, double *x)
{
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, dataset, H5P_DEFAULT);
    assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(d);
    H5Fclose(f);
}

static void real_gwosc_files(void **state)
{
    (void)state;
    /* Injection masks as the files' own documentation has them: 31, or 23 with continuous-wave injections. */
    static const struct {
        const char *name, *detector;
        uint32_t rate;
        int64_t gps;
        bool cw;
    } file[] = {{H4, "H1", 4096, 1126259446, false},
                {"strain-4k/L-L1_LOSC_4_V1-1126259446-32.hdf5", "L1", 4096, 1126259446, true},
                {"strain-4k/L-L1_LOSC_4_V2-1126259446-32.hdf5", "L1", 4096, 1126259446, true},
                {"strain-16k/H-H1_LOSC_16_V2-1126259446-32.hdf5", "H1", 16384, 1126259446, false},
                {"strain-16k/H-H1_GWOSC_16KHZ_R1-1126259447-32.hdf5", "H1", 16384, 1126259447, false},
                {"strain-16k/L-L1_GWOSC_16KHZ_R1-1126259447-32.hdf5", "L1", 16384, 1126259447, true}};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        const char *path = real_file(file[i].name);
        NEED_REAL(path);
        gw_archive *a;
        assert_works(gw_archive_open(&a, path));
        assert_int_equal(gw_archive_count(a), 1);
        const gw_archive_channel *c = gw_archive_channel_at(a, 0);
        assert_string_equal(c->detector, file[i].detector);
        assert_string_equal(c->group, file[i].detector);
        assert_memory_equal(c->name, file[i].detector, 2);
        assert_string_equal(c->name + 2, ":STRAIN");
        assert_int_equal(c->rate.num, file[i].rate);
        assert_int_equal(c->rate.den, 1);
        assert_int_equal(c->phase_ns, 0);
        assert_int_equal(c->sample0, file[i].gps * file[i].rate);
        assert_int_equal(c->n_samples, 32 * file[i].rate);
        assert_int_equal(c->dtype, GW_F64);
        assert_true(c->quality);
        assert_int_equal(c->n_runs, 1);
        assert_int_equal(c->run[0].end, c->n_samples);
        assert_true(c->run[0].dq == (GW_DQ_ALL & ~(file[i].cw ? (uint64_t)GW_DQ_NO_CW_HW_INJ : 0)));
        size_t n = (size_t)c->n_samples;
        double *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        read_plainly(path, "strain/Strain", x);
        for (size_t at = 0, piece; at < n; at += piece) { /* odd pieces, parked in between */
            piece = n - at < 12345 ? n - at : 12345;
            assert_works(gw_archive_read(a, 0, (int64_t)at, piece, y + at));
            if (at % 3 == 0)
                gw_archive_park(a);
        }
        assert_memory_equal(x, y, n * sizeof *x);
        free(x);
        free(y);
        gw_archive_close(&a);
        assert_null(a);
    }
}

static void real_gwpy_file(void **state)
{
    (void)state;
    const char *path = real_file("gwpy-hdf5/HLV-HW100916-968654552-1.hdf");
    NEED_REAL(path);
    gw_archive *a;
    assert_works(gw_archive_open(&a, path));
    assert_int_equal(gw_archive_count(a), 3);
    static const char *const detector[] = {"H1", "L1", "V1"};
    for (int i = 0; i < 3; i++) {
        const gw_archive_channel *c = gw_archive_channel_at(a, i);
        assert_string_equal(c->detector, detector[i]);
        assert_int_equal(c->rate.num, 16384);
        assert_int_equal(c->sample0, INT64_C(968654552) * 16384);
        assert_int_equal(c->n_samples, 16384);
        assert_false(c->quality);
        double x[16384], y[16384];
        read_plainly(path, c->path, x);
        assert_works(gw_archive_read(a, i, 0, 16384, y));
        assert_memory_equal(x, y, sizeof x);
    }
    gw_archive_close(&a);
}

/* Short names in another order, with unknown ones between, in both kinds of strings. */
static void masks_are_read_by_name(void **state)
{
    (void)state;
    static double x[4 * 64];
    static const char *const dq[] = {"NEW_FLAG", "CBC_CAT1", "DATA"}, *const inj[] = {"NO_CW_HW_INJ",
                                                                                      "NO_CBC_HW_INJ"};
    static const uint32_t dqmask[] = {6, 7, 5, 2}, injmask[] = {3, 3, 3, 1};
    for (int variable = 0; variable < 2; variable++) {
        gwosc g = {1000, 64, 4, x, "V1", 0, dqmask, injmask, dq, inj, 3, 2, variable};
        make_gwosc(temporary("names.hdf5"), &g);
        gw_archive *a;
        assert_works(gw_archive_open(&a, temporary("names.hdf5")));
        const gw_archive_channel *c = gw_archive_channel_at(a, 0);
        assert_string_equal(c->detector, "V1");
        assert_int_equal(c->n_runs, 3);
        assert_int_equal(c->run[0].end, 128);
        assert_true(c->run[0].dq == GW_DQ_ALL);
        assert_int_equal(c->run[1].end, 192);
        assert_true(c->run[1].dq == (GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT1));
        assert_int_equal(c->run[2].end, 256);
        assert_true(c->run[2].dq == (GW_DQ_ALL & ~(uint64_t)(GW_DQ_DATA | GW_DQ_NO_CBC_HW_INJ)));
        gw_archive_close(&a);
    }
}

static void detector_from_the_name(void **state)
{
    (void)state;
    static double x[64];
    gwosc g = {1000, 64, 1, x, NULL, 0, NULL, NULL, NULL, NULL, 0, 0, false};
    make_gwosc(temporary("K-K1_TEST-1000-1.hdf5"), &g);
    gw_archive *a;
    assert_works(gw_archive_open(&a, temporary("K-K1_TEST-1000-1.hdf5")));
    assert_string_equal(gw_archive_channel_at(a, 0)->detector, "K1");
    assert_false(gw_archive_channel_at(a, 0)->quality);
    gw_archive_close(&a);
    make_gwosc(temporary("strain.hdf5"), &g);
    assert_fails(gw_archive_open(&a, temporary("strain.hdf5")), GW_EFORMAT, "strain.hdf5", "detector");
}

static const struct type {
    hid_t *type;
    double scale;
} TYPES[] = {{&H5T_IEEE_F64BE_g, 1},    {&H5T_IEEE_F32LE_g, 1},  {&H5T_IEEE_F32BE_g, 1},
             {&H5T_STD_I16BE_g, 30000}, {&H5T_STD_I32LE_g, 1e9}, {&H5T_STD_U8LE_g, 0}};

static void all_number_types(void **state)
{
    (void)state;
    double x[100], y[100];
    H5open();
    for (size_t t = 0; t < sizeof TYPES / sizeof *TYPES; t++) {
        fill_noise(x, 100, t);
        for (int i = 0; i < 100; i++) /* what that type can hold exactly */
            x[i] = TYPES[t].scale > 1   ? floor(x[i] * TYPES[t].scale)
                   : TYPES[t].scale < 1 ? i
                                        : (double)(float)x[i];
        hid_t f = make_file(temporary("types.hdf5"));
        put_channel(f, "deep/er/L1:X", *TYPES[t].type, 100, x, "t0", 5, "sample_rate", 100);
        H5Fclose(f);
        gw_archive *a;
        assert_works(gw_archive_open(&a, temporary("types.hdf5")));
        const gw_archive_channel *c = gw_archive_channel_at(a, 0);
        assert_string_equal(c->path, "deep/er/L1:X");
        assert_string_equal(c->name, "L1:X");
        assert_int_equal(c->dtype, GW_F64);
        assert_int_equal(c->sample0, 500);
        assert_works(gw_archive_read(a, 0, 0, 100, y));
        assert_memory_equal(x, y, sizeof x);
        gw_archive_close(&a);
    }
}

/* Start and step as float64 become a rational rate, a sample number and a phase. */
static void rates_and_phases(void **state)
{
    (void)state;
    static const struct {
        double x0, dx;
        uint32_t num, den;
        int64_t sample0, phase_ns;
    } t[] = {{1126259446, 1.0 / 16384, 16384, 1, INT64_C(1126259446) * 16384, 0},
             {1126259446 + 5.0 / 16384, 1.0 / 16384, 16384, 1, INT64_C(1126259446) * 16384 + 5, 0},
             {1126259446.3, 1.0 / 1000, 1000, 1, INT64_C(1126259446300), 0}, /* .3 is not exact */
             {1126259446 + 1.0 / 64 + 1.0 / 256, 1.0 / 64, 64, 1, INT64_C(1126259446) * 64 + 1, 3906250},
             {1e9, 1 / 59.94, 2997, 50, INT64_C(59940000000), 0},
             {1200000000, 60, 1, 60, 20000000, 0},
             {1e9, 3.0, 1, 3, 333333333, 1000000000},
             {0, 1.0 / 256, 256, 1, 0, 0}};
    static double x[8];
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        hid_t f = make_file(temporary("rate.hdf5"));
        put_channel(f, "H1", H5T_IEEE_F64LE, 8, x, "x0", t[i].x0, "dx", t[i].dx);
        H5Fclose(f);
        gw_archive *a;
        assert_works(gw_archive_open(&a, temporary("rate.hdf5")));
        const gw_archive_channel *c = gw_archive_channel_at(a, 0);
        assert_int_equal(c->rate.num, t[i].num);
        assert_int_equal(c->rate.den, t[i].den);
        assert_int_equal(c->sample0, t[i].sample0);
        assert_int_equal(c->phase_ns, t[i].phase_ns);
        gw_archive_close(&a);
    }
}

static void absurd_attributes(void **state)
{
    (void)state;
    static const double bad[][2] = {{1e9, -1.0 / 64}, {1e9, 0},       {1e9, NAN}, {NAN, 1.0 / 64},
                                    {INFINITY, 1},    {-5, 1.0 / 64}, {1e10, 1},  {1e9, 1e-300},
                                    {1e9, 1e300},     {8.9e9, 1e6}};
    static double x[1000];
    gw_archive *a;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hid_t f = make_file(temporary("absurd.hdf5"));
        put_channel(f, "H1:X", H5T_IEEE_F64LE, 1000, x, "x0", bad[i][0], "dx", bad[i][1]);
        H5Fclose(f);
        assert_fails(gw_archive_open(&a, temporary("absurd.hdf5")), GW_EFORMAT, "absurd.hdf5: H1:X: ");
        assert_null(a);
    }
}

static void wrong_layouts(void **state)
{
    (void)state;
    static double x[128];
    gw_archive *a;
    const char *path = temporary("wrong.hdf5");
    hid_t f = make_file(path);
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, path, "no dataset", "strain/Strain");

    f = make_file(path);
    H5Dclose(put_dataset(f, "a/b", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 3, x));
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "found a/b", "x0 and dx");

    f = make_file(path);
    put_channel(f, "H1:X", H5T_IEEE_F64LE, 0, x, "x0", 1e9, "dx", 1);
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "H1:X", "no samples");

    f = make_file(path);
    const char *const words[] = {"not", "numbers"};
    put_strings(f, "H1:X", 2, words, true);
    hid_t d = H5Dopen2(f, "H1:X", H5P_DEFAULT);
    put_attribute(d, "x0", 1);
    put_attribute(d, "dx", 1);
    H5Dclose(d);
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "H1:X", "numbers");

    f = make_file(path);
    const hsize_t two[] = {8, 16};
    hid_t space = H5Screate_simple(2, two, NULL);
    d = H5Dcreate2(f, "H1:X", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    put_attribute(d, "x0", 1);
    put_attribute(d, "dx", 1);
    H5Dclose(d);
    H5Sclose(space);
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "H1:X", "2 dimensions");

    f = make_file(path); /* Strain without its attributes */
    H5Dclose(put_dataset(f, "strain/Strain", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 128, x));
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "strain/Strain", "Xstart");

    f = make_file(path);
    d = put_dataset(f, "strain/Strain", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 128, x);
    put_attribute(d, "Xstart", 1000);
    put_attribute(d, "Xspacing", 1.0 / 64);
    put_attribute(d, "Npoints", 64);
    H5Dclose(d);
    H5Fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "holds 128 samples", "Npoints says 64");

    static const uint32_t ones[] = {127, 127};
    gwosc g = {1000, 64, 2, x, "H1", 1, ones, NULL, usual_dq, NULL, 7, 0, true};
    make_gwosc(path, &g);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, "DQmask", "cover");
    const char *templates = real_file("templates/GW150914_4_template.hdf5");
    if (templates)
        assert_fails(gw_archive_open(&a, templates), GW_EFORMAT, "found template", "expected strain/Strain");
}

static void copy_cut(const char *from, const char *to, long bytes, long flip)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    for (long i = 0; i < bytes; i++) {
        int c = fgetc(in);
        if (c == EOF)
            break;
        fputc(i == flip ? c ^ 0x55 : c, out);
    }
    fclose(in);
    fclose(out);
}

static void broken_files(void **state)
{
    (void)state;
    gw_archive *a;
    assert_fails(gw_archive_open(&a, temporary("none.hdf5")), GW_EMISSING, "none.hdf5");
    assert_fails(gw_archive_open(&a, fixture_folder), GW_EFORMAT, "directory");
    const char *path = temporary("broken.hdf5");
    FILE *f = fopen(path, "w");
    fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, path, "empty");
    f = fopen(path, "w");
    fputs("GPS 1126259446\n", f);
    fclose(f);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, path, "not an HDF5 file");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(gw_archive_open(&a, path), GW_EFORMAT, path, "regular");
    unlink(path);

    const char *real = real_file(H4);
    NEED_REAL(real);
    struct stat s;
    stat(real, &s);
    const long size = (long)s.st_size,
               cut[] = {1, 7, 8, 95, 96, 800, 2048, 10000, size / 2, size - 4096, size - 1};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        copy_cut(real, path, cut[i], -1);
        int err = gw_archive_open(&a, path);
        assert_fails(err, GW_EFORMAT, path);
    }
    /* Whole, but one byte in the middle of the compressed strain is another. */
    copy_cut(real, path, size, size / 2);
    assert_works(gw_archive_open(&a, path));
    double *x = malloc(32 * 4096 * sizeof *x);
    assert_fails(gw_archive_read(a, 0, 0, 32 * 4096, x), GW_EFORMAT, path, "strain/Strain",
                 "cannot read samples 0 to 131072", "GPS 1126259446.000");
    free(x);
    gw_archive_close(&a);
}

/* A file that is replaced by a shorter one while it is parked. */
static void changed_file(void **state)
{
    (void)state;
    static double x[100];
    const char *path = temporary("changed.hdf5");
    for (size_t n = 100; n >= 50; n -= 50) {
        static gw_archive *a;
        hid_t f = make_file(path);
        put_channel(f, "H1", H5T_IEEE_F64LE, n, x, "x0", 1, "dx", 1);
        H5Fclose(f);
        if (n == 100) {
            assert_works(gw_archive_open(&a, path));
            continue;
        }
        assert_fails(gw_archive_read(a, 0, 0, 10, x), GW_EFORMAT, path, "changed");
        unlink(path);
        gw_archive_park(a);
        assert_fails(gw_archive_read(a, 0, 0, 10, x), GW_EMISSING, path);
        gw_archive_close(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_gwosc_files),       cmocka_unit_test(real_gwpy_file),
        cmocka_unit_test(masks_are_read_by_name), cmocka_unit_test(detector_from_the_name),
        cmocka_unit_test(all_number_types),       cmocka_unit_test(rates_and_phases),
        cmocka_unit_test(absurd_attributes),      cmocka_unit_test(wrong_layouts),
        cmocka_unit_test(broken_files),           cmocka_unit_test(changed_file),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
