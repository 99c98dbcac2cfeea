/* SPDX-License-Identifier: GPL-3.0-or-later
 * Strict YAML: what is read, and for what is refused the exact line that the user will see. */
#include "pipeline/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static gw_conf_file *file; /* freed after each test */

static gw_conf *parse(const char *text)
{
    gw_conf_free(&file);
    if (gw_conf_parse(&file, "x.yaml", text, strlen(text))) {
        print_error("%s\n", gw_err_detail());
        fail();
    }
    return gw_conf_root(file);
}

static int forget(void **state)
{
    (void)state;
    gw_conf_free(&file);
    return 0;
}

static void assert_refused(const char *text, const char *detail)
{
    gw_conf_free(&file);
    assert_int_equal(gw_conf_parse(&file, "x.yaml", text, strlen(text)), GW_ECONFIG);
    assert_null(file);
    assert_string_equal(gw_err_detail(), detail);
}

static const char graph[] = "sources:\n"
                            "  sky: {kind: sim, seed: 1, start: 1400000000, rate: 16384Hz, block: 1/16s,\n"
                            "        pace: 2.5, flag: true, detectors: [H1, L1]}\n"
                            "stages:\n"
                            "  white:\n"
                            "    kind: whiten\n"
                            "    from: sky\n"
                            "    size: 4MiB\n";

static void a_graph_is_read(void **state)
{
    (void)state;
    gw_conf *root = parse(graph), *sources, *sky, *detectors;
    assert_int_equal(gw_conf_kind(root), GW_CONF_MAP);
    assert_int_equal(gw_conf_count(root), 2);
    assert_string_equal(gw_conf_key(root, 0), "sources");
    assert_string_equal(gw_conf_key(root, 1), "stages");
    assert_null(gw_conf_key(root, 2));
    assert_int_equal(gw_conf_need(root, "sources", &sources), GW_OK);
    sky = gw_conf_item(sources, 0);
    assert_string_equal(gw_conf_where(sky), "x.yaml:2:8");

    const char *kind = NULL, *untouched = "default";
    int64_t seed = 0, start = 0, span = 0;
    gw_rate rate = {0, 0}, block = {0, 0};
    double pace = 0;
    bool flag = false;
    int choice = -1;
    static const char *const words[] = {"replay", "sim", NULL};
    assert_int_equal(gw_conf_get_text(sky, "kind", &kind), GW_OK);
    assert_string_equal(kind, "sim");
    assert_int_equal(gw_conf_get_choice(sky, "kind", words, &choice), GW_OK);
    assert_int_equal(choice, 1);
    assert_int_equal(gw_conf_get_int(sky, "seed", 0, 10, &seed), GW_OK);
    assert_int_equal(seed, 1);
    assert_int_equal(gw_conf_get_gps_ns(sky, "start", &start), GW_OK);
    assert_int_equal(start, INT64_C(1400000000000000000));
    assert_int_equal(gw_conf_get_rate(sky, "rate", &rate), GW_OK);
    assert_true(rate.num == 16384 && rate.den == 1);
    assert_int_equal(gw_conf_get_span(sky, "block", &block), GW_OK);
    assert_true(block.num == 1 && block.den == 16);
    assert_int_equal(gw_conf_get_span_ns(sky, "block", &span), GW_OK);
    assert_int_equal(span, 62500000);
    assert_int_equal(gw_conf_get_double(sky, "pace", 0, 100, &pace), GW_OK);
    assert_true(pace > 2.49 && pace < 2.51);
    assert_int_equal(gw_conf_get_bool(sky, "flag", &flag), GW_OK);
    assert_true(flag);
    assert_int_equal(gw_conf_get_text(sky, "absent", &untouched), GW_OK);
    assert_string_equal(untouched, "default");
    assert_int_equal(gw_conf_get_int(sky, "absent", 0, 0, &seed), GW_OK);
    assert_int_equal(seed, 1);

    assert_int_equal(gw_conf_need(sky, "detectors", &detectors), GW_OK);
    assert_int_equal(gw_conf_kind(detectors), GW_CONF_LIST);
    assert_int_equal(gw_conf_count(detectors), 2);
    assert_int_equal(gw_conf_text(gw_conf_item(detectors, 1), &kind), GW_OK);
    assert_string_equal(kind, "L1");
    assert_null(gw_conf_item(detectors, 2));
    assert_null(gw_conf_item(detectors, -1));
    assert_int_equal(gw_conf_done(sky, "source sky"), GW_OK);

    gw_conf *white = gw_conf_find(gw_conf_find(root, "stages"), "white");
    uint64_t size = 0;
    assert_int_equal(gw_conf_get_bytes(white, "size", &size), GW_OK);
    assert_int_equal(size, 4 << 20);
    assert_int_equal(gw_conf_done(root, "graph"), GW_OK);
}

