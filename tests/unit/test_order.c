/* SPDX-License-Identifier: GPL-3.0-or-later
 * The reorder window: what is in time comes out in order and whole, what is not becomes a hole and a count.
 * The last test shuffles, repeats, overlaps and drops at random and compares with what was sent. */
#include "sources/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LEN = 10, WINDOW = 40, FAR = 1000 };

typedef struct rig {
    gw_order *order;
    int made, returned;
    gw_block *b;
    int64_t end; /* of the latest stretch */
} rig;

static void give_back(void *owner, gw_block *b)
{
    ((rig *)owner)->returned++;
    free(b);
}

static void start(rig *r, int credit)
{
    *r = (rig){.made = 0};
    const gw_order_conf c = {
        .window_samples = WINDOW, .far_samples = FAR, .credit = credit, .done = give_back, .owner = r};
    assert_int_equal(gw_order_new(&r->order, &c), GW_OK);
}

static void stop(rig *r)
{
    gw_order_destroy(&r->order);
    assert_null(r->order);
    assert_int_equal(r->made, r->returned);
}

static bool put(rig *r, int64_t sample0, uint32_t n)
{
    gw_block *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->hdr.sample0 = sample0;
    b->hdr.n_samples = n;
    b->hdr.seq = (uint64_t)r->made++;
    return gw_order_put(r->order, b);
}

/* The next stretch begins at `at`, ends at `end` and is samples (or not); it is given. */
static void expect(rig *r, int64_t at, int64_t end, bool samples)
{
    int64_t now, until;
    gw_block *b;
    assert_true(gw_order_at(r->order, &now));
    assert_int_equal(now, at);
    assert_true(gw_order_next(r->order, &b, &until));
    assert_int_equal(until, end);
    assert_int_equal(b != NULL, samples);
    gw_order_give(r->order, until, !b);
}

static void expect_nothing(rig *r)
{
    gw_block *b;
    int64_t end;
    assert_false(gw_order_next(r->order, &b, &end));
}

static void begin_at(rig *r, int64_t at)
{
    assert_false(put(r, at, LEN));
    expect_nothing(r);
    assert_true(put(r, at + LEN, LEN));
    expect(r, at, at + LEN, true);
    expect(r, at + LEN, at + 2 * LEN, true);
    expect_nothing(r);
}

static void test_in_turn(void **state)
{
    (void)state;
    rig r;
    start(&r, 8);
    begin_at(&r, 100);
    for (int64_t at = 120; at < 1000; at += LEN) {
        assert_true(put(&r, at, LEN));
        expect(&r, at, at + LEN, true);
        expect_nothing(&r);
    }
    const gw_order_counts *c = gw_order_count(r.order);
    assert_int_equal(c->late + c->repeated + c->stray, 0);
    stop(&r);
}

static void test_disorder(void **state)
{
    (void)state;
    rig r;
    start(&r, 16);
    begin_at(&r, 0);
    put(&r, 40, LEN);
    put(&r, 30, LEN);
    expect_nothing(&r); /* 20 may still come */
    put(&r, 20, LEN);
    for (int64_t at = 20; at < 50; at += LEN)
        expect(&r, at, at + LEN, true);
    /* A hole stays open for WINDOW samples and no longer; what comes then is late. */
    for (int64_t at = 60; at < 90; at += LEN)
        put(&r, at, LEN);
    expect_nothing(&r);
    put(&r, 90, LEN);
    expect(&r, 50, 60, false);
    expect(&r, 60, 70, true);
    put(&r, 50, LEN);
    assert_int_equal(gw_order_count(r.order)->late, 1);
    put(&r, 60, LEN);
    assert_int_equal(gw_order_count(r.order)->repeated, 1);
    for (int64_t at = 70; at < 100; at += LEN)
        expect(&r, at, at + LEN, true);
    expect_nothing(&r);
    stop(&r);
}

