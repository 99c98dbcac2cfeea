/* SPDX-License-Identifier: GPL-3.0-or-later
 * Blocks, pools and links: the header's checks, slabs that come home, and the credit / EOS / BYE contract
 * with two threads, 25 times over. */
#include "pipeline/link.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

static gw_header good_header(void)
{
    gw_header h = {
        .dtype = GW_F32, .n_samples = 4, .n_channels = 2, .payload_bytes = 32, .sample0 = 7, .seq = 1};
    gw_header_seal(&h);
    return h;
}

static void test_header(void **state)
{
    (void)state;
    gw_header h = good_header(), out;
    assert_int_equal(gw_header_read(&h, sizeof h, &out), GW_OK);
    assert_memory_equal(&h, &out, sizeof h);
    assert_int_equal(gw_header_read(&h, sizeof h - 1, &out), GW_EFORMAT);
    for (size_t i = 0; i < sizeof h; i++) { /* no single changed byte passes */
        gw_header bad = h;
        ((unsigned char *)&bad)[i] ^= 0x10;
        assert_int_equal(gw_header_read(&bad, sizeof bad, &out), GW_EFORMAT);
    }
    h.payload_bytes = 31;
    gw_header_seal(&h);
    assert_int_equal(gw_header_read(&h, sizeof h, &out), GW_EFORMAT);
    gw_header gap = {.flags = GW_FLAG_GAP, .gap_samples = 5};
    gw_header_seal(&gap);
    assert_int_equal(gw_header_read(&gap, sizeof gap, &out), GW_OK);
    gap.gap_samples = 0;
    gw_header_seal(&gap);
    assert_int_equal(gw_header_read(&gap, sizeof gap, &out), GW_EFORMAT);
    assert_int_equal(gw_crc32c(0, "123456789", 9), 0xe3069283); /* the published check value of CRC-32C */
}

static void test_pool(void **state)
{
    (void)state;
    gw_pool *p;
    gw_block *b[3], *none;
    assert_int_equal(gw_pool_new(&p, "test", 3, 100, GW_SPACE_HOST), GW_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gw_pool_take(p, &b[i]), GW_OK);
        assert_int_equal((uintptr_t)b[i]->data % 128, 0);
        memset(b[i]->data, i, 100);
    }
    assert_int_equal(gw_pool_take(p, &none), GW_EAGAIN);
    gw_block_ref(b[1]);
    gw_block *again = b[1];
    gw_block_unref(&b[1]);
    assert_null(b[1]);
    assert_int_equal(gw_pool_free_slabs(p), 0);
    gw_block_unref(&again);
    assert_int_equal(gw_pool_free_slabs(p), 1);
    gw_block_unref(&b[0]);
    gw_block_unref(&b[2]);
    assert_int_equal(gw_pool_free_slabs(p), 3);
    gw_pool_destroy(&p);
    assert_null(p);
}

/* -- two ends ---------------------------------------------------------------------------------------- */

typedef struct ends {
    void *zmq;
    gw_spec send, receive;
    gw_on_full on_full;
    int credit, blocks, slow_us, leave_after, send_us;
    bool never_pump;
    gw_pool *pool, *gaps;
    int sender_err;
    uint64_t dropped;
    /* seen by the receiver */
    int taken, gaps_seen, receiver_err;
    int64_t end;
    bool tiles;
} ends;

static int wait_socket(void *socket)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    return zmq_poll(&item, 1, 20);
}

static void *sender_thread(void *arg)
{
    ends *e = arg;
    gw_sender *s = NULL;
    const gw_link_conf c = {.zmq = e->zmq,
                            .address = "inproc://test",
                            .spec = &e->send,
                            .credit = e->credit,
                            .on_full = e->on_full,
                            .gaps = e->gaps};
    int err = gw_sender_open(&s, &c);
    for (int i = 0; i < e->blocks && err == GW_OK; i++) {
        while (err == GW_OK && !gw_sender_ready(s)) {
            wait_socket(gw_sender_socket(s));
            err = gw_sender_pump(s);
        }
        gw_block *b;
        while (err == GW_OK && gw_pool_take(e->pool, &b) == GW_EAGAIN) {
            wait_socket(gw_sender_socket(s));
            err = gw_sender_pump(s);
        }
        if (err != GW_OK)
            break;
        b->hdr = (gw_header){.dtype = GW_F32,
                             .n_samples = 10,
                             .n_channels = 1,
                             .payload_bytes = 40,
                             .sample0 = 10 * i,
                             .seq = (uint64_t)i};
        ((float *)b->data)[0] = (float)i;
        gw_block_seal(b);
        err = gw_sender_give(s, b);
        if (err == GW_OK && !e->never_pump)
            err = gw_sender_pump(s);
        if (e->send_us)
            usleep((useconds_t)e->send_us);
    }
    while (err == GW_OK && gw_sender_finish(s) == GW_EAGAIN)
        wait_socket(gw_sender_socket(s));
    e->dropped = s ? gw_sender_dropped(s) : 0;
    e->sender_err = err;
    gw_sender_close(&s);
    return NULL;
}

