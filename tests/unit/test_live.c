/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a live source is made of, apart from links: its YAML, the conversion of samples, and its patience. The
 * whole, with real clients, is flow/check_clients.py's; the order of blocks is test_order.c's. */
#include "sources/live_conf.h"
#include "sources/patience.h"
#include "sources/samples.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* -- YAML -------------------------------------------------------------------------------------------- */

static int read_yaml(gw_live_conf *l, gw_conf_file **file, const char *yaml)
{
    memset(l, 0, sizeof *l);
    assert_int_equal(gw_conf_parse(file, "test.yaml", yaml, strlen(yaml)), 0);
    int err = gw_live_conf_read(l, gw_conf_root(*file), 16);
    return err == GW_OK ? gw_conf_done(gw_conf_root(*file), "test") : err;
}

static void test_yaml(void **state)
{
    (void)state;
    char list[] = "/tmp/gwstream-channels-XXXXXX", yaml[1024];
    int fd = mkstemp(list);
    assert_true(fd >= 0);
    static const char names[] = "# witnesses\nA:ONE\n\n  A:TWO  \nA:THREE";
    assert_int_equal(write(fd, names, sizeof names - 1), sizeof names - 1);
    close(fd);
    snprintf(
        yaml, sizeof yaml,
        "listen: tcp://127.0.0.1:5600\nlanes: 2\npatience: 1s\nstreams:\n"
        "  H1: {channels: 2, rate: 16384Hz, samples: float64, unit: strain}\n"
        "  raw: {channels: [X, Y], rate: 16Hz, samples: int16, unit: V, scale: 0.5, block: 1s, as: float64}\n"
        "  env: {channels: %s, rate: 1024Hz, samples: int32, detector: L1}\n",
        list);
    gw_live_conf l;
    gw_conf_file *file;
    assert_int_equal(read_yaml(&l, &file, yaml), GW_OK);
    unlink(list);
    assert_int_equal(l.n_streams, 3);
    assert_true(l.paced && !l.encrypted && l.transport == GW_TCP);
    assert_int_equal(l.patience_ns, 1000000000);
    const gw_live_stream *h = &l.stream[0], *raw = &l.stream[1], *env = &l.stream[2];
    assert_string_equal(h->address, "tcp://127.0.0.1:5600");
    assert_string_equal(raw->address, "tcp://127.0.0.1:5602"); /* two lanes each */
    assert_string_equal(env->address, "tcp://127.0.0.1:5604");
    assert_int_equal(h->wire.dtype, GW_F64);
    assert_int_equal(h->wire.block_samples, 1024);
    assert_string_equal(h->wire.detector, "H1");
    assert_string_equal(h->wire.unit, "strain");
    assert_null(h->wire.channel); /* a client's names are its own */
    assert_string_equal(h->out.channel[1], "H1:1");
    assert_int_equal(h->out.dtype, GW_F64);
    assert_string_equal(raw->wire.unit, ""); /* what comes are not volts yet */
    assert_string_equal(raw->out.unit, "V");
    assert_string_equal(raw->wire.channel[1], "Y");
    assert_int_equal(raw->out.dtype, GW_F64);
    assert_int_equal(raw->wire.block_samples, 16);
    assert_int_equal(env->wire.n_channels, 3);
    assert_string_equal(env->out.channel[2], "A:THREE");
    assert_string_equal(env->wire.detector, "L1");
    assert_int_equal(env->out.dtype, GW_F32);
    gw_live_conf_free(&l);
    gw_live_conf_free(&l); /* twice is no harm */
    gw_conf_free(&file);
}