static void test_overlap(void **state)
{
    (void)state;
    rig r;
    start(&r, 16);
    begin_at(&r, 0);
    put(&r, 40, LEN);
    put(&r, 40, LEN); /* the same again: gone at once */
    assert_int_equal(gw_order_count(r.order)->repeated, 1);
    assert_int_equal(r.made - r.returned, 1);
    put(&r, 35, LEN); /* reaches into it */
    put(&r, 15, 20);  /* begins with what was given */
    assert_int_equal(gw_order_count(r.order)->repeated, 3);
    expect(&r, 20, 35, true);
    expect(&r, 35, 45, true);
    expect(&r, 45, 50, true);
    expect_nothing(&r);
    stop(&r);
}

static void test_stray(void **state)
{
    (void)state;
    rig r;
    start(&r, 16);
    assert_false(put(&r, 5000000, LEN)); /* the very first is not believed alone */
    begin_at(&r, 100);
    assert_int_equal(gw_order_count(r.order)->stray, 1);
    put(&r, 7000000, LEN);
    expect_nothing(&r);
    put(&r, 120, LEN);
    expect(&r, 120, 130, true);
    assert_int_equal(gw_order_count(r.order)->stray, 2);
    /* Two that agree are a jump. */
    put(&r, 7000000, LEN);
    put(&r, 7000010, LEN);
    expect(&r, 130, 7000000, false);
    expect(&r, 7000000, 7000010, true);
    expect(&r, 7000010, 7000020, true);
    /* Numbers that nobody counts with. */
    put(&r, INT64_MAX - LEN, LEN);
    put(&r, INT64_MIN, LEN);
    put(&r, -LEN, LEN);
    assert_int_equal(gw_order_count(r.order)->stray, 5);
    expect_nothing(&r);
    stop(&r);
}

/* The sender may have only so many blocks on their way: when the oldest is held here, it can send no more. */
static void test_credit(void **state)
{
    (void)state;
    rig r;
    start(&r, 4);
    begin_at(&r, 0);
    for (int i = 0; i < 4; i++) { /* 21..24: within the window */
        expect_nothing(&r);
        put(&r, 21 + i, 1);
    }
    expect(&r, 20, 21, false);
    for (int64_t at = 21; at < 25; at++)
        expect(&r, at, at + 1, true);
    expect_nothing(&r);
    put(&r, 45, 1); /* one that is early, and three that are not */
    for (int64_t at = 25; at < 28; at++) {
        expect_nothing(&r);
        put(&r, at, 1);
        expect(&r, at, at + 1, true);
    }
    expect(&r, 28, 45, false);
    for (int i = 0; i < 40; i++) /* who does not keep to it is refused, and overruns nothing */
        put(&r, 47 + i % 20, 1);
    assert_true(gw_order_count(r.order)->stray > 0);
    stop(&r);
}

static void test_end(void **state)
{
    (void)state;
    rig r;
    start(&r, 8);
    put(&r, 100, LEN); /* alone, but all there is */
    expect_nothing(&r);
    gw_order_end(r.order);
    assert_false(gw_order_over(r.order));
    expect(&r, 100, 110, true);
    expect_nothing(&r);
    assert_true(gw_order_over(r.order));
    stop(&r);
    start(&r, 8);
    begin_at(&r, 0);
    put(&r, 30, LEN);
    expect_nothing(&r);
    gw_order_end(r.order);
    expect(&r, 20, 30, false);
    expect(&r, 30, 40, true);
    expect_nothing(&r);
    stop(&r);
}

/* A hole that the caller gives by its own reasons. */
static void test_given_up(void **state)
{
    (void)state;
    rig r;
    start(&r, 8);
    put(&r, 100, LEN);
    gw_order_begin(r.order, 90);
    expect_nothing(&r);
    gw_order_give(r.order, 100, true);
    expect(&r, 100, 110, true);
    gw_order_give(r.order, 120, true);
    gw_order_give(r.order, 130, true);
    put(&r, 110, LEN);
    put(&r, 120, LEN);
    assert_int_equal(gw_order_count(r.order)->late, 2);
    put(&r, 125, LEN); /* its second half is in time */
    expect(&r, 130, 135, true);
    expect_nothing(&r);
    stop(&r);
}

/* -- at random --------------------------------------------------------------------------------------- */

static uint64_t seed = 1;

