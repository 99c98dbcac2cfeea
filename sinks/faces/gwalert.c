/* SPDX-License-Identifier: GPL-3.0-or-later
 * The faces `gwalert-json` and `gwalert-avro`: IGWN's public alert. Both are written from one struct, and the
 * JSON is what is held against the list of fields, for either. What we cannot say is null or empty, never
 * invented: no sky map, no classification, no properties, no external coincidence.
 *
 * Avro is binary and without names: the order of the calls in put_record() is the order of the schema. A long
 * is a zigzag varint, a text its length and its bytes, a union the branch's number and the value, a list or
 * a map blocks of items ended by an empty one (Avro 1.11 specification). */
#include "sinks/faces/check.h"
#include "sinks/faces/face.h"
#include "sinks/faces/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Significant: rarer than once a month for all searches together, IGWN's bar for compact binaries. */
#define SIGNIFICANT_HZ 3.9e-7

static const gw_field fields[] = {
    {"alert_type", GW_FIELD_TEXT, .one_of = "EARLYWARNING|PRELIMINARY|INITIAL|UPDATE|RETRACTION"},
    {"time_created", .type = GW_FIELD_TIME},
    {"superevent_id", .type = GW_FIELD_TEXT},
    {"urls", .type = GW_FIELD_MAP},
    {"event", GW_FIELD_OBJECT, .may_be_null = true},
    {"event.time", .type = GW_FIELD_TIME},
    {"event.far", GW_FIELD_NUMBER, .max = 1e6},
    {"event.significant", .type = GW_FIELD_BOOL},
    {"event.instruments", GW_FIELD_WORDS, .one_of = "H1|L1|V1|K1|I1|G1"},
    {"event.group", GW_FIELD_TEXT, .one_of = "CBC|Burst"},
    {"event.pipeline", .type = GW_FIELD_TEXT},
    {"event.search", GW_FIELD_TEXT, .one_of = "AllSky|BBH|EarlyWarning|MDC"},
    {"event.classification", .type = GW_FIELD_SHARES},
    {"event.properties", .type = GW_FIELD_SHARES},
    {"event.duration", GW_FIELD_NUMBER, .max = 1e6, .may_be_null = true},
    {"event.central_frequency", GW_FIELD_NUMBER, .max = 1e6, .may_be_null = true},
    {"event.skymap", GW_FIELD_TEXT, .may_be_null = true},
    {"external_coinc", .type = GW_FIELD_NULL},
    {.path = NULL},
};

/* The writer's schema, as the field's own messages carry it. */
static const char schema[] =
    "{\"type\":\"record\",\"name\":\"Alert\",\"namespace\":\"igwn.alerts.v1_0\",\"fields\":["
    "{\"name\":\"alert_type\",\"type\":{\"type\":\"enum\",\"name\":\"AlertType\",\"symbols\":"
    "[\"EARLYWARNING\",\"PRELIMINARY\",\"INITIAL\",\"UPDATE\",\"RETRACTION\"]}},"
    "{\"name\":\"time_created\",\"type\":\"string\"},"
    "{\"name\":\"superevent_id\",\"type\":\"string\"},"
    "{\"name\":\"event\",\"type\":[\"null\",{\"type\":\"record\",\"name\":\"EventInfo\",\"fields\":["
    "{\"name\":\"time\",\"type\":\"string\"},{\"name\":\"far\",\"type\":\"double\"},"
    "{\"name\":\"significant\",\"type\":\"boolean\"},"
    "{\"name\":\"instruments\",\"type\":{\"type\":\"array\",\"items\":\"string\"}},"
    "{\"name\":\"group\",\"type\":\"string\"},{\"name\":\"pipeline\",\"type\":\"string\"},"
    "{\"name\":\"search\",\"type\":\"string\"},"
    "{\"name\":\"classification\",\"type\":{\"type\":\"map\",\"values\":\"double\"}},"
    "{\"name\":\"properties\",\"type\":{\"type\":\"map\",\"values\":\"double\"}},"
    "{\"name\":\"duration\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"central_frequency\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"skymap\",\"type\":[\"null\",\"bytes\"]}]}]},"
    "{\"name\":\"external_coinc\",\"type\":[\"null\",{\"type\":\"record\",\"name\":\"ExternalCoincInfo\","
    "\"fields\":[{\"name\":\"gcn_notice_id\",\"type\":\"int\"},{\"name\":\"ivorn\",\"type\":\"string\"},"
    "{\"name\":\"observatory\",\"type\":\"string\"},{\"name\":\"search\",\"type\":\"string\"},"
    "{\"name\":\"time_difference\",\"type\":\"double\"},"
    "{\"name\":\"time_coincidence_far\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"time_sky_position_coincidence_far\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"combined_skymap\",\"type\":[\"null\",\"bytes\"]}]}]},"
    "{\"name\":\"urls\",\"type\":{\"type\":\"map\",\"values\":\"string\"}}]}";

