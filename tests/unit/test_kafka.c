/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a broker's map may say: which hosts are this one, which of librdkafka's settings a file may change. No broker
 * is asked; what producers do is for tests/flow/check_kafka*.py. */
#include "sinks/kafka.h"
#include "sinks/publisher.h"

#include <librdkafka/rdkafka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int configure(const char *bootstrap, const char *more, bool *local, bool *tls)
{
    gw_conf_file *file;
    gw_kafka_conf k = {.name = "b"};
    char yaml[1024];
    snprintf(yaml, sizeof yaml, "{bootstrap: '%s'%s}", bootstrap, more);
    assert_int_equal(gw_conf_parse(&file, "test.yaml", yaml, strlen(yaml)), 0);
    const int err = gw_kafka_configure(&k, gw_conf_root(file));
    if (err == 0) {
        *local = gw_kafka_is_local(&k);
        *tls = k.tls;
    }
    gw_conf_free(&file);
    return err;
}

static void a_name_is_not_an_address(void **state)
{
    (void)state;
    static const struct {
        const char *bootstrap;
        bool local;
    } cases[] = {
        {"127.0.0.1:9092", true},
        {"127.1.2.3:9092", true},
        {"127.255.255.255:9092", true},
        {"localhost:9092", true},
        {"[::1]:9092", true},
        {"127.0.0.1:9092,localhost:1,[::1]:2", true},
        {"127.example.org:9092", false},
        {"127.0.0.1.example.org:9092", false},
        {"127.0.0.1x:9092", false},
        {"127.1:9092", false},
        {"127.0.0.256:9092", false},
        {"128.0.0.1:9092", false},
        {"localhost.example.org:9092", false},
        {"localhos:9092", false},
        {"lo:9092", false},
        {"[::2]:9092", false},
        {"127.0.0.1:9092,127.example.org:9092", false},
        {"127.example.org:9092,127.0.0.1:9092", false},
        {"localhost:9092,127.0.0.1:9092,[2001:db8::1]:9092", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool local = !cases[i].local, tls = cases[i].local;
        assert_int_equal(configure(cases[i].bootstrap, "", &local, &tls), 0);
        if (local != cases[i].local || tls == cases[i].local)
            fail_msg("%s: local %d, TLS %d", cases[i].bootstrap, local, tls);
    }
    /* Whoever says it of a publisher says the same, but for the interface that ZeroMQ knows by name. */
    assert_int_equal(gw_publisher_check("tcp://127.1.2.3:1", false), 0);
    assert_int_equal(gw_publisher_check("tcp://[::1]:1", false), 0);
    assert_int_equal(gw_publisher_check("tcp://lo:1", false), 0);
    assert_int_equal(gw_publisher_check("tcp://127.example.org:1", false), GW_ECONFIG);
    assert_int_equal(gw_publisher_check("tcp://l:1", false), GW_ECONFIG);
    assert_int_equal(gw_publisher_check("tcp://lox:1", false), GW_ECONFIG);
}

static int set_option(const char *name, const char *value)
{
    char more[256];
    bool local, tls;
    snprintf(more, sizeof more, ", options: {%s: '%s'}", name, value);
    return configure("127.0.0.1:9092", more, &local, &tls);
}

static void options_that_may_be_set_are(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"client.id", "observatory"},
        {"client.rack", "r1"},
        {"linger.ms", "5"},
        {"queue.buffering.max.messages", "1000"},
        {"compression.codec", "gzip"},
        {"compression.level", "3"},
        {"request.timeout.ms", "10000"},
        {"retry.backoff.ms", "200"},
        {"reconnect.backoff.max.ms", "10000"},
        {"socket.timeout.ms", "20000"},
        {"socket.connection.setup.timeout.ms", "5000"},
        {"broker.address.family", "v4"},
        {"metadata.max.age.ms", "180000"},
        {"topic.metadata.refresh.interval.ms", "-1"},
        {"allow.auto.create.topics", "false"},
        {"ssl.crl.location", "crl.pem"},
        {"debug", "broker,topic"},
        {"log_level", "7"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (set_option(pairs[i][0], pairs[i][1]) < 0)
            fail_msg("%s", gw_err_detail());
    assert_int_equal(set_option("linger.ms", "soon"), GW_ECONFIG); /* librdkafka's own complaint */
    assert_non_null(strstr(gw_err_detail(), "Invalid value"));
}

static void expect_refused(const char *name, const char *value)
{
    if (set_option(name, value) != GW_ECONFIG)
        fail_msg("%s may be set", name);
    if (!strstr(gw_err_detail(), name) || !strstr(gw_err_detail(), "is not for a file to set"))
        fail_msg("%s: %s", name, gw_err_detail());
}

static void options_that_delivery_or_safety_hangs_on_are_refused(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"test.mock.num.brokers", "1"},
        {"test.mock.broker.rtt", "0"},
        {"delivery.report.only.error", "true"},
        {"transactional.id", "t"},
        {"partitioner", "random"},
        {"queuing.strategy", "lifo"},
        {"enable.gapless.guarantee", "true"},
        {"retries", "1"},
        {"message.send.max.retries", "1"},
        {"enabled_events", "1"},
        {"log.queue", "true"},
        {"topic.blacklist", ".*"},
        {"socket.max.fails", "0"},
        {"api.version.request", "false"},
        {"broker.version.fallback", "0.9.0"},
        {"plugin.library.paths", "/nowhere/plugin"},
        {"enable.ssl.certificate.verification", "false"},
        {"ssl.endpoint.identification.algorithm", "none"},
        {"ssl.cipher.suites", "NULL"},
        {"ssl.providers", "legacy"},
        {"ssl.key.password", "secret"},
        {"sasl.password", "secret"},
        {"sasl.kerberos.kinit.cmd", "true"},
        {"enable.sasl.oauthbearer.unsecure.jwt", "true"},
        {"acks", "0"},
        {"request.required.acks", "0"},
        {"enable.idempotence", "false"},
        {"message.timeout.ms", "10"},
        {"delivery.timeout.ms", "10"},
        {"message.max.bytes", "1000"},
        {"max.in.flight", "1"},
        {"bootstrap.servers", "elsewhere:1"},
        {"metadata.broker.list", "elsewhere:1"},
        {"security.protocol", "plaintext"},
        {"lingerms", "5"},
        {"linger.ms.", "5"},
        {"LINGER.MS", "5"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        expect_refused(pairs[i][0], pairs[i][1]);
}

/* Whatever a later librdkafka brings: so many of its settings pass, and no more. */
static void nothing_else_passes(void **state)
{
    (void)state;
    int passed = 0;
    for (int topic = 0; topic < 2; topic++) {
        rd_kafka_conf_t *c = rd_kafka_conf_new();
        rd_kafka_topic_conf_t *t = rd_kafka_topic_conf_new();
        size_t n;
        const char **dump = topic ? rd_kafka_topic_conf_dump(t, &n) : rd_kafka_conf_dump(c, &n);
        assert_true(n > 20);
        for (size_t i = 0; i < n; i += 2)
            passed += set_option(dump[i], dump[i + 1]) == 0;
        rd_kafka_conf_dump_free(dump, n);
        rd_kafka_topic_conf_destroy(t);
        rd_kafka_conf_destroy(c);
    }
    assert_in_range(passed, 20, 37);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_not_an_address),
        cmocka_unit_test(options_that_may_be_set_are),
        cmocka_unit_test(options_that_delivery_or_safety_hangs_on_are_refused),
        cmocka_unit_test(nothing_else_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
