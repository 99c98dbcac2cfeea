/* SPDX-License-Identifier: GPL-3.0-or-later
 * The list of faces, what they share, and the two small ones. */
#include "sinks/faces/face.h"

#include "sinks/faces/check.h"
#include "sinks/faces/json.h"
#include "sinks/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const gw_face faces[] = {
    {"gcn", "json", gw_face_gcn},
    {"gwalert-json", "json", gw_face_gwalert_json},
    {"gwalert-avro", "avro", gw_face_gwalert_avro},
    {"gracedb", "json", gw_face_gracedb},
    {"plain", "json", gw_face_plain},
};

int gw_face_find(const char *name, const gw_face **face)
{
    for (size_t i = 0; i < sizeof faces / sizeof *faces; i++)
        if (strcmp(faces[i].name, name) == 0) {
            *face = &faces[i];
            return 0;
        }
    return gw_fail(GW_ECONFIG, "'%.32s' is none of gcn, gwalert-json, gwalert-avro, gracedb, plain", name);
}

const char *gw_tense_text(gw_tense t)
{
    static const char *const text[] = {"current", "archival", "test", "injection"};
    return text[t];
}

/* Six letters out of the id's 64 bits: 3e8 names a day. */
const char *gw_notice_superevent(const gw_notice *n, char *name, size_t size)
{
    char utc[32], letters[7];
    uint64_t bits = strtoull(n->event->id + (n->event->id[0] == 'G'), NULL, 16);
    gw_gps_utc(n->named_ns ? n->named_ns : n->event->gps_ns, utc, sizeof utc);
    for (int i = 0; i < 6; i++, bits /= 26)
        letters[i] = (char)('a' + bits % 26);
    letters[6] = '\0';
    snprintf(name, size, "%s%.2s%.2s%.2s%s",
             n->tense == GW_TENSE_CURRENT     ? "S"
             : n->tense == GW_TENSE_INJECTION ? "MS"
                                              : "TS",
             utc + 2, utc + 5, utc + 8, letters);
    return name;
}

/* ---- plain ---- */

/* The line that everybody local hears, and what it is: "tense" comes second. */
int gw_face_plain(const gw_notice *n, char *to, size_t size)
{
    static const char head[] = "{\"type\":\"event\",";
    char tense[40];
    const int len = gw_journal_json(n->event, n->serial, n->made_ns, false, to, size);
    GW_TRY(len);
    const int extra = snprintf(tense, sizeof tense, "\"tense\":\"%s\",", gw_tense_text(n->tense));
    const size_t at = sizeof head - 1;
    if (strncmp(to, head, at) != 0 || (size_t)(len + extra) >= size)
        return gw_fail(GW_ERANGE, "plain: event %.23s: longer than %zu bytes", n->event->id, size);
    memmove(to + at + extra, to + at, (size_t)len - at + 1);
    memcpy(to + at, tense, (size_t)extra);
    return len + extra;
}

/* ---- gracedb ---- */

static const gw_field gracedb_fields[] = {
    {"gpstime", GW_FIELD_NUMBER, .max = 1e10},
    {"detection_statistic", GW_FIELD_NUMBER, .min = -1e6, .max = 1e6},
    {"far", GW_FIELD_NUMBER, .max = 1e6},
    {"ifos", .type = GW_FIELD_TEXT},
    {"channels", .type = GW_FIELD_WORDS},
    {"end_time", GW_FIELD_WHOLE, .max = 1e10},
    {"end_time_ns", GW_FIELD_WHOLE, .max = 999999999},
    {.path = NULL},
};

int gw_face_gracedb(const gw_notice *n, char *to, size_t size)
{
    const gw_event *e = n->event;
    gw_json t = {.s = to, .size = size};
    if (e->phase == GW_PHASE_RETRACTED)
        return 0;
    gw_json_put(&t,
                "{\"gpstime\":%lld.%09lld,\"detection_statistic\":", (long long)(e->gps_ns / GW_SECOND_NS),
                (long long)(e->gps_ns % GW_SECOND_NS));
    gw_json_number(&t, e->statistic);
    gw_json_put(&t, ",\"far\":");
    gw_json_number(&t, e->noise_rate_hz);
    gw_json_put(&t, ",\"ifos\":");
    gw_json_string(&t, e->detectors, sizeof e->detectors);
    gw_json_put(&t, ",\"channels\":[");
    gw_json_string(&t, e->stream, sizeof e->stream);
    gw_json_put(&t, "],\"end_time\":%lld,\"end_time_ns\":%lld}", (long long)(e->gps_ns / GW_SECOND_NS),
                (long long)(e->gps_ns % GW_SECOND_NS));
    if (t.full)
        return gw_fail(GW_ERANGE, "gracedb: event %.23s: longer than %zu bytes", e->id, size);
    GW_TRY(gw_check_json("gracedb", to, t.used, gracedb_fields));
    return (int)t.used;
}
