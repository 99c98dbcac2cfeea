/* SPDX-License-Identifier: GPL-3.0-or-later
 * librdkafka behind a few functions. Its callbacks all run inside gw_kafka_poll (or while a topic is asked
 * about), but for the log's, which runs in its threads and only passes lines on. */
#include "sinks/kafka.h"

#include "pipeline/log.h"
#include "sinks/loopback.h"
#include "sinks/token.h"

#include <errno.h>
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

enum { WHY_BYTES = 512, PASSWORD_BYTES = 512 };

typedef enum trouble { NO_TROUBLE, UNREACHABLE, REFUSED_LOGIN, REFUSED_TLS } trouble;

struct gw_kafka {
    rd_kafka_t *rk;
    gw_kafka_report *report;
    void *user;
    char name[64], token_command[1024], bootstrap[256];
    trouble trouble; /* what was last said */
    uint64_t troubles;
};

/* ---- configuration ---- */

bool gw_kafka_is_local(const gw_kafka_conf *k)
{
    for (const char *at = k->bootstrap; *at;) {
        const size_t n = strcspn(at, ","), host = at[0] == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":,");
        if (!gw_host_is_loopback(at, host))
            return false;
        at += n + (at[n] == ',');
    }
    return true;
}

/* "host:port" or "[address]:port", in a list without blanks. */
static int check_bootstrap(const gw_kafka_conf *k, gw_conf *conf)
{
    const char *at = k->bootstrap;
    do {
        const size_t n = strcspn(at, ","), host = at[0] == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":,");
        char *end = NULL;
        const long port = host < n && at[host] == ':' ? strtol(at + host + 1, &end, 10) : 0;
        if (host == 0 || host >= n || end != at + n || port < 1 || port > 65535 || strcspn(at, " \t/") < n ||
            strlen(k->bootstrap) > 250)
            return gw_conf_fail(conf, "bootstrap: '%.100s' is no list of HOST:PORT", k->bootstrap);
        at += n;
    } while (*at++ == ',');
    return 0;
}

static int read_tls(gw_kafka_conf *k, gw_conf *conf)
{
    gw_conf *tls = gw_conf_find(conf, "tls");
    k->tls = !gw_kafka_is_local(k);
    if (!tls || gw_conf_kind(tls) == GW_CONF_SCALAR)
        return gw_conf_get_bool(conf, "tls", &k->tls);
    k->tls = true;
    GW_TRY(gw_conf_get_text(tls, "ca", &k->ca));
    GW_TRY(gw_conf_get_text(tls, "certificate", &k->certificate));
    GW_TRY(gw_conf_get_text(tls, "key", &k->key));
    GW_TRY(gw_conf_done(tls, "tls"));
    if (!k->certificate != !k->key)
        return gw_conf_fail(tls, "tls: a certificate wants its key, and a key its certificate");
    return 0;
}

static int read_sasl(gw_kafka_conf *k, gw_conf *conf)
{
    static const char *const words[] = {"scram-sha-512", "scram-sha-256", "plain", "oauthbearer", NULL};
    static const char *const names[] = {"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"};
    gw_conf *sasl = gw_conf_find(conf, "sasl");
    int mechanism = 0;
    if (!sasl)
        return 0;
    GW_TRY(gw_conf_get_choice(sasl, "mechanism", words, &mechanism));
    GW_TRY(gw_conf_get_text(sasl, "username", &k->username));
    GW_TRY(gw_conf_get_text(sasl, "password_file", &k->password_file));
    GW_TRY(gw_conf_get_text(sasl, "token_command", &k->token_command));
    GW_TRY(gw_conf_done(sasl, "sasl"));
    k->mechanism = names[mechanism];
    const bool bearer = mechanism == 3;
    if (bearer && (!k->token_command || k->username || k->password_file))
        return gw_conf_fail(sasl, "sasl: oauthbearer wants token_command, and no username or password_file");
    if (!bearer && (!k->username || !k->password_file || k->token_command))
        return gw_conf_fail(sasl, "sasl: %s wants username and password_file", words[mechanism]);
    if (!k->tls && !gw_kafka_is_local(k))
        return gw_conf_fail(sasl, "sasl: without tls its secret would cross the network in the clear");
    return 0;
}