static int draw(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

enum { SPAN = 600, PIECES = 200 };

typedef struct piece {
    int64_t at, key;
    uint32_t n;
} piece;

/* A stream with holes, repeats and overlaps, in which every piece is displaced by less than the window. */
static int make_pieces(piece *p)
{
    int n = 0;
    for (int64_t at = 0; at < SPAN - 20 && n < PIECES - 4;) {
        const uint32_t len = (uint32_t)(1 + draw(LEN));
        if (at < 20 || draw(10)) {
            p[n++] = (piece){.at = at, .n = len, .key = at + draw(WINDOW / 2)};
            if (!draw(8))
                p[n++] = (piece){.at = at, .n = len, .key = at + draw(WINDOW / 2)};
            if (!draw(8))
                p[n++] = (piece){.at = at, .n = len + 3, .key = at + draw(WINDOW / 2)};
        }
        at += len;
    }
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && p[k - 1].key > p[k].key; k--) {
            const piece t = p[k];
            p[k] = p[k - 1];
            p[k - 1] = t;
        }
    return n;
}

/* Puts all pieces, asks for the next stretch each time (or only now and then), and returns the first sample.
 */
static int64_t play(const piece *p, int n, bool now_and_then, bool *got, gw_order_counts *count)
{
    rig r;
    int64_t next = -1, first = -1, at, end;
    start(&r, 300);
    for (int i = 0; i < n; i++) {
        put(&r, p[i].at, p[i].n);
        if (i == n - 1)
            gw_order_end(r.order);
        else if (now_and_then && draw(8))
            continue;
        gw_block *b;
        while (gw_order_next(r.order, &b, &end)) {
            assert_true(gw_order_at(r.order, &at));
            first = first < 0 ? at : first;
            assert_true(next < 0 || at == next);
            assert_true(end > at);
            if (b)
                assert_true(b->hdr.sample0 <= at && end == b->hdr.sample0 + b->hdr.n_samples);
            for (int64_t s = at; b && s < end; s++)
                got[s] = true;
            gw_order_give(r.order, end, !b);
            next = end;
        }
    }
    *count = *gw_order_count(r.order);
    stop(&r);
    return first;
}

static void test_random(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        piece p[PIECES];
        bool sent[SPAN] = {false}, got[SPAN] = {false}, again[SPAN] = {false};
        gw_order_counts count, count_again;
        const int n = make_pieces(p);
        for (int i = 0; i < n; i++)
            for (uint32_t s = 0; s < p[i].n; s++)
                sent[p[i].at + s] = true;
        const int64_t first = play(p, n, false, got, &count);
        assert_true(first >= 0 &&
                    first < WINDOW); /* two blocks fix the beginning; an earlier one may come third */
        for (int64_t s = first; s < SPAN; s++)
            assert_int_equal(got[s], sent[s]);
        assert_int_equal(count.stray, 0);
        /* What is in time does not depend on when somebody asks. */
        assert_int_equal(play(p, n, true, again, &count_again), first);
        assert_memory_equal(got, again, sizeof got);
    }
    /* Nor does what is too late. */
    for (int round = 0; round < 500; round++) {
        piece p[PIECES];
        bool got[SPAN] = {false}, again[SPAN] = {false};
        gw_order_counts count, count_again;
        const int n = make_pieces(p);
        for (int i = 4; i < n - 1; i++)
            if (!draw(10)) {
                const piece t = p[i];
                const int to = i + draw(n - i);
                memmove(p + i, p + i + 1, (size_t)(to - i) * sizeof *p);
                p[to] = t;
            }
        const int64_t first = play(p, n, false, got, &count);
        assert_int_equal(play(p, n, true, again, &count_again), first);
        assert_memory_equal(got, again, sizeof got);
        /* (which of the two it was is known of the latest hole only) */
        assert_int_equal(count.late + count.repeated, count_again.late + count_again.repeated);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_turn),  cmocka_unit_test(test_disorder), cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_stray),    cmocka_unit_test(test_credit),   cmocka_unit_test(test_end),
        cmocka_unit_test(test_given_up), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
