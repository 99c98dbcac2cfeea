/* SPDX-License-Identifier: GPL-3.0-or-later
 * Control messages, descriptors and the text of a spec. */
#include "pipeline/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_control(void **state)
{
    (void)state;
    gw_control c = {.type = GW_CREDIT, .session = 7, .count = 3, .limit = 11}, out;
    gw_control_seal(&c);
    assert_true(gw_is_control(&c, sizeof c));
    assert_int_equal(gw_control_read(&c, sizeof c, &out), GW_OK);
    assert_memory_equal(&c, &out, sizeof c);
    assert_int_equal(gw_control_read(&c, sizeof c - 1, &out), GW_EFORMAT);
    for (size_t bit = 0; bit < 8 * sizeof c; bit++) { /* no single changed bit passes */
        gw_control bad = c;
        ((unsigned char *)&bad)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(gw_control_read(&bad, sizeof bad, &out), GW_EFORMAT);
    }
    c.type = 99;
    gw_control_seal(&c);
    assert_int_equal(gw_control_read(&c, sizeof c, &out), GW_EFORMAT);
    assert_false(gw_is_control("GWSB", 4));
    assert_false(gw_is_control("GW", 2));
}

static void test_descriptor(void **state)
{
    (void)state;
    const gw_header h = {.payload_bytes = 1000, .presence_bytes = 3};
    gw_descriptor d = {.offset = 4096, .capacity = 1024}, out;
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 4096 + 1024, &out), GW_OK);
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 4096 + 1023, &out), GW_EFORMAT);
    assert_int_equal(gw_descriptor_read(&d, sizeof d - 1, &h, 1 << 20, &out), GW_EFORMAT);
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 0, &out), GW_EFORMAT);
    d.capacity = 1002;
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 1 << 20, &out), GW_EFORMAT);
    d = (gw_descriptor){.offset = 4097, .capacity = 2000};
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 1 << 20, &out), GW_EFORMAT);
    d = (gw_descriptor){.offset = UINT64_MAX - 63, .capacity = UINT64_MAX}; /* sums that wrap round */
    assert_int_equal(gw_descriptor_read(&d, sizeof d, &h, 1 << 20, &out), GW_EFORMAT);
}

static void test_spec_there_and_back(void **state)
{
    (void)state;
    static const char *const names[] = {"H1:GDS-CALIB_STRAIN", "odd \"name\" \\ with everything"};
    gw_spec s = {.name = "sky.H1",
                 .rate = {16384, 3},
                 .phase_ns = -123456789012345,
                 .dtype = GW_F64,
                 .block_samples = 1024,
                 .detector = "H1",
                 .unit = "strain",
                 .whitening = "v1: \"quoted\", psd",
                 .cleaning = "mains:net:0123456789abcdef:57-63"};
    assert_int_equal(gw_spec_set_channels(&s, 2, names), GW_OK);
    char *text;
    gw_spec back;
    assert_int_equal(gw_spec_write(&s, &text), GW_OK);
    assert_int_equal(gw_spec_read(text, strlen(text), &back), GW_OK);
    assert_true(gw_spec_hash(&s) == gw_spec_hash(&back));
    assert_string_equal(back.name, "sky.H1");
    assert_string_equal(back.cleaning, "mains:net:0123456789abcdef:57-63");
    snprintf(back.cleaning, sizeof back.cleaning, "another model"); /* replaced while the other end runs */
    assert_true(gw_spec_agrees(&s, &back) && gw_spec_agrees(&back, &s));
    for (size_t n = 0; n < strlen(text); n++) { /* no piece of it is taken for the whole */
        gw_spec piece;
        assert_int_equal(gw_spec_read(text, n, &piece), GW_EFORMAT);
    }
    back.rate.den = 4;
    assert_false(gw_spec_agrees(&s, &back));
    back.rate.den = 3;
    snprintf(back.channel[1], GW_NAME_BYTES, "another");
    assert_false(gw_spec_agrees(&s, &back));
    gw_spec_free(&s);
    assert_true(
        gw_spec_agrees(&(gw_spec){.phase_ns = -123456789012345}, &back)); /* what is not stated agrees */
    gw_spec_free(&back);
    free(text);
}

static void test_spec_of_a_stranger(void **state)
{
    (void)state;
    gw_spec s;
    const char *good =
        "{ \"dtype\" : \"int16\", \"channels\": 3,\"rate\":[ 512 ,1], \"new_thing\": {\"a\": [1]} }";
    assert_int_equal(gw_spec_read(good, strlen(good), &s), GW_OK);
    assert_int_equal(s.dtype, GW_I16);
    assert_int_equal(s.n_channels, 3);
    assert_int_equal(s.rate.num, 512);
    assert_null(s.channel);
    gw_spec_free(&s);
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"rate\":[0,1]}",
                                      "{\"rate\":[1]}",
                                      "{\"rate\":16384}",
                                      "{\"dtype\":\"float16\"}",
                                      "{\"channels\":0}",
                                      "{\"channels\":-1}",
                                      "{\"channels\":[]}",
                                      "{\"channels\":[\"\"]}",
                                      "{\"channels\":99999999999}",
                                      "{\"detector\":\"much too long\"}",
                                      "{\"phase_ns\":1.5}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(gw_spec_read(bad[i], strlen(bad[i]), &s), GW_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_spec_there_and_back),
        cmocka_unit_test(test_spec_of_a_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
