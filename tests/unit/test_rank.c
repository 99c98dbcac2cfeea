/* SPDX-License-Identifier: GPL-3.0-or-later
 * The ranking of witnesses: chance against closed forms, the greedy choice against least squares, and the
 * sink: integers, channels that are no numbers or absent, holes, and blocks of any length. */
#include "kernels/coherence.h"
#include "tests/unit/stage_rig.h"

#include <stdio.h>
#include <unistd.h>

/* ---- chance ---- */

static void test_log_tail(void **unused)
{
    (void)unused;
    for (double x = 0.01; x < 2000; x *= 1.7) {
        double sum = 0, term = 1; /* shape 5: exp(-x) (1 + x + ... + x^4 / 4!) */
        for (int k = 0; k < 5; k++, term *= x / k)
            sum += term;
        assert_true(fabs(gw_coherence_log_tail(1, x) + x) < 1e-6);
        assert_true(fabs(gw_coherence_log_tail(5, x) - (log(sum) - x)) < 1e-6);
        if (x < 500)
            assert_true(fabs(gw_coherence_log_tail(0.5, x) - log(erfc(sqrt(x)))) < 1e-6);
    }
    assert_true(gw_coherence_log_tail(3, 0) >= 0);
}

/* Of unrelated channels, about as many are as improbable as is said. */
static void test_chance(void **unused)
{
    (void)unused;
    enum { TRIES = 20000, BINS = 20 };
    int rare = 0;
    for (int i = 0; i < TRIES; i++) {
        double e[BINS];
        for (int b = 0; b < BINS; b++)
            e[b] = -log(uniform());
        rare += gw_coherence_log_chance(e, BINS, 3) < log(0.01);
    }
    assert_in_range(rare, TRIES / 250, TRIES / 80);
    double line[BINS] = {0}, all[BINS];
    line[7] = 40;
    for (int b = 0; b < BINS; b++)
        all[b] = 3;
    assert_true(gw_coherence_log_chance(line, BINS, 1) < -35); /* one bin is enough, */
    assert_true(gw_coherence_log_chance(all, BINS, 3) < -12);  /* and a little in all */
    assert_true(gw_coherence_log_chance(all, BINS, 1) > gw_coherence_log_chance(all, BINS, 3));
}

/* ---- the choice ---- */

enum { N = 200, M = 8, B = 6 };
static gw_complex x[B][M + 1][N];

static gw_complex random_complex(void)
{
    return (gw_complex){normal(), normal()};
}

static void fill(gw_gram *g, gw_complex *room)
{
    *g = (gw_gram){.bins = B, .channels = M, .step = 3, .averages = N, .g = room};
    for (int b = 0; b < B; b++)
        for (int i = 0; i <= M; i++)
            for (int j = 0; j <= M; j++) {
                gw_complex *z = &room[(b * (M + 1) + i) * (M + 1) + j];
                *z = (gw_complex){0, 0};
                for (int n = 0; n < N; n++) {
                    z->re += x[b][i][n].re * x[b][j][n].re + x[b][i][n].im * x[b][j][n].im;
                    z->im += x[b][i][n].im * x[b][j][n].re - x[b][i][n].re * x[b][j][n].im;
                }
            }
}

/* What least squares with these channels leaves of the target in a bin, relative: modified Gram-Schmidt. */
static double least_squares(int b, const gw_choice *c, int n)
{
    static gw_complex q[M + 1][N];
    double whole = 0, left = 0;
    for (int k = 0; k <= n; k++) {
        memcpy(q[k], x[b][k < n ? c[k].channel : M], sizeof q[k]);
        double power = 0;
        for (int i = 0; i < N && k == n; i++)
            whole += q[k][i].re * q[k][i].re + q[k][i].im * q[k][i].im;
        for (int j = 0; j < k; j++) {
            double re = 0, im = 0;
            for (int i = 0; i < N; i++) {
                re += q[k][i].re * q[j][i].re + q[k][i].im * q[j][i].im;
                im += q[k][i].im * q[j][i].re - q[k][i].re * q[j][i].im;
            }
            for (int i = 0; i < N; i++) {
                q[k][i].re -= re * q[j][i].re - im * q[j][i].im;
                q[k][i].im -= re * q[j][i].im + im * q[j][i].re;
            }
        }
        for (int i = 0; i < N; i++)
            power += q[k][i].re * q[k][i].re + q[k][i].im * q[k][i].im;
        left = power;
        for (int i = 0; i < N; i++) {
            q[k][i].re /= sqrt(power);
            q[k][i].im /= sqrt(power);
        }
    }
    return left / whole;
}