enum { PRELIMINARY = 1, RETRACTION = 4 }; /* of the enum's symbols */

typedef struct alert {
    int type;
    char created[32], name[32], time[32];
    double far_hz;
    bool significant;
    const char *instruments, *search; /* instruments: "H1,L1" */
} alert;

static alert alert_of(const gw_notice *n)
{
    const gw_event *e = n->event;
    alert a = {.type = e->phase == GW_PHASE_RETRACTED ? RETRACTION : PRELIMINARY,
               .far_hz = e->noise_rate_hz,
               .significant = e->noise_rate_hz < SIGNIFICANT_HZ,
               .instruments = e->detectors,
               .search = n->tense == GW_TENSE_CURRENT ? "BBH" : "MDC"};
    gw_notice_superevent(n, a.name, sizeof a.name);
    gw_gps_utc(e->gps_ns, a.time, sizeof a.time);
    gw_gps_utc(n->made_ns, a.created, sizeof a.created);
    if (strlen(a.created) == 24) /* whole seconds in this field */
        memcpy(a.created + 19, "Z", 2);
    return a;
}

static int write_json(const alert *a, char *to, size_t size)
{
    static const char *const type[] = {"EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"};
    gw_json t = {.s = to, .size = size};
    gw_json_put(&t, "{\"alert_type\":\"%s\",\"time_created\":\"%s\",\"superevent_id\":\"%s\",\"urls\":{}",
                type[a->type], a->created, a->name);
    if (a->type == RETRACTION) {
        gw_json_put(&t, ",\"event\":null");
    } else {
        gw_json_put(&t, ",\"event\":{\"time\":\"%s\",\"far\":", a->time);
        gw_json_number(&t, a->far_hz);
        gw_json_put(&t, ",\"significant\":%s,\"instruments\":", a->significant ? "true" : "false");
        gw_json_list(&t, a->instruments, sizeof((gw_event *)0)->detectors);
        gw_json_put(&t,
                    ",\"group\":\"CBC\",\"pipeline\":\"gwstream\",\"search\":\"%s\",\"classification\":{},"
                    "\"properties\":{},\"duration\":null,\"central_frequency\":null,\"skymap\":null}",
                    a->search);
    }
    gw_json_put(&t, ",\"external_coinc\":null}");
    if (t.full)
        return gw_fail(GW_ERANGE, "gwalert: event %s: longer than %zu bytes", a->name, size);
    GW_TRY(gw_check_json("gwalert", to, t.used, fields));
    return (int)t.used;
}

int gw_face_gwalert_json(const gw_notice *n, char *to, size_t size)
{
    const alert a = alert_of(n);
    return write_json(&a, to, size);
}

/* ---- Avro ---- */