static void test_bad_yaml(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"streams: {A: {channels: 1, rate: 1Hz, samples: int16}}", "listen"},
        {"listen: udp://x:1\nstreams: {}", "expected tcp://"},
        {"listen: tcp://127.0.0.1:0\nstreams: {}", "port from 1"},
        {"listen: tcp://127.0.0.1\nstreams: {}", "port from 1"},
        {"listen: tcp://*:5600\nstreams: {}", "clear text"},
        {"listen: tcp://127.0.0.1.evil.org:5600\nstreams: {}", "clear text"},
        {"listen: ipc://x\nallow: [a]\nstreams: {}", "without 'key'"},
        {"listen: ipc://x\nstreams: {}", "1 to 16"},
        {"listen: ipc://x\nstreams: {A.B: {channels: 1, rate: 16Hz, samples: int16}}", "no name"},
        {"listen: ipc://x\nstreams: {A: {channels: 0, rate: 16Hz, samples: int16}}", "expected 1 to"},
        {"listen: ipc://x\nstreams: {A: {channels: /nowhere, rate: 16Hz, samples: int16}}", "No such file"},
        {"listen: ipc://x\nstreams: {A: {channels: [], rate: 16Hz, samples: int16}}", "list of names"},
        {"listen: ipc://x\nstreams: {A: {channels: 1, rate: 16Hz, samples: int16, scale: 0}}", "is 0"},
        {"listen: ipc://x\nstreams: {A: {channels: 1, rate: 16Hz, samples: int16, block: 9s}}",
         "1/64s to 4s"},
        {"listen: ipc://x\nstreams: {A: {channels: 1, rate: 10Hz, samples: int16}}", "whole number"},
        {"listen: ipc://x\nstreams: {A: {channels: 1, rate: 16Hz, samples: int16, sacle: 2}}", "sacle"},
        {"listen: ipc://x\npace: 2\nstreams: {A: {channels: 1, rate: 16Hz, samples: int16}}", "pace"},
        {"listen: ipc://x\npace: 0\npatience: 1s\nstreams: {}", "no meaning"},
        {"listen: tcp://127.0.0.1:65535\nstreams: {A: {channels: 1, rate: 16Hz, samples: int16}, B: "
         "{channels: 1, "
         "rate: 16Hz, samples: int16}}",
         "beyond 65535"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gw_live_conf l;
        gw_conf_file *file;
        assert_int_equal(read_yaml(&l, &file, bad[i].yaml), GW_ECONFIG);
        if (!strstr(gw_err_detail(), bad[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].yaml, gw_err_detail(), bad[i].says);
        assert_non_null(strstr(gw_err_detail(), "test.yaml:"));
        gw_live_conf_free(&l);
        gw_conf_free(&file);
    }
}

/* -- samples ----------------------------------------------------------------------------------------- */

enum { N = 37 };

static double value(const void *x, gw_dtype t, int i)
{
    switch (t) {
    case GW_F32:
        return (double)((const float *)x)[i];
    case GW_F64:
        return ((const double *)x)[i];
    case GW_I16:
        return ((const int16_t *)x)[i];
    default:
        return ((const int32_t *)x)[i];
    }
}

static void test_samples(void **state)
{
    (void)state;
    static const gw_dtype from_type[] = {GW_F32, GW_F64, GW_I16, GW_I32}, to_type[] = {GW_F32, GW_F64};
    static const double scale[] = {1, 2.5e-22, -3}, offset[] = {0, 0, 17.25};
    for (int f = 0; f < 4; f++) {
        double from[N], to[N + 1];
        for (int i = 0; i < N; i++) {
            const double v = i == 3 ? 32767 : i == 4 ? -32768 : 1000.7 * (i - 20);
            if (from_type[f] == GW_F32)
                ((float *)from)[i] = (float)(v * 1e-21);
            else if (from_type[f] == GW_F64)
                from[i] = v * 1e-21;
            else if (from_type[f] == GW_I16)
                ((int16_t *)from)[i] = (int16_t)v;
            else
                ((int32_t *)from)[i] = (int32_t)(v * 65536);
        }
        for (int t = 0; t < 2; t++) {
            for (int k = 0; k < 3; k++) {
                memset(to, 0x55, sizeof to);
                assert_true(gw_samples_convert(to, to_type[t], from, from_type[f], N, scale[k], offset[k]));
                for (int i = 0; i < N; i++) {
                    const double exact = value(from, from_type[f], i) * scale[k] + offset[k];
                    assert_true(value(to, to_type[t], i) ==
                                (to_type[t] == GW_F32 ? (double)(float)exact : exact));
                }
                const unsigned char *after = (unsigned char *)to + N * gw_dtype_bytes(to_type[t]);
                assert_int_equal(*after, 0x55);
            }
        }
    }
}

