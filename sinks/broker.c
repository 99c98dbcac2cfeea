/* SPDX-License-Identifier: GPL-3.0-or-later
 * The keys of a broker, its rules of safety, and its messages. */
#include "sinks/broker.h"

#include "sinks/journal.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* ---- keys ---- */

static int check_name(gw_conf *conf, const char *key, const char *value, size_t most)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t n = strlen(value);
    if (n == 0 || n > most || strspn(value, allowed) != n)
        return gw_conf_fail(conf, "broker: %s: '%.80s': wants 1 to %zu letters, digits, '.', '_' or '-'", key,
                            value, most);
    return 0;
}

static int check_topic(const gw_broker *b, gw_conf *conf, const char *key, const char *topic)
{
    GW_TRY(check_name(conf, key, topic, 249)); /* Kafka's own bound */
    if (!b->production && !strcasestr(topic, "test"))
        return gw_conf_fail(conf,
                            "broker %s: %s: %s has no 'test' in its name; say production: true to send there",
                            b->name, key, topic);
    return 0;
}

static int read_names(gw_broker *b, gw_conf *conf)
{
    gw_conf *need = NULL;
    GW_TRY(gw_conf_need(conf, "name", &need));
    GW_TRY(gw_conf_text(need, &b->name));
    GW_TRY(check_name(need, "name", b->name, 40));
    GW_TRY(gw_conf_get_bool(conf, "production", &b->production));
    b->test = !b->production;
    GW_TRY(gw_conf_get_bool(conf, "test", &b->test));
    GW_TRY(gw_conf_need(conf, "topic", &need));
    GW_TRY(gw_conf_text(need, &b->topic));
    GW_TRY(check_topic(b, need, "topic", b->topic));
    GW_TRY(gw_conf_get_text(conf, "heartbeat", &b->heartbeat));
    return b->heartbeat ? check_topic(b, conf, "heartbeat", b->heartbeat) : 0;
}

int gw_broker_configure(gw_broker *b, gw_conf *conf)
{
    static const char *const kinds[] = {"kafka", NULL}, *const sends[] = {"alerts", "candidates", NULL};
    gw_conf *face = NULL;
    const char *word = NULL;
    int kind = 0, send = 0;
    if (gw_conf_kind(conf) != GW_CONF_MAP)
        return gw_conf_fail(conf, "brokers: each is a map with name, bootstrap, topic and face");
    b->mission = "gwstream";
    GW_TRY(read_names(b, conf));
    GW_TRY(gw_conf_get_choice(conf, "kind", kinds, &kind));
    GW_TRY(gw_conf_need(conf, "face", &face));
    GW_TRY(gw_conf_text(face, &word));
    if (gw_face_find(word, &b->face) < 0)
        return gw_conf_fail(face, "broker %s: face: %s", b->name, gw_err_detail());
    GW_TRY(gw_conf_get_choice(conf, "send", sends, &send));
    b->candidates = send == 1;
    GW_TRY(gw_conf_get_text(conf, "mission", &b->mission));
    GW_TRY(check_name(conf, "mission", b->mission, 40));
    GW_TRY(gw_conf_get_text(conf, "schema", &b->schema));
    b->kafka.name = b->name;
    GW_TRY(gw_kafka_configure(&b->kafka, conf));
    b->sender = b->kafka.username ? b->kafka.username : "gwstream";
    GW_TRY(gw_conf_get_text(conf, "sender", &b->sender));
    return gw_conf_done(conf, "broker");
}

int gw_broker_allow(gw_broker *b, gw_origin origin, bool publish)
{
    b->of = gw_kafka_is_local(&b->kafka) ? GW_OUTBOX_ANY : publish ? GW_OUTBOX_SKY_RUN : GW_OUTBOX_SKY;
    if (origin == GW_LIVE || b->of != GW_OUTBOX_SKY)
        return 0;
    return gw_fail(
        GW_ECONFIG,
        "broker %s at %s: this graph's data are %s and stay on this host; 'gwstream run --publish' "
        "lets them out, marked as %s",
        b->name, b->kafka.bootstrap, origin == GW_ARCHIVED ? "a recording" : "simulated",
        origin == GW_ARCHIVED ? "archival" : "test");
}