/* Channels 0, 1 and 2 see one thing (1 and 2 less well), 3 another that is hidden below it, the rest none. */
static void test_choose(void **unused)
{
    (void)unused;
    static gw_complex room[2][B * (M + 1) * (M + 1)];
    gw_gram gram[2];
    for (int b = 0; b < B; b++)
        for (int n = 0; n < N; n++) {
            gw_complex *c[M + 1];
            for (int k = 0; k <= M; k++) {
                c[k] = &x[b][k][n];
                *c[k] = random_complex();
            }
            for (int k = 1; k < 3; k++)
                *c[k] = (gw_complex){c[0]->re + 0.1 * k * c[k]->re, c[0]->im + 0.1 * k * c[k]->im};
            c[M]->re += 10 * c[0]->re + 0.8 * c[3]->im;
            c[M]->im += 10 * c[0]->im - 0.8 * c[3]->re;
        }
    fill(&gram[0], room[0]);
    /* in a second band there is nothing but the last channel */
    for (int b = 0; b < B; b++)
        for (int n = 0; n < N; n++) {
            x[b][M][n] = random_complex();
            x[b][M][n].re += x[b][M - 1][n].re;
        }
    fill(&gram[1], room[1]);
    for (int b = 0; b < B; b++) /* the first again, for least squares */
        for (int n = 0; n < N; n++)
            x[b][M][n].re -= x[b][M - 1][n].re;

    gw_choice choice[M];
    double ratio[M][2];
    const int n = gw_coherence_choose(gram, 2, log(1e-4), M, choice, ratio[0]);
    assert_int_equal(n, 3);
    assert_int_equal(choice[0].channel, 0); /* not its copies, */
    assert_int_equal(choice[0].band, 0);
    assert_int_equal(choice[0].bands, 1);
    assert_true(ratio[0][0] < 0.2 && ratio[0][1] >= 1);
    for (int i = 1; i < 3; i++)
        assert_true((choice[i].channel == 3 && choice[i].band == 0) ||
                    (choice[i].channel == M - 1 && choice[i].band == 1));
    assert_true(ratio[2][0] < ratio[0][0] && ratio[2][1] < 0.95);
    assert_true(choice[0].log_chance < -1000);

    /* One at most. */
    fill(&gram[0], room[0]);
    assert_int_equal(gw_coherence_choose(gram, 1, log(1e-4), 1, choice, ratio[0]), 0); /* white now */
}

static void test_ratio(void **unused)
{
    (void)unused;
    static gw_complex room[B * (M + 1) * (M + 1)];
    gw_gram gram;
    for (int b = 0; b < B; b++)
        for (int n = 0; n < N; n++) {
            for (int k = 0; k <= M; k++)
                x[b][k][n] = random_complex();
            for (int k = 0; k < 5; k++) {
                x[b][M][n].re += (1 + 0.3 * k) * x[b][k][n].re;
                x[b][M][n].im += (1 + 0.3 * k) * x[b][k][n].im;
            }
        }
    fill(&gram, room);
    gw_choice choice[M];
    double ratio[M];
    const int n = gw_coherence_choose(&gram, 1, log(1e-4), M, choice, ratio);
    assert_int_equal(n, 5);
    for (int m = 1; m <= n; m++) {
        double want = 0;
        assert_int_equal(choice[m - 1].channel, 5 - m); /* the strongest first */
        for (int b = 0; b < B; b++)
            want += sqrt(least_squares(b, choice, m) * N / (N - m)) / B;
        assert_true(fabs(ratio[m - 1] - want) < 1e-9);
    }
    for (int b = 0; b < B; b++) { /* what is left is in the matrix */
        const double left = room[(b + 1) * (M + 1) * (M + 1) - 1].re;
        double whole = 0;
        for (int i = 0; i < N; i++)
            whole += x[b][M][i].re * x[b][M][i].re + x[b][M][i].im * x[b][M][i].im;
        assert_true(fabs(left / whole - least_squares(b, choice, n)) < 1e-9);
    }
}

/* ---- the sink ---- */

extern const gw_kind gw_kind_rank;

enum { SECONDS = 100, FAST = 256, SLOW = 64, FIRST = 1000 };
static double strain[SECONDS * FAST];
static int16_t counts[3][SECONDS * FAST]; /* a witness, unrelated, its copy that is absent for half */
static float slow[3][SECONDS * SLOW];     /* witness, no numbers, zeros */

static void simulate(void)
{
    double seen[SECONDS * SLOW];
    for (int i = 0; i < SECONDS * SLOW; i++) {
        seen[i] = normal();
        slow[0][i] = (float)seen[i];
        slow[1][i] = i % 64 == 5 ? NAN : (float)normal();
        slow[2][i] = 0;
    }
    for (int i = 0; i < SECONDS * FAST; i++) {
        const double w = 2000 * normal();
        counts[0][i] = (int16_t)lrint(w);
        counts[1][i] = (int16_t)lrint(2000 * normal());
        counts[2][i] = counts[0][i];
        strain[i] = 1e-21 * (normal() + w / 4000);
        /* a step a sample of the slow one: its images come with it, which linear coherence does not mind */
        strain[i] += 1e-21 * seen[i * SLOW / FAST] / 2;
    }
}