static int set(rd_kafka_conf_t *c, const char *broker, const char *key, const char *value)
{
    char why[WHY_BYTES];
    if (!value || rd_kafka_conf_set(c, key, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    return gw_fail(GW_ECONFIG, "broker %s: %s", broker, why);
}

/* At worst these keep messages waiting, in the journal too; none is lost by them. Not here: what we promise or
 * set from other keys, what turns a check of TLS off or is a secret, what runs other code, and socket.max.fails,
 * by which the two ends may lose step. docs/graph.md has the same list. */
static bool may_be_set(const char *option)
{
    static const char *const names[] = {"allow.auto.create.topics",
                                        "batch.num.messages",
                                        "batch.size",
                                        "broker.address.family",
                                        "broker.address.ttl",
                                        "client.id",
                                        "client.rack",
                                        "compression.codec",
                                        "compression.level",
                                        "compression.type",
                                        "connections.max.idle.ms",
                                        "debug",
                                        "linger.ms",
                                        "log.connection.close",
                                        "log.thread.name",
                                        "log_level",
                                        "metadata.max.age.ms",
                                        "queue.buffering.max.kbytes",
                                        "queue.buffering.max.messages",
                                        "queue.buffering.max.ms",
                                        "reconnect.backoff.max.ms",
                                        "reconnect.backoff.ms",
                                        "request.timeout.ms",
                                        "retry.backoff.ms",
                                        "socket.connection.setup.timeout.ms",
                                        "socket.keepalive.enable",
                                        "socket.nagle.disable",
                                        "socket.receive.buffer.bytes",
                                        "socket.send.buffer.bytes",
                                        "socket.timeout.ms",
                                        "ssl.crl.location",
                                        "ssl.curves.list",
                                        "ssl.sigalgs.list",
                                        "topic.metadata.propagation.max.ms",
                                        "topic.metadata.refresh.fast.interval.ms",
                                        "topic.metadata.refresh.interval.ms",
                                        "topic.metadata.refresh.sparse"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], option) == 0)
            return true;
    return false;
}

static int set_options(rd_kafka_conf_t *c, const gw_kafka_conf *k)
{
    for (int i = 0; k->options && i < gw_conf_count(k->options); i++) {
        const char *key = gw_conf_key(k->options, i), *value = NULL;
        gw_conf *item = gw_conf_item(k->options, i);
        GW_TRY(gw_conf_text(item, &value));
        if (!may_be_set(key))
            return gw_conf_fail(item,
                                "options: %.100s is not for a file to set: only what neither delivery nor "
                                "safety hangs on is; docs/graph.md has the list",
                                key);
        char why[WHY_BYTES];
        if (rd_kafka_conf_set(c, key, value, why, sizeof why) != RD_KAFKA_CONF_OK)
            return gw_conf_fail(item, "options: %s", why);
    }
    return 0;
}

static int set_all(rd_kafka_conf_t *c, const gw_kafka_conf *k, const char *password)
{
    char bytes[24];
    const char *const protocol[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"};
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)k->max_bytes);
    const char *const pairs[][2] = {
        {"bootstrap.servers", k->bootstrap},
        {"client.id", "gwstream"},
        {"enable.idempotence", "true"}, /* and with it acks=all */
        {"message.timeout.ms", "0"},    /* never given up: the journal would only send it again */
        {"compression.codec", "zstd"},
        {"linger.ms", "0"},
        {"message.max.bytes", bytes},
        {"socket.keepalive.enable", "true"},
        {"reconnect.backoff.max.ms", "2000"},
        {"topic.metadata.refresh.interval.ms", "60000"}, /* which also keeps the connection warm */
        {"topic.metadata.propagation.max.ms", "5000"},
        {"security.protocol", protocol[(k->mechanism ? 2 : 0) + (k->tls ? 1 : 0)]},
        {"ssl.ca.location", k->ca},
        {"ssl.certificate.location", k->certificate},
        {"ssl.key.location", k->key},
        {"sasl.mechanisms", k->mechanism},
        {"sasl.username", k->username},
        {"sasl.password", password},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        GW_TRY(set(c, k->name, pairs[i][0], pairs[i][1]));
    return set_options(c, k);
}

int gw_kafka_configure(gw_kafka_conf *k, gw_conf *conf)
{
    gw_conf *bootstrap = NULL;
    k->max_bytes = 2u << 20;
    GW_TRY(gw_conf_need(conf, "bootstrap", &bootstrap));
    GW_TRY(gw_conf_text(bootstrap, &k->bootstrap));
    GW_TRY(check_bootstrap(k, bootstrap));
    GW_TRY(read_tls(k, conf));
    GW_TRY(read_sasl(k, conf));
    GW_TRY(gw_conf_get_bytes(conf, "max_message", &k->max_bytes));
    if (k->max_bytes < 1000 || k->max_bytes > 1000000000)
        return gw_conf_fail(conf, "max_message: wants 1000 B to 1 GB");
    k->options = gw_conf_find(conf, "options");
    if (k->options && gw_conf_kind(k->options) != GW_CONF_MAP)
        return gw_conf_fail(k->options, "options: a map of librdkafka's names, {linger.ms: 5}");
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    int err = set_all(c, k, k->password_file ? "-" : NULL);
    rd_kafka_conf_destroy(c);
    return err;
}

