/* SPDX-License-Identifier: GPL-3.0-or-later
 * New networks in a file while a stream runs: what is taken, refused, waited for, written down and kept. A
 * network is a file of text here; one that begins with "bad" does not load. */
#include "pipeline/log.h"
#include "pipeline/stages/canary.h"
#include "tests/unit/stage_rig.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/gwstream-canary-XXXXXX", path[64], production[64];
static atomic_int alive; /* networks loaded and not dropped */
static const int64_t gps_ns = 1400000000 * GW_SECOND_NS;

static int make_folder(void **unused)
{
    (void)unused;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/next.onnx", folder);
    snprintf(production, sizeof production, "%s/model.onnx", folder);
    gw_log_set_level(GW_LOG_ERROR);
    return 0;
}

static int remove_folder(void **unused)
{
    char command[96];
    (void)unused;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static int empty_folder(void **unused)
{
    char command[96];
    (void)unused;
    snprintf(command, sizeof command, "rm -f %s/*", folder);
    return system(command);
}

static void write_text(const char *to, const char *text)
{
    FILE *f = fopen(to, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* As one should: as a whole. */
static void put(const char *to, const char *text)
{
    char part[96];
    snprintf(part, sizeof part, "%s.new", to);
    write_text(part, text);
    assert_int_equal(rename(part, to), 0);
}

static const char *text_of(const char *from, const char *suffix)
{
    static _Thread_local char text[4096];
    char name[128];
    snprintf(name, sizeof name, "%s%s", from, suffix);
    FILE *f = fopen(name, "r");
    const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static void nap(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* Whether the verdict comes to hold `word` within some seconds. */
static bool verdict_says(const char *word)
{
    for (int i = 0; i < 1000; i++, nap(10))
        if (strstr(text_of(path, ".verdict"), word))
            return true;
    return false;
}

/* Whether so many networks come to be alive within some seconds. */
static bool alive_are(int n)
{
    for (int i = 0; i < 1000 && alive != n; i++)
        nap(10);
    return alive == n;
}

static int load(void *self, const char *from, void **network, char name[48])
{
    assert_ptr_equal(self, folder);
    const char *text = text_of(from, "");
    assert_non_null(text);
    if (strncmp(text, "bad", 3) == 0)
        return gw_fail(GW_EFORMAT, "%s: \"%.3s\" is no network", from, text);
    const size_t n = strnlen(text, 40);
    memcpy(name, text, n);
    name[n] = 0;
    *network = strdup(text);
    assert_non_null(*network);
    alive++;
    return GW_OK;
}

static void drop(void *self, void *network)
{
    assert_ptr_equal(self, folder);
    free(network);
    alive--;
}

static gw_canary *open_canary(bool keep)
{
    const gw_canary_ops ops = {.self = folder, .load = load, .drop = drop};
    gw_canary_keys k = {.over_s = 60, .watch_s = 120, .better = 0.98, .keep = keep};
    snprintf(k.path, sizeof k.path, "%s", path);
    gw_canary *c;
    assert_int_equal(gw_canary_new(&c, &k, &ops, "clean.H1", "mains", production), GW_OK);
    return c;
}

static bool take_soon(gw_canary *c, gw_canary_model *m)
{
    for (int i = 0; i < 500; i++, nap(10))
        if (gw_canary_take(c, gps_ns, m))
            return true;
    return false;
}

static const gw_trial_result result = {
    .seconds = 60, .canary = 0.41, .production = 0.5, .canary_out = 1.001, .production_out = INFINITY};

static void there_at_the_start(void **unused)
{
    (void)unused;
    gw_canary_model m, none;
    put(path, "first");
    gw_canary *c = open_canary(false);
    assert_true(gw_canary_take(c, gps_ns, &m)); /* at once */
    assert_string_equal(m.name, "first");
    assert_int_equal(strlen(m.sha256), 64);
    assert_false(gw_canary_take(c, gps_ns, &none));
    assert_true(verdict_says("\"verdict\":\"trial\""));
    gw_canary_tell(c, &m, GW_TRIAL_REJECTED, gps_ns + 60 * GW_SECOND_NS, &result);
    gw_canary_give(c, m.network);
    assert_true(verdict_says("\"verdict\":\"rejected\""));
    const char *line = text_of(path, ".verdict");
    assert_non_null(strstr(line,
                           "\"final\":true,\"gps\":1400000060.000,\"seconds\":60,\"canary\":0.410000,"
                           "\"production\":0.500000,\"canary_out\":1.001000,\"production_out\":null}\n"));
    assert_non_null(strstr(line, m.sha256));
    assert_true(alive_are(0));
    nap(1100);
    assert_false(gw_canary_take(c, gps_ns, &none)); /* the same file is not tried twice */
    gw_canary_destroy(&c);
    assert_null(c);
}

static void comes_later(void **unused)
{
    (void)unused;
    gw_canary_model m;
    gw_canary *c = open_canary(false);
    assert_false(gw_canary_take(c, gps_ns, &m));
    put(path, "second");
    assert_true(take_soon(c, &m));
    assert_string_equal(m.name, "second");
    drop(folder, m.network);
    put(path, "bad one");
    assert_true(verdict_says("refused"));
    assert_non_null(strstr(text_of(path, ".verdict"), "\\\"bad\\\" is no network"));
    assert_false(gw_canary_take(c, gps_ns, &m));
    put(path, "older");
    assert_true(alive_are(1));
    put(path, "newer"); /* nobody has asked for the older one */
    assert_true(verdict_says("superseded"));
    assert_true(gw_canary_take(c, gps_ns, &m));
    assert_string_equal(m.name, "newer");
    drop(folder, m.network);
    put(path, "left");
    assert_true(alive_are(1));
    gw_canary_destroy(&c); /* drops what was not taken */
    assert_int_equal(alive, 0);
}

/* Not by rename, and slowly: read when it has stopped to grow. */
static void half_written(void **unused)
{
    (void)unused;
    gw_canary_model m;
    gw_canary *c = open_canary(false);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 6; i++) {
        assert_true(fputs("abc", f) >= 0);
        fflush(f);
        for (int k = 0; k < 3; k++, nap(100))
            assert_false(gw_canary_take(c, gps_ns, &m));
    }
    fclose(f);
    assert_true(take_soon(c, &m));
    assert_string_equal(m.name, "abcabcabcabcabcabc");
    gw_canary_give(c, m.network);
    gw_canary_destroy(&c);
    assert_int_equal(alive, 0);
}

static void kept(void **unused)
{
    (void)unused;
    gw_canary_model m;
    for (int keep = 0; keep < 2; keep++) {
        put(production, "old");
        put(path, "new");
        gw_canary *c = open_canary(keep);
        assert_true(gw_canary_take(c, gps_ns, &m));
        gw_canary_tell(c, &m, GW_TRIAL_PROMOTED, gps_ns, &result);
        assert_true(verdict_says("\"verdict\":\"promoted\""));
        assert_non_null(strstr(text_of(path, ".verdict"), "\"final\":false"));
        gw_canary_tell(c, &m, GW_TRIAL_KEPT, gps_ns, &result);
        assert_true(verdict_says("\"verdict\":\"kept\""));
        assert_string_equal(text_of(production, ""), keep ? "new" : "old");
        assert_string_equal(text_of(production, ".previous"), keep ? "old" : "");
        /* Another file by then: the next start keeps what it has. */
        put(production, "old");
        put(path, "newest");
        gw_canary_tell(c, &m, GW_TRIAL_ROLLED_BACK, gps_ns, &result);
        assert_true(verdict_says("rolled back"));
        gw_canary_tell(c, &m, GW_TRIAL_KEPT, gps_ns, &result);
        assert_true(verdict_says("\"verdict\":\"kept\""));
        assert_string_equal(text_of(production, ""), "old");
        gw_canary_give(c, m.network);
        gw_canary_destroy(&c);
        assert_int_equal(alive, 0);
        empty_folder(NULL);
    }
}

static void what_is_said_at_the_end_is_written(void **unused)
{
    (void)unused;
    gw_canary_model m;
    put(path, "first");
    gw_canary *c = open_canary(false);
    assert_true(gw_canary_take(c, gps_ns, &m));
    for (int i = 0; i < 40; i++)
        gw_canary_tell(c, &m, GW_TRIAL_PROMOTED, gps_ns + i * GW_SECOND_NS, &result);
    gw_canary_give(c, m.network);
    gw_canary_destroy(&c);
    assert_non_null(strstr(text_of(path, ".verdict"), "\"gps\":1400000039.000"));
    assert_int_equal(alive, 0);
}

static void faults(void **unused)
{
    (void)unused;
    const gw_canary_ops ops = {.self = folder, .load = load, .drop = drop};
    gw_canary_keys k = {.over_s = 60};
    gw_canary *c;
    snprintf(k.path, sizeof k.path, "%s/no/next.onnx", folder);
    assert_int_equal(gw_canary_new(&c, &k, &ops, "clean.H1", "mains", production), GW_EMISSING);
    assert_null(c);
    put(path, "bad from the start");
    c = open_canary(false);
    assert_true(verdict_says("refused"));
    gw_canary_destroy(&c);
}

static void keys(void **unused)
{
    (void)unused;
    static const struct {
        const char *yaml;
        int err;
    } some[] = {{"{}", GW_OK},
                {"{canary: {path: a.onnx, over: 30s, better: 0.9, watch: 0s, keep: true}}", GW_OK},
                {"{canary: a.onnx}", GW_ECONFIG},
                {"{canary: {over: 30s}}", GW_ECONFIG},
                {"{canary: {path: dir/}}", GW_ECONFIG},
                {"{canary: {path: a.onnx, over: 0s}}", GW_ECONFIG},
                {"{canary: {path: a.onnx, over: 1.5s}}", GW_ECONFIG},
                {"{canary: {path: a.onnx, better: 1.5}}", GW_ECONFIG},
                {"{canary: {path: a.onnx, beter: 0.5}}", GW_ECONFIG}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        gw_conf_file *f;
        gw_canary_keys k;
        assert_int_equal(gw_conf_parse(&f, "test.yaml", some[i].yaml, strlen(some[i].yaml)), GW_OK);
        assert_int_equal(gw_canary_keys_read(&k, gw_conf_root(f)), some[i].err);
        if (i == 0)
            assert_true(k.path[0] == 0);
        if (i == 1)
            assert_true(k.over_s == 30 && k.watch_s == 0 && k.keep && k.better == 0.9);
        gw_conf_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(there_at_the_start, empty_folder),
        cmocka_unit_test_setup(comes_later, empty_folder),
        cmocka_unit_test_setup(half_written, empty_folder),
        cmocka_unit_test_setup(kept, empty_folder),
        cmocka_unit_test_setup(what_is_said_at_the_end_is_written, empty_folder),
        cmocka_unit_test_setup(faults, empty_folder),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