/* ---- messages ---- */

static gw_tense tense_of(const gw_broker *b, const gw_outbox_row *row)
{
    if (row->event.injection)
        return GW_TENSE_INJECTION;
    if (strcmp(row->origin, "sim") == 0)
        return GW_TENSE_TEST;
    if (row->event.archived || strcmp(row->origin, "live") != 0)
        return GW_TENSE_ARCHIVAL;
    return b->test ? GW_TENSE_TEST : GW_TENSE_CURRENT;
}

/* The same each time that the same is sent, here or by a spare of ours; else as a random UUID looks. What was sent as a
 * test is not the same as what is about the sky: a reader that drops repeats must not drop the latter. */
static void make_id(const gw_broker *b, const gw_outbox_row *row, unsigned char id[16])
{
    char name[128];
    const int n =
        snprintf(name, sizeof name, "%s %s %d %s %s", row->event.id, gw_phase_text(row->event.phase),
                 row->serial, b->face->name, gw_tense_text(tense_of(b, row)));
    crypto_generichash(id, 16, (const unsigned char *)name, (unsigned long long)n, NULL, 0);
    id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
    id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
}

bool gw_broker_takes_notes(const gw_broker *b)
{
    return b->face->write == gw_face_plain;
}

static int note(const gw_broker *b, const gw_outbox_row *row, unsigned char id[16], char *text,
                gw_kafka_message *m)
{
    const int n = snprintf(text, GW_FACE_BYTES, "%s", row->event.detail);
    make_id(b, row, id);
    *m = (gw_kafka_message){.topic = b->topic,
                            .key = row->event.id,
                            .payload = text,
                            .bytes = (size_t)n,
                            .id = id,
                            .format = b->face->format,
                            .sender = b->sender,
                            .test = tense_of(b, row) != GW_TENSE_CURRENT};
    return 1;
}

int gw_broker_message(const gw_broker *b, const gw_outbox_row *row, char *text, unsigned char id[16],
                      gw_kafka_message *m)
{
    const gw_notice notice = {.event = &row->event,
                              .serial = row->serial,
                              .record = row->record,
                              .made_ns = row->committed_ns,
                              .named_ns = row->named_ns,
                              .tense = tense_of(b, row),
                              .mission = b->mission,
                              .schema = b->schema};
    if (row->note)
        return note(b, row, id, text, m);
    int n = b->face->write(&notice, text, GW_FACE_BYTES);
    if (n > 0 && row->unkept && gw_broker_takes_notes(b))
        n = gw_journal_json_unkept(text, n, GW_FACE_BYTES);
    if (n <= 0)
        return n;
    make_id(b, row, id);
    *m = (gw_kafka_message){.topic = b->topic,
                            .key = row->event.id,
                            .payload = text,
                            .bytes = (size_t)n,
                            .id = id,
                            .format = b->face->format,
                            .sender = b->sender,
                            .test = notice.tense != GW_TENSE_CURRENT,
                            .unjournaled = row->unkept};
    return 1;
}

int gw_broker_heartbeat(const gw_broker *b, char *text, gw_kafka_message *m)
{
    char utc[32];
    const int n =
        snprintf(text, GW_FACE_BYTES,
                 "{\"$schema\":\"https://gcn.nasa.gov/schema/v7.2.3/gcn/notices/core/Alert.schema.json\","
                 "\"alert_datetime\":\"%s\"}",
                 gw_gps_utc(gw_gps_now_ns(), utc, sizeof utc));
    *m = (gw_kafka_message){.topic = b->heartbeat, .payload = text, .bytes = (size_t)n};
    return 1;
}