static void put_bytes(gw_json *t, const void *bytes, size_t n)
{
    if (t->full || n > t->size - t->used) {
        t->full = true;
        return;
    }
    memcpy(t->s + t->used, bytes, n);
    t->used += n;
}

static void put_long(gw_json *t, int64_t v)
{
    uint64_t z = (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
    for (;;) {
        const unsigned char c = (unsigned char)((z & 0x7f) | (z > 0x7f ? 0x80 : 0));
        put_bytes(t, &c, 1);
        if (z <= 0x7f)
            return;
        z >>= 7;
    }
}

static void put_text(gw_json *t, const char *s, size_t n)
{
    n = strnlen(s, n);
    put_long(t, (int64_t)n);
    put_bytes(t, s, n);
}

static void put_double(gw_json *t, double v)
{
    uint64_t bits;
    unsigned char c[8];
    memcpy(&bits, &v, 8);
    for (int i = 0; i < 8; i++) /* little-endian, whatever we are */
        c[i] = (unsigned char)(bits >> 8 * i);
    put_bytes(t, c, 8);
}

static void put_instruments(gw_json *t, const char *names)
{
    const size_t size = sizeof((gw_event *)0)->detectors;
    char text[sizeof((gw_event *)0)->detectors + 1], *rest = text;
    snprintf(text, sizeof text, "%.*s", (int)size, names);
    for (char *name; (name = strsep(&rest, ","));)
        if (*name) {
            put_long(t, 1);
            put_text(t, name, size);
        }
    put_long(t, 0);
}

static void put_record(gw_json *t, const alert *a)
{
    put_long(t, a->type);
    put_text(t, a->created, sizeof a->created);
    put_text(t, a->name, sizeof a->name);
    put_long(t, a->type == RETRACTION ? 0 : 1);
    if (a->type != RETRACTION) {
        const unsigned char significant = a->significant;
        put_text(t, a->time, sizeof a->time);
        put_double(t, a->far_hz);
        put_bytes(t, &significant, 1);
        put_instruments(t, a->instruments);
        put_text(t, "CBC", 8);
        put_text(t, "gwstream", 16);
        put_text(t, a->search, 16);
        put_long(t, 0); /* classification */
        put_long(t, 0); /* properties */
        put_long(t, 0); /* duration: null */
        put_long(t, 0); /* central_frequency: null */
        put_long(t, 0); /* skymap: null */
    }
    put_long(t, 0); /* external_coinc: null */
    put_long(t, 0); /* urls */
}

/* The container's mark between blocks: any 16 bytes; the same each time that the same is sent. */
static void make_mark(const alert *a, unsigned char mark[16])
{
    memset(mark, 0x5a, 16);
    for (size_t i = 0; a->name[i]; i++)
        mark[i % 16] = (unsigned char)(31 * mark[i % 16] + (unsigned char)a->name[i]);
}

int gw_face_gwalert_avro(const gw_notice *n, char *to, size_t size)
{
    char text[1024];
    unsigned char mark[16];
    const alert a = alert_of(n);
    GW_TRY(write_json(&a, to, size)); /* to be checked; what stays is what follows */
    gw_json record = {.s = text, .size = sizeof text}, t = {.s = to, .size = size};
    put_record(&record, &a);
    make_mark(&a, mark);
    put_bytes(&t, "Obj\x01", 4);
    put_long(&t, 2);
    put_text(&t, "avro.schema", 16);
    put_text(&t, schema, sizeof schema);
    put_text(&t, "avro.codec", 16);
    put_text(&t, "null", 8);
    put_long(&t, 0);
    put_bytes(&t, mark, sizeof mark);
    put_long(&t, 1); /* one record */
    put_long(&t, (int64_t)record.used);
    put_bytes(&t, text, record.used);
    put_bytes(&t, mark, sizeof mark);
    if (t.full || record.full)
        return gw_fail(GW_ERANGE, "gwalert-avro: event %s: longer than %zu bytes", a.name, size);
    return (int)t.used;
}