static void bom_quotes_and_utf8_are_read(void **state)
{
    (void)state;
    const char *text = NULL;
    gw_conf *root = parse("\xef\xbb\xbf"
                          "publish: \"tcp://127.0.0.1:5556\"\nname: gr\xc3\xbcn # comment\nnone: ''\n");
    assert_int_equal(gw_conf_get_text(root, "publish", &text), GW_OK);
    assert_string_equal(text, "tcp://127.0.0.1:5556");
    assert_int_equal(gw_conf_get_text(root, "name", &text), GW_OK);
    assert_string_equal(text, "gr\xc3\xbcn");
    assert_int_equal(gw_conf_get_text(root, "none", &text), GW_OK);
    assert_string_equal(text, "");
}

static void unknown_keys_are_refused_with_a_guess(void **state)
{
    (void)state;
    gw_conf *root = parse("kind: whiten\nfduraton: 1s\n");
    gw_rate span;
    gw_conf_find(root, "kind");
    gw_conf_find(root, "from");
    gw_conf_get_span(root, "fduration", &span);
    assert_int_equal(gw_conf_done(root, "whiten"), GW_ECONFIG);
    assert_string_equal(gw_err_detail(),
                        "x.yaml:2:1: whiten: unknown key 'fduraton' (did you mean 'fduration'?)");

    root = parse("knid: whiten\n"); /* two swapped letters are one slip */
    gw_conf_find(root, "snip");
    gw_conf_find(root, "kind");
    assert_int_equal(gw_conf_done(root, "whiten"), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "x.yaml:1:1: whiten: unknown key 'knid' (did you mean 'kind'?)");

    root = parse("{kind: whiten, flavour: 3}");
    gw_conf_find(root, "kind");
    gw_conf_find(root, "from");
    assert_int_equal(gw_conf_done(root, "stage white"), GW_ECONFIG);
    assert_string_equal(gw_err_detail(),
                        "x.yaml:1:16: stage white: unknown key 'flavour' (known: kind, from)");

    root = parse("[1]");
    assert_int_equal(gw_conf_done(root, "graph"), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "x.yaml:1:1: graph: want a map of keys");
}

static void a_missing_key_is_named(void **state)
{
    (void)state;
    gw_conf *value, *root = parse("stages:\n  down: {kind: resample}\n  flat: 3\n"), *stages;
    assert_int_equal(gw_conf_need(root, "sources", &value), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "x.yaml:1:1: top level: key 'sources' is missing");
    assert_int_equal(gw_conf_need(root, "stages", &stages), GW_OK);
    assert_int_equal(gw_conf_need(gw_conf_find(stages, "down"), "rate", &value), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "x.yaml:2:9: down: key 'rate' is missing");
    assert_null(value);
    assert_int_equal(gw_conf_need(gw_conf_find(stages, "flat"), "rate", &value), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "x.yaml:3:9: flat: want a map with the key 'rate'");
}

