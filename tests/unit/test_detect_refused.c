/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage detect with streams, models, cards and keys that do not fit: every mismatch is refused in words. And
 * a network for several pairs takes the pair that it is given. */
#include "tests/unit/detect_rig.h"

/* A network for several pairs serves the pair that it is given. */
static void test_pairs(void **state)
{
    (void)state;
    int at = 0;
    while (strcmp(meta[at][0], "gwstream.detectors") != 0)
        at++;
    const char *usual = meta[at][1];
    meta[at][1] = "H1,V1;L1,V1";
    for (int pair = 0; pair < 3; pair++) {
        static const char *const names[3][3] = {
            {"H1", "V1", "H1,V1:LOGIT"}, {"L1", "V1", "L1,V1:LOGIT"}, {"H1", "L1", ""}};
        run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        streams[0] = stream(names[pair][1]); /* not the network's order */
        streams[1] = stream(names[pair][0]);
        streams[2] = (gw_spec){.n_channels = 0};
        gw_err_clear();
        if (pair < 2) {
            assert_int_equal(begin(r, ""), GW_OK);
            assert_string_equal(r->plan.out[0].channel[0], names[pair][2]);
        } else {
            assert_int_equal(begin(r, ""), GW_EMISMATCH);
            assert_non_null(strstr(gw_err_detail(), "wants H1,V1 or L1,V1, the streams are L1 (white.L1)"));
        }
        end(r);
        free(r);
    }
    meta[at][1] = usual;
    usual_streams();
}

static void refused(const char *yaml, int code, const char *one, const char *other)
{
    run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    gw_err_clear();
    int err = begin(r, yaml);
    if (err != code || !strstr(gw_err_detail(), one) || !strstr(gw_err_detail(), other))
        fail_msg("%s '%s': wanted %s, '%s' and '%s'", gw_err_name(err), gw_err_detail(), gw_err_name(code),
                 one, other);
    end(r);
    free(r);
    usual_streams();
}

static void refused_meta(const char *key, const char *value, int code, const char *one, const char *other)
{
    for (int i = 0; i < N_META; i++)
        if (strcmp(meta[i][0] + strlen("gwstream."), key) == 0) {
            const char *good = meta[i][1];
            meta[i][1] = value;
            refused("", code, one, other);
            meta[i][1] = good;
            return;
        }
    fail_msg("no metadata %s", key);
}

static void test_wrong_streams(void **state)
{
    (void)state;
    usual_streams();
    streams[0] = stream("V1");
    refused("", GW_EMISMATCH, "L1 is missing", "V1 (white.V1)");
    streams[2] = stream("V1");
    refused("", GW_EMISMATCH, "too many", "V1 (white.V1)");
    streams[0] = stream("H1");
    refused("", GW_EMISMATCH, "two streams of detector H1", "white.H1");
    streams[0].detector[0] = '\0';
    refused("", GW_EMISMATCH, "L1 is missing", "no detector (white.L1)");
    streams[1].rate.num = 4096;
    refused("", GW_EMISMATCH, "4096 Hz", "2048 Hz");
    streams[1].rate.den = 2;
    refused("", GW_EMISMATCH, "1024 Hz", "2048 Hz");
    snprintf(streams[1].whitening, sizeof streams[1].whitening, "v2 other");
    refused("", GW_EMISMATCH, "'v2 other'", "'v1 test'");
    streams[1].whitening[0] = '\0';
    refused("", GW_EMISMATCH, "not at all", "'v1 test'");
    streams[0].n_channels = 2;
    refused("", GW_EMISMATCH, "2 channels", "white.L1");
    streams[0].dtype = GW_F64;
    refused("", GW_EMISMATCH, "8 bytes", "float32");
    streams[0].phase_ns = 5;
    refused("", GW_EMISMATCH, "white.H1", "white.L1");
}

