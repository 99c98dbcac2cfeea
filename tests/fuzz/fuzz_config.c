/* SPDX-License-Identifier: GPL-3.0-or-later
 * Any bytes as a configuration file: read, walked by every getter, never a crash; every refusal leaves one
 * line of text. Run by libFuzzer, or over the corpus by replay_main.c. */
#include "pipeline/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort(); /* what a fuzzer understands */
}

static void check_outcome(int err)
{
    const char *text = gw_err_detail();
    check(err <= 0);
    if (!err)
        return;
    check(err == GW_ECONFIG && *text);
    for (; *text; text++)
        check((unsigned char)*text >= 0x20);
}

static void parse_text(const char *text)
{
    gw_rate r;
    double x;
    int64_t n;
    int err = gw_parse_rate(text, &r);
    check_outcome(err);
    check(err || (r.num && r.den));
    err = gw_parse_span(text, &r);
    check_outcome(err);
    check(err || (r.num && r.den));
    err = gw_parse_gps_ns(text, &n);
    check_outcome(err);
    check(err || n >= 0);
    check_outcome(gw_parse_frequency(text, &x));
    check_outcome(gw_parse_double(text, &x));
    check_outcome(gw_parse_int(text, &n));
}

static void get_all(gw_conf *c, const char *key)
{
    static const char *const words[] = {"wait", "drop", NULL};
    const char *text = "";
    bool b = false;
    int64_t n = 0;
    double x = 0;
    int choice = 0;
    uint64_t bytes = 0;
    gw_rate r = {1, 1};
    gw_conf *node = NULL;
    check_outcome(gw_conf_need(c, key, &node));
    check_outcome(gw_conf_get_text(c, key, &text));
    check_outcome(gw_conf_get_bool(c, key, &b));
    check_outcome(gw_conf_get_int(c, key, -5, 5, &n));
    check(n >= -5 && n <= 5);
    check_outcome(gw_conf_get_double(c, key, -5, 5, &x));
    check(x >= -5 && x <= 5);
    check_outcome(gw_conf_get_rate(c, key, &r));
    check_outcome(gw_conf_get_frequency(c, key, &x));
    check(x >= -5 && x < 1e308 * 10);
    check_outcome(gw_conf_get_span(c, key, &r));
    check_outcome(gw_conf_get_span_ns(c, key, &n));
    check(n >= -5);
    check_outcome(gw_conf_get_gps_ns(c, key, &n));
    check_outcome(gw_conf_get_bytes(c, key, &bytes));
    check_outcome(gw_conf_get_choice(c, key, words, &choice));
}

static void walk(gw_conf *c)
{
    const char *text;
    double x;
    int err = gw_conf_text(c, &text);
    check_outcome(err);
    if (!err)
        parse_text(text);
    check_outcome(gw_conf_double(c, -1, 1, &x));
    get_all(c, "kind");
    check_outcome(gw_conf_done(c, "map")); /* before the walk makes all keys known */
    for (int i = 0; i < gw_conf_count(c) && i < 64; i++) {
        const char *key = gw_conf_key(c, i);
        if (key)
            get_all(c, key);
        walk(gw_conf_item(c, i));
    }
    if (gw_conf_kind(c) == GW_CONF_MAP && gw_conf_count(c) <= 64)
        check(gw_conf_done(c, "map") == GW_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gw_conf_file *f = NULL;
    int err = gw_conf_parse(&f, "fuzz.yaml", (const char *)data, size);
    check_outcome(err);
    check(!err == (f != NULL));
    if (f)
        walk(gw_conf_root(f));
    gw_conf_free(&f);
    return 0;
}