/* Reads key "v" of `text` with the getter of the given name and expects this complaint. */
static void assert_bad_value(const char *getter, const char *text, const char *detail)
{
    gw_conf *root = parse(text);
    static const char *const words[] = {"wait", "drop", NULL};
    const char *t = "kept";
    bool b = true;
    int64_t i = 7;
    int choice = 7;
    double d = 7;
    gw_rate r = {7, 1};
    uint64_t u = 7;
    int err = !strcmp(getter, "text")        ? gw_conf_get_text(root, "v", &t)
              : !strcmp(getter, "bool")      ? gw_conf_get_bool(root, "v", &b)
              : !strcmp(getter, "int")       ? gw_conf_get_int(root, "v", 0, 100, &i)
              : !strcmp(getter, "double")    ? gw_conf_get_double(root, "v", 0.5, 100, &d)
              : !strcmp(getter, "rate")      ? gw_conf_get_rate(root, "v", &r)
              : !strcmp(getter, "frequency") ? gw_conf_get_frequency(root, "v", &d)
              : !strcmp(getter, "span")      ? gw_conf_get_span(root, "v", &r)
              : !strcmp(getter, "span_ns")   ? gw_conf_get_span_ns(root, "v", &i)
              : !strcmp(getter, "gps")       ? gw_conf_get_gps_ns(root, "v", &i)
              : !strcmp(getter, "bytes")     ? gw_conf_get_bytes(root, "v", &u)
                                             : gw_conf_get_choice(root, "v", words, &choice);
    assert_int_equal(err, GW_ECONFIG);
    assert_string_equal(gw_err_detail(), detail);
    assert_true(b && i == 7 && choice == 7 && d > 6.9 && d < 7.1 && r.num == 7 && u == 7);
    assert_string_equal(t, "kept");
}

static void bad_values_name_place_and_remedy(void **state)
{
    (void)state;
    assert_bad_value("rate", "\n  v: 2048\n", "x.yaml:2:6: v: '2048' needs a unit (Hz or kHz)");
    assert_bad_value("rate", "v: 2048s", "x.yaml:1:4: v: '2048s': 's' is not a unit here (Hz or kHz)");
    assert_bad_value("rate", "v: 0Hz", "x.yaml:1:4: v: '0Hz' must be more than zero");
    assert_bad_value("rate", "v: fast",
                     "x.yaml:1:4: v: 'fast' is not a rate (write for example 16384Hz, 16kHz or 1/60Hz)");
    assert_bad_value("rate", "v: 1/0Hz",
                     "x.yaml:1:4: v: '1/0Hz' is not a rate (write for example 16384Hz, 16kHz or 1/60Hz)");
    assert_bad_value("rate", "v: 4294967296Hz",
                     "x.yaml:1:4: v: '4294967296Hz' is no fraction of two 32-bit numbers");
    assert_bad_value("span", "v: 8", "x.yaml:1:4: v: '8' needs a unit (ns, us, ms, s, min, h or d)");
    assert_bad_value("span_ns", "v: -1s",
                     "x.yaml:1:4: v: '-1s' is not a time span (write for example 62.5ms, 1/16s or 5min)");
    assert_bad_value("span_ns", "v: 110000d", "x.yaml:1:4: v: '110000d' is longer than 292 years");
    assert_bad_value("frequency", "v: 20", "x.yaml:1:4: v: '20' needs a unit (Hz or kHz)");
    assert_bad_value("frequency", "v: -20Hz", "x.yaml:1:4: v: '-20Hz' is out of range for a frequency");
    assert_bad_value("frequency", "v: nanHz", "x.yaml:1:4: v: 'nan' is not a number");
    assert_bad_value("frequency", "v: 1e308kHz", "x.yaml:1:4: v: '1e308kHz' is out of range for a frequency");
    assert_bad_value("gps", "v: 1126259462.0000000001",
                     "x.yaml:1:4: v: '1126259462.0000000001' is finer than a nanosecond");
    assert_bad_value(
        "gps", "v: yesterday",
        "x.yaml:1:4: v: 'yesterday' is not a GPS time in seconds (write for example 1126259462.4)");
    assert_bad_value("gps", "v: 99999999999",
                     "x.yaml:1:4: v: '99999999999' is out of range for a GPS time in seconds");
    assert_bad_value("bytes", "v: 4MB",
                     "x.yaml:1:4: v: '4MB': 'MB' is not a unit here (B, KiB, MiB, GiB or TiB)");
    assert_bad_value("bytes", "v: 0.3B", "x.yaml:1:4: v: '0.3B' is not a whole number of bytes");
    assert_bad_value("bytes", "v: 99999999TiB", "x.yaml:1:4: v: '99999999TiB' does not fit in 64 bits");
    assert_bad_value("int", "v: 12x", "x.yaml:1:4: v: '12x' is not a whole number");
    assert_bad_value("int", "v: 101", "x.yaml:1:4: v: 101 is out of range (0 to 100)");
    assert_bad_value("int", "v: 99999999999999999999",
                     "x.yaml:1:4: v: '99999999999999999999' does not fit in 64 bits");
    assert_bad_value("double", "v: 0x10", "x.yaml:1:4: v: '0x10' is not a number");
    assert_bad_value("double", "v: .nan", "x.yaml:1:4: v: '.nan' is not a number");
    assert_bad_value("double", "v: 1e999", "x.yaml:1:4: v: '1e999' is larger than any number here");
    assert_bad_value("double", "v: 0.25", "x.yaml:1:4: v: 0.25 is out of range (0.5 to 100)");
    assert_bad_value("bool", "v: yes", "x.yaml:1:4: v: 'yes' is not one of: false, true");
    assert_bad_value("choice", "v: dorp", "x.yaml:1:4: v: 'dorp' is not one of: wait, drop");
    assert_bad_value("text", "v:", "x.yaml:1:3: v: has no value");
    assert_bad_value("text", "v: ~", "x.yaml:1:4: v: has no value");
    assert_bad_value("text", "v: [a]", "x.yaml:1:4: v: want one value, not a list");
    assert_bad_value("int", "v: {a: 1}", "x.yaml:1:4: v: want one value, not a map");
}

