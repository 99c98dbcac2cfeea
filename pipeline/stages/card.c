/* SPDX-License-Identifier: GPL-3.0-or-later
 * Reads a model card (card.h) through the strict YAML reader, and hashes files with libsodium. */
#include "pipeline/stages/card.h"
#include "pipeline/config.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BINS = 100000 };

int gw_sha256_file(const char *path, char hex[GW_SHA256_TEXT])
{
    if (sodium_init() < 0)
        return gw_fail(GW_ESYSTEM, "libsodium cannot start");
    FILE *f = fopen(path, "rb");
    if (!f) {
        int why = errno;
        return gw_fail(why == ENOENT || why == ENOTDIR ? GW_EMISSING : GW_EACCESS, "%s: %s", path,
                       strerror(why));
    }
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    unsigned char piece[16384], digest[crypto_hash_sha256_BYTES];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        crypto_hash_sha256_update(&state, piece, n);
    const int why = ferror(f) ? errno : 0;
    fclose(f);
    if (why)
        return gw_fail(why == EISDIR ? GW_EMISSING : GW_EIO, "%s: %s", path, strerror(why));
    crypto_hash_sha256_final(&state, digest);
    sodium_bin2hex(hex, GW_SHA256_TEXT, digest, sizeof digest);
    return GW_OK;
}

/* A section of the card that must be there. */
static int section(gw_conf *root, const char *key, gw_conf **map)
{
    GW_TRY(gw_conf_need(root, key, map));
    if (gw_conf_kind(*map) != GW_CONF_MAP)
        return gw_conf_fail(*map, "%s: a map of keys is wanted here", key);
    return GW_OK;
}

static int need_double(gw_conf *map, const char *key, double min, double max, double *value)
{
    gw_conf *node;
    GW_TRY(gw_conf_need(map, key, &node));
    return gw_conf_get_double(map, key, min, max, value);
}

static int read_model(gw_card *card, gw_conf *map)
{
    gw_conf *node;
    const char *name = NULL, *hash = NULL;
    GW_TRY(gw_conf_need(map, "name", &node));
    GW_TRY(gw_conf_text(node, &name));
    snprintf(card->name, sizeof card->name, "%s", name);
    GW_TRY(gw_conf_need(map, "sha256", &node));
    GW_TRY(gw_conf_text(node, &hash));
    if (strlen(hash) != GW_SHA256_TEXT - 1 || strspn(hash, "0123456789abcdefABCDEF") != GW_SHA256_TEXT - 1)
        return gw_conf_fail(node, "sha256: '%.70s' is not 64 hex digits", hash);
    for (size_t i = 0; hash[i]; i++)
        card->model_sha256[i] = (char)(hash[i] >= 'A' && hash[i] <= 'F' ? hash[i] - 'A' + 'a' : hash[i]);
    return GW_OK;
}

static int read_thresholds(gw_card *card, gw_conf *map)
{
    GW_TRY(need_double(map, "candidate", -1e6, 1e6, &card->candidate));
    GW_TRY(need_double(map, "alert", -1e6, 1e6, &card->alert));
    if (card->alert < card->candidate)
        return gw_conf_fail(map, "thresholds: alert %g lies below candidate %g", card->alert,
                            card->candidate);
    return GW_OK;
}

static int read_counts(gw_card *card, gw_conf *list)
{
    const int n = gw_conf_kind(list) == GW_CONF_LIST ? gw_conf_count(list) : 0;
    if (n < 1 || n > MAX_BINS)
        return gw_conf_fail(list, "counts: a list of 1 to %d whole numbers is wanted", MAX_BINS);
    card->above = calloc((size_t)n, sizeof *card->above);
    if (!card->above)
        return gw_fail(GW_ENOMEM, "model card: %d bins", n);
    card->n_bins = (uint32_t)n;
    for (int i = 0; i < n; i++) {
        gw_conf *item = gw_conf_item(list, i);
        GW_TRY(gw_conf_double(item, 0, 1e12, &card->above[i]));
        if (card->above[i] != floor(card->above[i]))
            return gw_conf_fail(item, "counts: %g is not a whole number", card->above[i]);
    }
    for (int i = n - 2; i >= 0; i--)
        card->above[i] += card->above[i + 1];
    return GW_OK;
}

static int read_background(gw_card *card, gw_conf *map)
{
    gw_conf *node;
    gw_rate span = {0, 1};
    GW_TRY(gw_conf_need(map, "live_time", &node));
    GW_TRY(gw_conf_get_span(map, "live_time", &span));
    if (!span.num)
        return gw_conf_fail(node, "live_time: must be longer than nothing");
    card->live_time_s = gw_rate_hz(span);
    GW_TRY(need_double(map, "bin_width", 1e-6, 1e6, &card->bin_width));
    GW_TRY(need_double(map, "first_bin", -1e6, 1e6, &card->first_bin));
    GW_TRY(gw_conf_need(map, "counts", &node));
    return read_counts(card, node);
}

static int read_card(gw_card *card, gw_conf *root)
{
    gw_conf *map;
    GW_TRY(section(root, "model", &map));
    GW_TRY(read_model(card, map));
    GW_TRY(section(root, "thresholds", &map));
    GW_TRY(read_thresholds(card, map));
    GW_TRY(section(root, "background", &map));
    return read_background(card, map);
}

int gw_card_load(gw_card **out, const char *path)
{
    *out = NULL;
    gw_card *card = calloc(1, sizeof *card);
    if (!card)
        return gw_fail(GW_ENOMEM, "model card %s", path);
    gw_conf_file *file = NULL;
    int err = gw_sha256_file(path, card->sha256);
    if (err == GW_OK)
        err = gw_conf_load(&file, path);
    if (err == GW_OK)
        err = read_card(card, gw_conf_root(file));
    gw_conf_free(&file);
    if (err != GW_OK) {
        gw_card_free(&card);
        return gw_fail_at(err, "model card");
    }
    *out = card;
    return GW_OK;
}

void gw_card_free(gw_card **card)
{
    if (!*card)
        return;
    free((*card)->above);
    free(*card);
    *card = NULL;
}

double gw_card_noise_rate_hz(const gw_card *card, double statistic)
{
    double n = card->above[0];
    /* The edge of a bin belongs to the bin, whatever the division makes of it. A statistic that is no
     * number fails both comparisons and counts as below everything. */
    const double bin = floor((statistic - card->first_bin) / card->bin_width + 1e-9);
    if (bin >= card->n_bins)
        n = 0;
    else if (bin >= 0)
        n = card->above[(uint32_t)bin];
    return (n + 1) / card->live_time_s;
}