static void test_wrong_models(void **state)
{
    (void)state;
    usual_streams();
    refused_meta("format", NULL, GW_EFORMAT, "gwstream.format", "fake.onnx");
    refused_meta("format", "2", GW_ENOTSUP, "'2'", "format 1");
    refused_meta("name", "", GW_EFORMAT, "gwstream.name", "fake.onnx");
    refused_meta("name", "a-name-that-is-longer-than-any-name-can-be-in-an-event", GW_EFORMAT,
                 "gwstream.name", "47");
    refused_meta("detectors", "H1", GW_ENOTSUP, "1 detectors", "two");
    refused_meta("detectors", "H1,L1,V1", GW_ENOTSUP, "3 detectors", "two");
    refused_meta("detectors", "H1,H1", GW_EFORMAT, "twice", "fake.onnx");
    refused_meta("detectors", "H1,", GW_EFORMAT, "H1,L1", "fake.onnx");
    refused_meta("detectors", "H1,L1;", GW_EFORMAT, "H1,L1", "fake.onnx");
    refused_meta("detectors", "H1,L1;H1", GW_ENOTSUP, "1 detectors", "two");
    refused_meta("detectors", "A,B;A,C;A,D;A,E;A,F;A,G;A,H;A,I;A,J", GW_ENOTSUP, "more than 8 pairs",
                 "fake.onnx");
    refused_meta("detectors", "K1,V1", GW_EMISMATCH, "K1,V1", "H1 (white.H1)");
    refused_meta("sample_rate", "fast", GW_EFORMAT, "'fast'", "gwstream.sample_rate");
    refused_meta("sample_rate", "4096", GW_EMISMATCH, "2048 Hz", "4096 Hz");
    refused_meta("window_samples", "1000", GW_EFORMAT, "1000", "64");
    refused_meta("window_samples", "2048", GW_EFORMAT, "[1, 2, 2048]", "fake.onnx");
    refused_meta("hop_samples", "0", GW_EFORMAT, "'0'", "gwstream.hop_samples");
    refused_meta("smoothing_frames", "-1", GW_EFORMAT, "'-1'", "gwstream.smoothing_frames");
    refused_meta("whitening", "v9", GW_EMISMATCH, "'v1 test'", "'v9'");
    refused_meta("whitening", NULL, GW_EFORMAT, "gwstream.whitening", "fake.onnx");
    refused_meta("arrival_offset_s", "soon", GW_EFORMAT, "'soon'", "arrival_offset_s");
    refused_meta("arrival_sigma_scale", "-1", GW_EFORMAT, "'-1'", "arrival_sigma_scale");
    refused_meta("arrival_skew", "-1", GW_EFORMAT, "0 to 10", "arrival_skew");
    refused_meta("arrival_sigma_floor_s", "2", GW_EFORMAT, "0 to 1", "arrival_sigma_floor_s");
    /* A network that is not what its file says is found on opening. */
    run *r = new_run();
    meta[5][1] = "128";
    assert_int_equal(begin(r, ""), GW_OK);
    assert_int_equal(gw_kind_detect.open(r->self, &r->env), GW_EMISMATCH);
    assert_non_null(strstr(gw_err_detail(), "frames of 128"));
    end(r);
    meta[5][1] = "64";
    free_run(r);
}

static void test_wrong_cards_and_keys(void **state)
{
    (void)state;
    usual_streams();
    const char *other = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    write_card(other);
    refused("", GW_EMISMATCH, other, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    refused(", card: /nonexistent.yaml", GW_EMISSING, "/nonexistent.yaml", "model card");
    write_card("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    refused(", candidate: 6", GW_ECONFIG, "6", "5");
    refused(", candidate: high", GW_ECONFIG, "t.yaml:1:", "high");
    refused(", refractory: 1s", GW_ECONFIG, "t.yaml:1:", "3s");
    refused(", refractory: 8", GW_ECONFIG, "t.yaml:1:", "unit");
    refused(", retract: 9s", GW_ECONFIG, "t.yaml:1:", "8s");
    refused(", refractory: 5s, retract: 6s", GW_ECONFIG, "t.yaml:1:", "5s");
    refused(", hop: 10ms", GW_ECONFIG, "hop", "64/2048");
    refused(", hop: 0s", GW_ECONFIG, "hop", "zero");
    refused(", refactory: 8s", GW_ECONFIG, "refactory", "refractory");
    refused(", card: \"\"", GW_ECONFIG, "card", "t.yaml:1:");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_wrong_streams),
        cmocka_unit_test(test_wrong_models),
        cmocka_unit_test(test_wrong_cards_and_keys),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