static void what_yaml_could_do_is_refused(void **state)
{
    (void)state;
    assert_refused("", "x.yaml: is empty");
    assert_refused("# only a comment\n", "x.yaml: is empty");
    assert_refused("a: 1\nb: 2\na: 3\n", "x.yaml:3:1: key 'a' appears twice, first in line 1");
    assert_refused("s: {p: 1, p: 2}", "x.yaml:1:11: key 'p' appears twice, first in line 1");
    assert_refused("a: &x 1\n", "x.yaml:1:4: an anchor (&name) is not read here; remove it");
    assert_refused("a: &x {b: 1}\n", "x.yaml:1:4: an anchor (&name) is not read here; remove it");
    assert_refused("a: *x\n", "x.yaml:1:4: an alias (*name) is not read here; write the value out");
    assert_refused("a: !!int 1\n", "x.yaml:1:4: a tag (!name) is not read here; remove it");
    assert_refused("a: !mine [1]\n", "x.yaml:1:4: a tag (!name) is not read here; remove it");
    assert_refused("a: 1\n---\nb: 2\n", "x.yaml:2:1: a second document (---); one file is one document");
    assert_refused("? [a]\n: 1\n", "x.yaml:1:3: a key must be a word");
    assert_refused("'': 1\n", "x.yaml:1:1: a key must be a word");
    assert_refused("a: |\n  two\n  lines\n",
                   "x.yaml:1:4: a value with a line break or control character; write it in one line");
    assert_refused("a: \"\\0\"\n",
                   "x.yaml:1:4: a value with a line break or control character; write it in one line");
    assert_refused("a: [1, 2\nb: 3\n",
                   "x.yaml:2:2: not YAML: while parsing a flow sequence, did not find expected ',' or ']'");
    assert_refused("a:\n\tb: 1\n",
                   "x.yaml:2:1: not YAML: while scanning for the next token, found character that "
                   "cannot start any token");
    assert_refused("a: 1\nb: \xff\n", "x.yaml:2:4: invalid leading UTF-8 octet (write the file in UTF-8)");
}

