/* SPDX-License-Identifier: GPL-3.0-or-later
 * Model cards: what is read, the noise rate from the histogram, and that every bad card is refused with a
 * line that says where. SHA-256 against the published examples of FIPS 180-2. */
#include "pipeline/stages/card.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/gw-card-XXXXXX", file[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/x.card.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(folder);
}

static void write_file(const char *text)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

#define HASH       "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
#define MODEL      "model: {name: bbh-small, sha256: " HASH ", parameters: 112000}\n"
#define THRESHOLDS "thresholds: {candidate: 2.5, alert: 4}\n"
#define BACKGROUND "background: {live_time: 2d, bin_width: 0.5, first_bin: -1.0, counts: [5, 0, 3, 2, 1]}\n"

static void test_card(void **state)
{
    (void)state;
    write_file("# a card\n" MODEL THRESHOLDS BACKGROUND
               "recipe: {minutes: 12, steps: [a, b]}\nefficiency:\n  - {snr: 8, per_day: 0.2}\n");
    gw_card *card;
    assert_int_equal(gw_card_load(&card, file), GW_OK);
    assert_string_equal(card->name, "bbh-small");
    assert_string_equal(card->model_sha256,
                        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    assert_int_equal(strlen(card->sha256), 64);
    assert_true(card->candidate == 2.5 && card->alert == 4);
    assert_true(card->live_time_s == 172800);
    assert_int_equal(card->n_bins, 5);
    /* bins [-1, -.5) 5, [-.5, 0) 0, [0, .5) 3, [.5, 1) 2, [1, 1.5) 1: (n + 1) / T */
    const double at[][2] = {{-50, 11}, {-1, 11}, {-0.6, 11}, {-0.5, 6}, {0, 6},     {0.49, 6},
                            {0.5, 3},  {1, 1},   {1.49, 1},  {1.5, 0},  {1e300, 0}, {NAN, 11}};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
        assert_true(gw_card_noise_rate_hz(card, at[i][0]) == (at[i][1] + 1) / 172800);
    gw_card_free(&card);
    assert_null(card);
    gw_card_free(&card);
}

/* Edges that a binary fraction cannot hold still belong to the bin that they open. */
static void test_edges(void **state)
{
    (void)state;
    char text[8192] =
        MODEL THRESHOLDS "background: {live_time: 259200s, bin_width: 0.05, first_bin: -10.0, counts: [";
    for (int i = 0; i < 600; i++)
        strcat(text, i ? ",1" : "1");
    strcat(text, "]}\n");
    write_file(text);
    gw_card *card;
    assert_int_equal(gw_card_load(&card, file), GW_OK);
    for (int i = 0; i < 600; i++) {
        char edge[32];
        snprintf(edge, sizeof edge, "%.2f", -10 + i * 0.05);
        assert_true(gw_card_noise_rate_hz(card, atof(edge)) == (600 - i + 1) / 259200.0);
    }
    gw_card_free(&card);
}

static void refused(const char *text, const char *word)
{
    gw_card *card;
    write_file(text);
    assert_int_equal(gw_card_load(&card, file), GW_ECONFIG);
    assert_null(card);
    if (!strstr(gw_err_detail(), word) || !strstr(gw_err_detail(), "x.card.yaml"))
        fail_msg("'%s' says nothing of '%s'", gw_err_detail(), word);
}

static void test_bad_cards(void **state)
{
    (void)state;
    refused("", "empty");
    refused("just text\n", "model");
    refused(THRESHOLDS BACKGROUND, "model");
    refused("model: 3\n" THRESHOLDS BACKGROUND, "model");
    refused("model: {name: x}\n" THRESHOLDS BACKGROUND, "sha256");
    refused("model: {name: x, sha256: 1234}\n" THRESHOLDS BACKGROUND, "64 hex digits");
    refused("model: {name: x, sha256: [1]}\n" THRESHOLDS BACKGROUND, "sha256");
    refused(MODEL BACKGROUND, "thresholds");
    refused(MODEL "thresholds: {candidate: 3}\n" BACKGROUND, "alert");
    refused(MODEL "thresholds: {candidate: 3, alert: 2}\n" BACKGROUND, ":2:");
    refused(MODEL "thresholds: {candidate: 3, alert: loud}\n" BACKGROUND, "loud");
    refused(MODEL THRESHOLDS, "background");
    refused(MODEL THRESHOLDS "background: {live_time: 0s, bin_width: 1, first_bin: 0, counts: [1]}\n",
            "live_time");
    refused(MODEL THRESHOLDS "background: {live_time: 259200, bin_width: 1, first_bin: 0, counts: [1]}\n",
            "unit");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 0, first_bin: 0, counts: [1]}\n",
            "bin_width");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 1, counts: [1]}\n", "first_bin");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 1, first_bin: 0, counts: []}\n",
            "counts");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 1, first_bin: 0, counts: {a: 1}}\n",
            "counts");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 1, first_bin: 0, counts: [1, -1]}\n",
            "-1");
    refused(MODEL THRESHOLDS "background: {live_time: 1d, bin_width: 1, first_bin: 0, counts: [1, 1.5]}\n",
            "whole number");
}

static void test_files(void **state)
{
    (void)state;
    gw_card *card;
    assert_int_equal(gw_card_load(&card, "/nonexistent/x.card.yaml"), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), "/nonexistent/x.card.yaml"));
    assert_true(gw_err_is_input(gw_card_load(&card, folder)));
    char hex[GW_SHA256_TEXT];
    write_file("");
    assert_int_equal(gw_sha256_file(file, hex), GW_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    write_file("abc");
    assert_int_equal(gw_sha256_file(file, hex), GW_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    if (geteuid() != 0) { /* nothing is closed to root */
        assert_int_equal(chmod(file, 0), 0);
        assert_int_equal(gw_sha256_file(file, hex), GW_EACCESS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_card),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_bad_cards),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