static void *receiver_thread(void *arg)
{
    ends *e = arg;
    gw_receiver *r = NULL;
    const gw_link_conf c = {
        .zmq = e->zmq, .address = "inproc://test", .spec = &e->receive, .credit = e->credit};
    int err = gw_receiver_open(&r, &c);
    e->tiles = true;
    for (;;) {
        gw_block *b;
        err = err == GW_OK ? gw_receiver_take(r, &b) : err;
        if (err == GW_EAGAIN) {
            wait_socket(gw_receiver_socket(r));
            err = GW_OK;
            continue;
        }
        if (err != GW_OK)
            break;
        e->tiles &= b->hdr.sample0 == e->end;
        bool gap = b->hdr.flags & GW_FLAG_GAP;
        e->gaps_seen += gap;
        e->taken += !gap;
        e->end = b->hdr.sample0 + (int64_t)(gap ? b->hdr.gap_samples : b->hdr.n_samples);
        if (!gap)
            e->tiles &= ((const float *)b->data)[0] == (float)(b->hdr.sample0 / 10);
        if (e->slow_us)
            usleep((useconds_t)e->slow_us);
        err = gw_receiver_done(r, &b);
        if (e->leave_after && e->taken == e->leave_after)
            break;
    }
    e->receiver_err = err;
    gw_receiver_close(&r);
    return NULL;
}

static void run_ends(ends *e)
{
    e->zmq = zmq_ctx_new();
    assert_int_equal(gw_pool_new(&e->pool, "test", 2 * e->credit + 3, 40, GW_SPACE_HOST), GW_OK);
    assert_int_equal(gw_pool_new(&e->gaps, "gaps", e->credit + 2, 0, GW_SPACE_HOST), GW_OK);
    pthread_t a, b;
    pthread_create(&a, NULL, receiver_thread, e);
    pthread_create(&b, NULL, sender_thread, e);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    zmq_ctx_term(e->zmq);
    assert_int_equal(gw_pool_free_slabs(e->pool), 2 * e->credit + 3); /* every slab came home */
    assert_int_equal(gw_pool_free_slabs(e->gaps), e->credit + 2);
    gw_pool_destroy(&e->pool);
    gw_pool_destroy(&e->gaps);
}

static gw_spec spec_of(const char *name)
{
    gw_spec s = {.rate = {16, 1}, .dtype = GW_F32, .n_channels = 1, .block_samples = 10};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

static void test_nothing_lost(void **state)
{
    (void)state;
    for (int i = 0; i < 25; i++) {
        ends e = {.send = spec_of("a"), .receive = spec_of("a"), .credit = 1 + i % 8, .blocks = 200};
        run_ends(&e);
        assert_int_equal(e.sender_err, GW_OK);
        assert_int_equal(e.receiver_err, GW_EEND);
        assert_int_equal(e.taken, 200);
        assert_true(e.tiles);
    }
}

static void test_drop_leaves_gaps(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"),
              .receive = spec_of("a"),
              .credit = 3,
              .blocks = 300,
              .on_full = GW_DROP,
              .slow_us = 500};
    run_ends(&e);
    assert_int_equal(e.receiver_err, GW_EEND);
    assert_true(e.tiles);
    assert_true(e.gaps_seen > 0 && e.dropped > 0);
    assert_int_equal((uint64_t)e.taken + e.dropped, 300);
    assert_int_equal(e.end, 3000); /* the newest blocks arrive: the oldest were dropped */
}

static void test_drop_without_need_does_not_happen(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"),
              .receive = spec_of("a"),
              .credit = 8,
              .blocks = 200,
              .on_full = GW_DROP,
              .send_us = 500,
              .never_pump = true};
    run_ends(&e);
    assert_int_equal(e.receiver_err, GW_EEND);
    assert_true(e.tiles);
    assert_true(e.taken >= 190); /* a fast receiver gets all but what the scheduler holds up */
}

static void test_other_stream_is_refused(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"), .receive = spec_of("a"), .credit = 4, .blocks = 10};
    e.receive.rate.num = 32;
    e.leave_after = 1; /* never reached */
    e.zmq = zmq_ctx_new();
    gw_sender *s;
    gw_receiver *r;
    gw_link_conf c = {.zmq = e.zmq, .address = "inproc://x", .spec = &e.send, .credit = 4};
    assert_int_equal(gw_sender_open(&s, &c), GW_OK);
    c.spec = &e.receive;
    assert_int_equal(gw_receiver_open(&r, &c), GW_OK);
    wait_socket(gw_sender_socket(s));
    assert_int_equal(gw_sender_pump(s), GW_EMISMATCH);
    gw_receiver_close(&r);
    gw_sender_close(&s);
    zmq_ctx_term(e.zmq);
}

static void test_receiver_leaves(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"), .receive = spec_of("a"), .credit = 4, .blocks = 1000, .leave_after = 5};
    run_ends(&e);
    assert_int_equal(e.sender_err, GW_EPEER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_nothing_lost),
        cmocka_unit_test(test_drop_leaves_gaps),
        cmocka_unit_test(test_drop_without_need_does_not_happen),
        cmocka_unit_test(test_other_stream_is_refused),
        cmocka_unit_test(test_receiver_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
