/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `sim`'s configuration: what cannot be is refused in words that name the file, the line and the remedy.
 */
#include "tests/unit/sim_rig.h"

static void bad_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"seed: -1", "seed: -1 is out of range"},
        {"rate: 16384", "needs a unit"},
        {"rate: 2MHz", "is not a unit"},
        {"rate: 1001kHz", "out of range"},
        {"block: 1/3s", "whole number"},
        {"block: 100000s", "too many"},
        {"duration: 10", "needs a unit"},
        {"pace: -1", "out of range"},
        {"detectors: H1", "a list"},
        {"detectors: [H1, X1]", "'X1' is not one of"},
        {"detectors: [H1, H1]", "twice"},
        {"detectors: [H1, L1, V1, H1]", "at most 3"},
        {"detectors: []", "nothing to simulate"},
        {"detectors: []\nauxiliary: {channels: 1, rate: 16Hz}\npopulation: {}", "need detectors"},
        {"asd: /no/such/file", "/no/such/file"},
        {"asd: design-plain\nexcess: true", "excess"},
        {"lines: yes", "lines"},
        {"sensitivity: [1]", "one relative ASD"},
        {"sensitivity: [1, 0]", "out of range"},
        {"glitches: {rate: 1kHz}", "at most 10Hz"},
        {"glitches: {snr: [4]}", "a list of two"},
        {"glitches: {snr: [40, 4]}", "out of range"},
        {"glitches: {rat: 1Hz}", "rat"},
        {"glitches: 3", "glitches"},
        {"signals: {}", "a list"},
        {"signals: [3]", "a map"},
        {"signals: [{mass1: 30, mass2: 30, network_snr: 10}]", "gps"},
        {"signals: [{gps: 1400000001, mass1: 30, network_snr: 10}]", "mass2"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 30}]", "either network_snr or distance"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 30, network_snr: 9, distance: 9}]", "either"},
        {"signals: [{gps: 1400000001, mass1: 300, mass2: 200, network_snr: 9}]", "total mass"},
        {"signals: [{gps: 1300000001, mass1: 30, mass2: 20, network_snr: 9}]", "outside"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 20, network_snr: 9, iota: 4}]", "iota"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 20, network_snr: 9, mass3: 4}]", "mass3"},
        {"population: []", "a map"},
        {"population: {spacing: 1s, jitter: 1s}", "half the spacing"},
        {"population: {mass: [0.5, 3]}", "out of range"},
        {"population: {snr_law: list}", "network_snr"},
        {"population: {snr_law: cubic}", "cubic"},
        {"population: {min_ratio: 2}", "out of range"},
        {"auxiliary: {channels: 3}", "rate"},
        {"auxiliary: {channels: 3, rate: 100Hz}", "whole number"},
        {"witnesses: []", "a map"},
        {"witnesses: {channels: [{name: A, line: 60Hz}]}", "rate"},
        {"witnesses: {rate: 500Hz, channels: [{name: A, line: 60Hz}]}", "must be a multiple"},
        {"rate: 2048Hz\nblock: 1/64s\nwitnesses: {rate: 32Hz, channels: [{name: A, line: 3Hz}]}",
         "whole number"},
        {"witnesses: {rate: 512Hz, channels: []}", "a list"},
        {"witnesses: {rate: 512Hz, channels: [{line: 60Hz}]}", "name"},
        {"witnesses: {rate: 512Hz, channels: [{name: A}]}", "what do these channels see"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 60Hz, band: [1Hz, 2Hz]}]}", "one of them"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 250Hz}]}", "at most 204.8 Hz"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, band: [9Hz, 3Hz]}]}", "rising"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, band: [9Hz, Hz]}]}", "not a frequency"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}, {name: A, line: 5Hz}]}", "twice"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz, count: 512}, {name: B, line: 5Hz}]}",
         "more than 512"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: B}]}",
         "'B' is neither"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A_1}]}", "A_0"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 60Hz}], couplings: [{of: A, power: 4}]}",
         "reaches up to 240 Hz"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A, resonances: 3}]}",
         "a list of 1"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A, resonances: "
         "[{frequency: 1Hz, q: 20}]}]}",
         "rings for too long"},
        {"detectors: []\nauxiliary: {channels: 1, rate: 16Hz}\n"
         "witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}]}",
         "need detectors"},
        {"nonsense: 1", "nonsense"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        run r;
        gw_err_clear();
        const int err = configure(&r, bad[i].yaml);
        if (!gw_err_is_input(err))
            fail_msg("%s: accepted (%d)", bad[i].yaml, err);
        if (!strstr(gw_err_detail(), bad[i].says) || !strstr(gw_err_detail(), "test.yaml:"))
            fail_msg("%s: '%s' does not say '%s'", bad[i].yaml, gw_err_detail(), bad[i].says);
        finish(&r);
    }
}

/* What cannot be seen from the YAML alone is an error in words too. */
static void impossible_signal(void **state)
{
    (void)state;
    run r;
    double data[4096];
    gw_piece p = {.data = data, .capacity_samples = 4096};
    assert_int_equal(configure(&r, "rate: 16Hz\nblock: 1s\n"
                                   "signals: [{gps: 1400000001, mass1: 30, mass2: 30, network_snr: 9}]"),
                     GW_OK);
    assert_int_equal(gw_kind_sim.open(r.state, &r.env), GW_OK);
    assert_int_equal(gw_kind_sim.next(r.state, 0, &p), GW_ERANGE);
    assert_non_null(strstr(gw_err_detail(), "no signal"));
    finish(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(impossible_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