static void test_no_numbers(void **state)
{
    (void)state;
    double x[N], y[N];
    float z[N];
    for (int i = 0; i < N; i++)
        x[i] = i;
    x[20] = NAN;
    x[21] = -INFINITY;
    assert_false(gw_samples_convert(y, GW_F64, x, GW_F64, N, 1, 0));
    assert_int_equal(gw_samples_leading(y, GW_F64, N, true), 20);
    assert_int_equal(gw_samples_leading(y + 20, GW_F64, N - 20, false), 2);
    assert_int_equal(gw_samples_leading(y + 22, GW_F64, N - 22, true), N - 22);
    assert_true(gw_samples_convert(y, GW_F64, x, GW_F64, 20, 2, 0));
    x[20] = x[21] = 1e300; /* too much for a float */
    assert_true(gw_samples_convert(y, GW_F64, x, GW_F64, N, 1, 0));
    assert_false(gw_samples_convert(z, GW_F32, x, GW_F64, N, 1, 0));
    assert_int_equal(gw_samples_leading(z, GW_F32, N, true), 20);
    assert_true(gw_samples_convert(z, GW_F32, x, GW_F64, N, 1e-300, 0));
}

/* -- patience ---------------------------------------------------------------------------------------- */

#define S INT64_C(1000000000)

static void test_patience(void **state)
{
    (void)state;
    gw_patience p = {.patience_ns = S / 2};
    int64_t at;
    assert_false(gw_patience_deadline(&p, 5 * S, &at));
    gw_patience_came(&p, 1000 * S, 10 * S); /* lag -990 s */
    assert_true(gw_patience_best(&p, 10 * S, &at));
    assert_int_equal(at, 1000 * S);
    assert_true(gw_patience_deadline(&p, 12 * S, &at));
    assert_int_equal(at, 1001 * S + S / 2);
    gw_patience_came(&p, 1001 * S, 12 * S); /* a second later than the first: changes nothing */
    gw_patience_deadline(&p, 12 * S, &at);
    assert_int_equal(at, 1001 * S + S / 2);
    gw_patience_came(&p, 1002 * S + S / 10, 12 * S); /* quicker: now the others are more overdue */
    gw_patience_deadline(&p, 12 * S, &at);
    assert_int_equal(at, 1001 * S + S / 2 + S / 10);
}

/* A clock that drifts by 1 ms a second: who keeps step is never overdue by more than two minutes' drift. */
static void test_drift(void **state)
{
    (void)state;
    gw_patience p = {.patience_ns = S / 2};
    int64_t at;
    for (int64_t t = 1; t < 4 * 3600; t++) {
        const int64_t now = t * S + t * S / 1000;
        gw_patience_came(&p, t * S, now);
        assert_true(gw_patience_deadline(&p, now, &at));
        assert_true(at < t * S);
        assert_true(at >= t * S - S / 2);
    }
}

/* Held up for 10 s: what was kept meanwhile has 10 s more, melting away; a dead stream is given up all the
 * same. */
static void test_grace(void **state)
{
    (void)state;
    gw_patience p = {.patience_ns = S / 2};
    int64_t at;
    gw_patience_came(&p, 100 * S, 100 * S);
    gw_patience_held_up(&p, 100 * S, 110 * S);
    gw_patience_deadline(&p, 110 * S, &at);
    assert_int_equal(at, 99 * S + S / 2);
    gw_patience_deadline(&p, 114 * S, &at); /* catching up at twice real time is enough */
    assert_int_equal(at, 107 * S + S / 2);
    gw_patience_deadline(&p, 120 * S, &at);
    assert_int_equal(at, 119 * S + S / 2);
    gw_patience_held_up(&p, 120 * S, 121 * S);
    gw_patience_held_up(&p, 121 * S, 122 * S); /* one after the other adds up */
    gw_patience_deadline(&p, 122 * S, &at);
    assert_int_equal(at, 119 * S + S / 2);
    gw_patience_held_up(&p, 130 * S, 129 * S);
    gw_patience_deadline(&p, 130 * S, &at);
    assert_int_equal(at, 129 * S + S / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml),       cmocka_unit_test(test_bad_yaml), cmocka_unit_test(test_samples),
        cmocka_unit_test(test_no_numbers), cmocka_unit_test(test_patience), cmocka_unit_test(test_drift),
        cmocka_unit_test(test_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