/* ---- what librdkafka tells us ---- */

/* It speaks at its level of debugging only where the file has asked it to. */
static void on_log(const rd_kafka_t *rk, int level, const char *where, const char *text)
{
    const gw_kafka *k = rd_kafka_opaque(rk);
    gw_log(level == LOG_DEBUG ? GW_LOG_INFO : GW_LOG_DEBUG, k ? k->name : "kafka", "librdkafka %s %s", where,
           text);
}

static trouble trouble_of(int err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return REFUSED_LOGIN;
    case RD_KAFKA_RESP_ERR__SSL:
        return REFUSED_TLS;
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        return UNREACHABLE;
    default:
        return NO_TROUBLE;
    }
}

/* One line when a kind of trouble begins. "All brokers are down" adds nothing to why the last one went. */
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *user)
{
    static const char *const what[] = {"", "cannot be reached", "refuses the login", "TLS fails"};
    gw_kafka *k = user;
    (void)rk;
    const trouble t = trouble_of(err);
    k->troubles++;
    if (t == NO_TROUBLE) {
        gw_log(GW_LOG_WARN, k->name, "broker %s (%s): %s", k->name, k->bootstrap, reason);
        return;
    }
    if (t == k->trouble || (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && k->trouble))
        return;
    if (k->trouble > t) /* a refusal is seen as a lost connection too */
        return;
    k->trouble = t;
    gw_log(GW_LOG_WARN, k->name, "broker %s (%s) %s: %.300s; the search goes on, events wait in the journal",
           k->name, k->bootstrap, what[t], reason);
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *user)
{
    gw_kafka *k = user;
    (void)rk;
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR && k->trouble) {
        gw_log(GW_LOG_INFO, k->name, "broker %s (%s) takes messages again", k->name, k->bootstrap);
        k->trouble = NO_TROUBLE;
    }
    if (!m->_private || m->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
        m->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
        return;
    const bool never = m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
                       m->err == RD_KAFKA_RESP_ERR_INVALID_MSG || m->err == RD_KAFKA_RESP_ERR_INVALID_RECORD;
    k->report(k->user, m->_private,
              !m->err ? GW_OK
              : never ? GW_ERANGE
                      : GW_EAGAIN,
              rd_kafka_err2str(m->err));
}

static void on_token(rd_kafka_t *rk, const char *config, void *user)
{
    gw_kafka *k = user;
    char token[GW_TOKEN_BYTES], why[WHY_BYTES] = "";
    int64_t seconds = 0;
    (void)config;
    int err = gw_token_fetch(k->token_command, token, sizeof token, &seconds);
    if (err < 0) {
        snprintf(why, sizeof why, "%s", gw_err_detail());
    } else {
        const int64_t now_ms = gw_gps_to_unix_ns(gw_gps_now_ns()) / 1000000;
        err = rd_kafka_oauthbearer_set_token(rk, token, now_ms + 1000 * seconds, "gwstream", NULL, 0, why,
                                             sizeof why);
        explicit_bzero(token, sizeof token);
    }
    if (err) /* comes back to on_error as a refused login, and is tried again in 10 s */
        rd_kafka_oauthbearer_set_token_failure(rk, why);
}

/* ---- the producer ---- */

static int read_password(const gw_kafka_conf *k, char *password, size_t size)
{
    struct stat st;
    const int fd = open(k->password_file, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, password, size - 1);
    const int why = errno;
    if (n >= 0 && fstat(fd, &st) == 0 && (st.st_mode & (S_IRGRP | S_IROTH)))
        gw_log(GW_LOG_WARN, k->name, "broker %s: password_file %s can be read by others; chmod 600", k->name,
               k->password_file);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return gw_fail(why == ENOENT ? GW_EMISSING : GW_EACCESS, "broker %s: password_file %s: %s", k->name,
                       k->password_file, strerror(why));
    password[n] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    return password[0]
               ? 0
               : gw_fail(GW_EFORMAT, "broker %s: password_file %s is empty", k->name, k->password_file);
}

static int make(gw_kafka *k, const gw_kafka_conf *conf)
{
    char password[PASSWORD_BYTES] = "", why[WHY_BYTES];
    if (conf->password_file)
        GW_TRY(read_password(conf, password, sizeof password));
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    int err = set_all(c, conf, conf->password_file ? password : NULL);
    explicit_bzero(password, sizeof password);
    if (err < 0) {
        rd_kafka_conf_destroy(c);
        return err;
    }
    rd_kafka_conf_set_opaque(c, k);
    rd_kafka_conf_set_log_cb(c, on_log);
    rd_kafka_conf_set_error_cb(c, on_error);
    rd_kafka_conf_set_dr_msg_cb(c, on_report);
    if (conf->token_command)
        rd_kafka_conf_set_oauthbearer_token_refresh_cb(c, on_token);
    k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, why, sizeof why);
    if (k->rk)
        return 0;
    rd_kafka_conf_destroy(c);
    return gw_fail(GW_ECONFIG, "broker %s: %s", conf->name, why);
}