static void depth_and_size_have_limits(void **state)
{
    (void)state;
    char deep[80];
    for (int n = 32; n <= 33; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        deep[2 * n] = '\0';
        if (n == 32)
            parse(deep);
        else
            assert_refused(deep, "x.yaml:1:33: nested deeper than 32 levels");
    }
    size_t big = (16 << 20) + 1;
    char *text = malloc(big);
    assert_non_null(text);
    memset(text, ' ', big);
    gw_conf_free(&file);
    assert_int_equal(gw_conf_parse(&file, "x.yaml", text, big), GW_ECONFIG);
    assert_non_null(strstr(gw_err_detail(), "larger than 16 MiB"));
    free(text);
}

/* A hostile map: the search for duplicates must not be quadratic. */
static void many_keys_take_no_time(void **state)
{
    (void)state;
    size_t used = 0, room = 4 << 20;
    char *text = malloc(room);
    assert_non_null(text);
    for (int i = 0; i < 100000; i++)
        used += (size_t)snprintf(text + used, room - used, "k%d: 1\n", i);
    snprintf(text + used, room - used, "k77: 1\n");
    int64_t start = gw_monotonic_ns();
    assert_refused(text, "x.yaml:100001:1: key 'k77' appears twice, first in line 78");
    assert_true(gw_monotonic_ns() - start < 10 * GW_SECOND_NS);
    free(text);
}

static void values_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t num, den;
    } rate[] = {{"16384Hz", 16384, 1}, {"1/60Hz", 1, 60},
                {"16kHz", 16000, 1},   {"0.1Hz", 1, 10},
                {"4.096kHz", 4096, 1}, {"1000000/1001Hz", 1000000, 1001},
                {"2/4Hz", 1, 2},       {"4294967295Hz", UINT32_MAX, 1}},
      span[] = {{"62.5ms", 1, 16}, {"1/16s", 1, 16}, {"8s", 8, 1},           {"5min", 300, 1},
                {"2h", 7200, 1},   {"1d", 86400, 1}, {"1ns", 1, 1000000000}, {"0.25us", 1, 4000000}};
    gw_rate r;
    for (size_t i = 0; i < COUNT(rate); i++) {
        assert_int_equal(gw_parse_rate(rate[i].text, &r), GW_OK);
        assert_true(r.num == rate[i].num && r.den == rate[i].den);
    }
    for (size_t i = 0; i < COUNT(span); i++) {
        assert_int_equal(gw_parse_span(span[i].text, &r), GW_OK);
        assert_true(r.num == span[i].num && r.den == span[i].den);
    }
    static const struct {
        const char *text;
        int64_t ns;
    } ns[] = {{"0s", 0},
              {"1/3s", 333333333},
              {"2/3s", 666666667},
              {"0.5ns", 1},
              {"0.49ns", 0},
              {"106751d", INT64_C(106751) * 86400 * GW_SECOND_NS},
              {"0.00000000000000001/999999999ns", 0}};
    for (size_t i = 0; i < COUNT(ns); i++) {
        char text[64];
        int64_t v = -1;
        snprintf(text, sizeof text, "v: %s", ns[i].text);
        assert_int_equal(gw_conf_get_span_ns(parse(text), "v", &v), GW_OK);
        assert_int_equal(v, ns[i].ns);
    }
    int64_t gps = 0, number = 0;
    double x = 0;
    assert_int_equal(gw_parse_gps_ns("1126259462.4395", &gps), GW_OK);
    assert_int_equal(gps, INT64_C(1126259462439500000));
    assert_int_equal(gw_parse_gps_ns("1126259462.123456789000", &gps), GW_OK);
    assert_int_equal(gps, INT64_C(1126259462123456789));
    assert_int_equal(gw_parse_gps_ns("0", &gps), GW_OK);
    assert_int_equal(gps, 0);
    assert_int_equal(gw_parse_int("-9223372036854775808", &number), GW_OK);
    assert_int_equal(number, INT64_MIN);
    assert_int_equal(gw_parse_double("-1.5e3", &x), GW_OK);
    assert_true(x < -1499.9 && x > -1500.1);
    assert_int_equal(gw_parse_frequency("1.5kHz", &x), GW_OK);
    assert_true(x > 1499.9 && x < 1500.1);
}

