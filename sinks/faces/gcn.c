/* SPDX-License-Identifier: GPL-3.0-or-later
 * The face `gcn`: GCN's unified notice, one flat JSON object of the core schemas' fields, each in the
 * schema's unit (seconds, Hz). There is no sky map, so no field of Localization: an observer cannot point
 * with it. */
#include "sinks/faces/check.h"
#include "sinks/faces/face.h"
#include "sinks/faces/json.h"

#include <math.h>
#include <stdio.h>

static const gw_field fields[] = {
    {"$schema", .type = GW_FIELD_TEXT},
    {"mission", .type = GW_FIELD_TEXT},
    {"messenger", GW_FIELD_TEXT, .one_of = "EM|GW|Neutrino"},
    {"record_number", GW_FIELD_WHOLE, .min = 1, .max = 1e9},
    {"alert_datetime", .type = GW_FIELD_TIME},
    {"alert_tense", GW_FIELD_TEXT, .one_of = "current|archival|planned|injection|commanded|test"},
    {"alert_type", GW_FIELD_TEXT, .one_of = "initial|subsequent|update|retraction"},
    {"id", .type = GW_FIELD_WORDS},
    {"event_name", .type = GW_FIELD_WORDS},
    {"trigger_time", GW_FIELD_TIME, .may_lack = true},
    {"trigger_time_error", GW_FIELD_NUMBER, .max = 60, .may_lack = true},
    {"far", GW_FIELD_NUMBER, .max = 1e6, .may_lack = true},
    {"additional_info", GW_FIELD_TEXT, .may_lack = true},
    {.path = NULL},
};

static const char *type_of(const gw_notice *n)
{
    if (n->event->phase == GW_PHASE_RETRACTED)
        return "retraction";
    return n->record == 1 ? "initial" : "update";
}

static void put_facts(gw_json *t, const gw_event *e)
{
    char utc[32], facts[512];
    gw_json_put(t, ",\"trigger_time\":\"%s\"", gw_gps_utc(e->gps_ns, utc, sizeof utc));
    if (isfinite(e->gps_error_s)) /* 1-sigma */
        gw_json_put(t, ",\"trigger_time_error\":%.6f", e->gps_error_s);
    gw_json_put(t, ",\"far\":");
    gw_json_number(t, e->noise_rate_hz);
    snprintf(facts, sizeof facts,
             "Detectors %.32s; ranking statistic %.4f; phase %s; network %.48s. No sky localization, no "
             "classification.",
             e->detectors, e->statistic, gw_phase_text(e->phase), e->model);
    gw_json_put(t, ",\"additional_info\":");
    gw_json_string(t, facts, sizeof facts);
}

int gw_face_gcn(const gw_notice *n, char *to, size_t size)
{
    char utc[32], name[32], address[160];
    const gw_event *e = n->event;
    gw_json t = {.s = to, .size = size};
    snprintf(address, sizeof address,
             "https://gcn.nasa.gov/schema/v7.2.3/gcn/notices/%.60s/alert.schema.json", n->mission);
    gw_json_put(&t, "{\"$schema\":");
    gw_json_string(&t, n->schema ? n->schema : address, n->schema ? 1024 : sizeof address);
    gw_json_put(&t, ",\"mission\":");
    gw_json_string(&t, n->mission, 64);
    gw_json_put(&t, ",\"messenger\":\"GW\",\"record_number\":%d", n->record);
    gw_json_put(&t, ",\"alert_datetime\":\"%s\"", gw_gps_utc(n->made_ns, utc, sizeof utc));
    gw_json_put(&t, ",\"alert_tense\":\"%s\",\"alert_type\":\"%s\",\"id\":[", gw_tense_text(n->tense),
                type_of(n));
    gw_json_string(&t, e->id, sizeof e->id);
    gw_json_put(&t, "],\"event_name\":[\"%s\"]", gw_notice_superevent(n, name, sizeof name));
    if (e->phase != GW_PHASE_RETRACTED)
        put_facts(&t, e);
    gw_json_put(&t, "}");
    if (t.full)
        return gw_fail(GW_ERANGE, "gcn: event %.23s: longer than %zu bytes", e->id, size);
    GW_TRY(gw_check_json("gcn", to, t.used, fields));
    return (int)t.used;
}