int gw_kafka_open(gw_kafka **out, const gw_kafka_conf *conf, int wake_fd, gw_kafka_report *report, void *user)
{
    *out = NULL;
    gw_kafka *k = calloc(1, sizeof *k);
    if (!k)
        return gw_fail(GW_ENOMEM, "broker %s: out of memory", conf->name);
    k->report = report;
    k->user = user;
    snprintf(k->name, sizeof k->name, "%s", conf->name);
    snprintf(k->bootstrap, sizeof k->bootstrap, "%s", conf->bootstrap);
    snprintf(k->token_command, sizeof k->token_command, "%s", conf->token_command ? conf->token_command : "");
    int err = make(k, conf);
    if (err < 0) {
        free(k);
        return err;
    }
    static const uint64_t one = 1; /* what is written to an eventfd */
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(k->rk);
    rd_kafka_queue_io_event_enable(queue, wake_fd, &one, sizeof one);
    rd_kafka_queue_destroy(queue);
    *out = k;
    return 0;
}

int gw_kafka_send(gw_kafka *k, const gw_kafka_message *m)
{
    rd_kafka_headers_t *h = NULL;
    if (m->id) {
        h = rd_kafka_headers_new(5);
        rd_kafka_header_add(h, "_id", -1, m->id, 16);
        rd_kafka_header_add(h, "_format", -1, m->format, -1);
        rd_kafka_header_add(h, "_sender", -1, m->sender, -1);
        if (m->test) /* its presence is what says it */
            rd_kafka_header_add(h, "_test", -1, "true", -1);
        if (m->unjournaled)
            rd_kafka_header_add(h, "_journaled", -1, "false", -1);
    }
    /* librdkafka does not write to payload or key; it takes the headers unless it fails. */
    const rd_kafka_vu_t v[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = m->topic},
        {.vtype = RD_KAFKA_VTYPE_KEY,
         .u.mem = {.ptr = (void *)(uintptr_t)m->key, .size = m->key ? strlen(m->key) : 0}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)(uintptr_t)m->payload, .size = m->bytes}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = h},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = m->tag},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(k->rk, v, sizeof v / sizeof *v);
    const rd_kafka_resp_err_t err = error ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error)
        rd_kafka_error_destroy(error);
    if (!err)
        return 0;
    if (h)
        rd_kafka_headers_destroy(h);
    return gw_fail(err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? GW_ERANGE : GW_EAGAIN,
                   "broker %s: topic %s: %zu bytes: %s", k->name, m->topic, m->bytes, rd_kafka_err2str(err));
}

int gw_kafka_poll(gw_kafka *k)
{
    char why[WHY_BYTES];
    while (rd_kafka_poll(k->rk, 0) > 0)
        ;
    const rd_kafka_resp_err_t err = rd_kafka_fatal_error(k->rk, why, sizeof why);
    return err ? gw_fail(GW_EPEER, "broker %s: %s", k->name, why) : 0;
}

int gw_kafka_ask_topic(gw_kafka *k, const char *topic, int ms)
{
    rd_kafka_topic_t *t = rd_kafka_topic_new(k->rk, topic, NULL);
    const struct rd_kafka_metadata *m = NULL;
    rd_kafka_resp_err_t err = t ? rd_kafka_metadata(k->rk, 0, t, &m, ms) : RD_KAFKA_RESP_ERR__INVALID_ARG;
    bool answered = false;
    if (!err && m->topic_cnt == 1) {
        err = m->topics[0].err;
        answered = true;
    }
    if (m)
        rd_kafka_metadata_destroy(m);
    if (t)
        rd_kafka_topic_destroy(t);
    if (!err)
        return 0;
    return gw_fail(!answered || err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE ? GW_EAGAIN
                   : err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED      ? GW_EACCESS
                                                                              : GW_EMISSING,
                   "broker %s: topic %s: %s", k->name, topic, rd_kafka_err2str(err));
}

uint64_t gw_kafka_troubles(const gw_kafka *k)
{
    return k->troubles;
}

void gw_kafka_close(gw_kafka **out)
{
    gw_kafka *k = *out;
    if (!k)
        return;
    rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(k->rk, 100);
    rd_kafka_destroy(k->rk);
    free(k);
    *out = NULL;
}