static void the_whole_text_must_match(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",  " ",       "1 Hz", " 1Hz",  "1Hz ", "+1Hz", "1e3Hz", "1..5Hz", "1/Hz",
        ".", "1/2/3Hz", "Hz",   "0x1Hz", "1hz",  "1s",   "1",     "1.Hz\n", "1000000000000000000000Hz"};
    static const char *const bad_double[] = {"",  " 1",  "1 ",  "1e",  "e1",    ".",
                                             "-", "inf", "nan", "1,5", "0x1p3", "1f"};
    static const char *const bad_int[] = {"", "-", "1.0", "1e3", " 1", "1 ", "0x1", "--1"};
    static const char *const bad_gps[] = {"",   "-1", "1.",           ".5",        "1e9",
                                          "1 ", "1s", "9223372036.9", "9223372037"};
    gw_rate r;
    double x;
    int64_t n;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(gw_parse_rate(bad[i], &r), GW_ECONFIG);
        assert_int_equal(gw_parse_frequency(bad[i], &x), i == 5 || i == 6 || i == 17 ? GW_OK : GW_ECONFIG);
    }
    for (size_t i = 0; i < COUNT(bad_double); i++)
        assert_int_equal(gw_parse_double(bad_double[i], &x), GW_ECONFIG);
    for (size_t i = 0; i < COUNT(bad_int); i++)
        assert_int_equal(gw_parse_int(bad_int[i], &n), GW_ECONFIG);
    for (size_t i = 0; i < COUNT(bad_gps); i++)
        assert_int_equal(gw_parse_gps_ns(bad_gps[i], &n), GW_ECONFIG);
}

static void files_are_loaded_or_named(void **state)
{
    (void)state;
    char path[] = "/tmp/gw-config-XXXXXX", want[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, graph, sizeof graph - 1), sizeof graph - 1);
    assert_int_equal(gw_conf_load(&file, path), GW_OK);
    assert_int_equal(gw_conf_count(gw_conf_root(file)), 2);
    snprintf(want, sizeof want, "%s:1:1", path);
    assert_string_equal(gw_conf_where(gw_conf_root(file)), want);
    gw_conf_free(&file);

    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(gw_conf_load(&file, path), GW_ECONFIG);
    snprintf(want, sizeof want, "%s: is empty", path);
    assert_string_equal(gw_err_detail(), want);
    close(fd);
    unlink(path);
    assert_int_equal(gw_conf_load(&file, path), GW_EMISSING);
    snprintf(want, sizeof want, "%s: No such file or directory", path);
    assert_string_equal(gw_err_detail(), want);
    assert_int_equal(gw_conf_load(&file, "/tmp"), GW_ECONFIG);
    assert_string_equal(gw_err_detail(), "/tmp: is a folder, want a YAML file");
    assert_null(file);
}

static void a_long_path_keeps_its_place(void **state)
{
    (void)state;
    char path[2000];
    memset(path, 'd', sizeof path);
    strcpy(path + sizeof path - 8, "/x.yaml");
    assert_int_equal(gw_conf_parse(&file, path, "a: *b", 5), GW_ECONFIG);
    assert_non_null(strstr(gw_err_detail(), "dd/x.yaml:1:4: an alias"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_graph_is_read, forget),
        cmocka_unit_test_teardown(bom_quotes_and_utf8_are_read, forget),
        cmocka_unit_test_teardown(unknown_keys_are_refused_with_a_guess, forget),
        cmocka_unit_test_teardown(a_missing_key_is_named, forget),
        cmocka_unit_test_teardown(bad_values_name_place_and_remedy, forget),
        cmocka_unit_test_teardown(what_yaml_could_do_is_refused, forget),
        cmocka_unit_test_teardown(depth_and_size_have_limits, forget),
        cmocka_unit_test_teardown(many_keys_take_no_time, forget),
        cmocka_unit_test_teardown(values_are_exact, forget),
        cmocka_unit_test(the_whole_text_must_match),
        cmocka_unit_test_teardown(files_are_loaded_or_named, forget),
        cmocka_unit_test_teardown(a_long_path_keeps_its_place, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