/* The table as JSON, in blocks of `block` seconds' 16ths, with or without a hole. */
static char *ranking(int sixteenths, bool hole, int *status)
{
    char yaml[300], path[] = "/tmp/gwstream-test-rank-XXXXXX";
    gw_conf_file *file;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(yaml, sizeof yaml,
             "{strain: H1:STRAIN, bands: [[10Hz, 30Hz]], lines: [40Hz], memory: 64s, json: %s}", path);
    assert_int_equal(gw_conf_parse(&file, "t.yaml", yaml, strlen(yaml)), 0);
    void *self = calloc(1, gw_kind_rank.state_size);
    assert_non_null(self);
    assert_int_equal(gw_kind_rank.configure(self, gw_conf_root(file)), 0);
    assert_int_equal(gw_conf_done(gw_conf_root(file), "rank"), 0);
    gw_spec in[3] = {{.name = "s", .rate = {FAST, 1}, .dtype = GW_F64},
                     {.name = "c", .rate = {FAST, 1}, .dtype = GW_I16},
                     {.name = "l", .rate = {SLOW, 1}, .dtype = GW_F32}};
    assert_int_equal(gw_spec_set_channels(&in[0], 1, (const char *const[]){"H1:STRAIN"}), 0);
    assert_int_equal(gw_spec_set_channels(&in[1], 3, (const char *const[]){"C:TRUE", "C:IDLE", "C:HALF"}), 0);
    assert_int_equal(gw_spec_set_channels(&in[2], 3, (const char *const[]){"L:TRUE", "L:NAN", "L:ZERO"}), 0);
    gw_plan plan = {.name = "rank", .n_in = 3, .in = in, .threads = 1};
    assert_int_equal(gw_kind_rank.plan(self, &plan), 0);
    assert_true(plan.memory_bytes > 100000);
    assert_int_equal(gw_kind_rank.open(self, NULL), 0);
    for (int64_t t = 0; t < SECONDS * 16; t += sixteenths)
        for (int p = 0; p < 3; p++) {
            const int64_t rate = p < 2 ? FAST : SLOW, from = t * rate / 16;
            const int64_t n = (sixteenths < SECONDS * 16 - t ? sixteenths : SECONDS * 16 - t) * rate / 16;
            const void *const data = p == 0   ? (const void *)(strain + from)
                                     : p == 1 ? (const void *)(counts[0] + from)
                                              : (const void *)(slow[0] + from);
            const uint8_t half[] = {0x3};
            const gw_view v = {.data = data,
                               .stride = (size_t)(SECONDS * rate),
                               .n_samples = (uint32_t)n,
                               .n_channels = in[p].n_channels,
                               .sample0 = FIRST * rate + from,
                               .presence = p == 1 && t % 320 < 160 ? half : NULL};
            const gw_hole lost = {.sample0 = v.sample0, .samples = (uint64_t)n};
            const bool missing = hole && t >= 50 * 16 && t < 60 * 16;
            assert_int_equal(missing ? gw_kind_rank.gap(self, p, &lost) : gw_kind_rank.take(self, p, &v), 0);
        }
    *status = gw_kind_rank.drain(self, NULL);
    gw_kind_rank.close(self);
    for (int p = 0; p < 3; p++)
        gw_spec_free(&in[p]);
    gw_conf_free(&file);
    free(self);
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 20);
    assert_non_null(f);
    assert_non_null(text);
    text[fread(text, 1, (1 << 20) - 1, f)] = '\0';
    fclose(f);
    remove(path);
    return text;
}

static bool says(const char *text, const char *channel, const char *verdict)
{
    char want[200];
    snprintf(want, sizeof want, "\"channel\":\"%s\",\"verdict\":\"%s\"", channel, verdict);
    return strstr(text, want) != NULL;
}

static void test_sink(void **unused)
{
    (void)unused;
    int status;
    simulate();
    char *text = ranking(1, false, &status), *again = ranking(40, false, &status);
    assert_int_equal(status, 0);
    assert_string_equal(text, again); /* to the last digit */
    assert_true(says(text, "C:TRUE", "chosen"));
    assert_true(says(text, "L:TRUE", "chosen"));
    assert_true(says(text, "C:IDLE", "chance"));
    assert_true(says(text, "L:NAN", "no data"));
    assert_true(says(text, "L:ZERO", "no data"));
    assert_true(says(text, "C:HALF", "coherent")); /* too little of it to be chosen */
    assert_non_null(strstr(text, "\"from\":1035,\"to\":1099,\"segments\":64"));
    free(text);
    free(again);
    text = ranking(1, true, &status);
    again = ranking(10, true, &status);
    assert_int_equal(status, 0);
    assert_string_equal(text, again);
    assert_non_null(strstr(text, "\"segments\":53")); /* 10 s and the segment that reaches into them */
    assert_true(says(text, "C:TRUE", "chosen"));
    free(text);
    free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_log_tail), cmocka_unit_test(test_chance),
                                       cmocka_unit_test(test_choose), cmocka_unit_test(test_ratio),
                                       cmocka_unit_test(test_sink)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
