/* SPDX-License-Identifier: GPL-3.0-or-later
 * Any bytes as the text of a stream's spec. A refusal leaves one line; what is accepted is possible, agrees
 * with itself, and is the same spec after it was written and read again. */
#include "pipeline/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort(); /* what a fuzzer understands */
}

static void check_line(const char *text)
{
    check(*text);
    for (; *text; text++)
        check((unsigned char)*text >= 0x20);
}

static bool ends(const char *text, size_t n)
{
    return memchr(text, '\0', n) != NULL;
}

static void check_possible(const gw_spec *s)
{
    check(ends(s->name, sizeof s->name) && ends(s->detector, sizeof s->detector) &&
          ends(s->unit, sizeof s->unit) && ends(s->whitening, sizeof s->whitening) &&
          ends(s->cleaning, sizeof s->cleaning));
    check(!s->rate.num == !s->rate.den);
    check(s->dtype == 0 || gw_dtype_bytes(s->dtype));
    for (uint32_t i = 0; s->channel && i < s->n_channels; i++)
        check(ends(s->channel[i], sizeof s->channel[i]));
}

static void check_same(const gw_spec *a, const gw_spec *b)
{
    check(!strcmp(a->name, b->name) && !strcmp(a->detector, b->detector) && !strcmp(a->unit, b->unit) &&
          !strcmp(a->whitening, b->whitening) && !strcmp(a->cleaning, b->cleaning));
    check(a->rate.num == b->rate.num && a->rate.den == b->rate.den && a->phase_ns == b->phase_ns);
    check(a->dtype == b->dtype && a->n_channels == b->n_channels && a->block_samples == b->block_samples);
    for (uint32_t i = 0; a->channel && b->channel && i < a->n_channels; i++)
        check(!strcmp(a->channel[i], b->channel[i]));
    check(gw_spec_agrees(a, b) && gw_spec_agrees(b, a) && gw_spec_hash(a) == gw_spec_hash(b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gw_spec s, again;
    const int err = gw_spec_read((const char *)data, size, &s);
    if (err) {
        check(err == GW_EFORMAT && !s.channel);
        check_line(gw_err_detail());
        return 0;
    }
    check_possible(&s);
    check(gw_spec_agrees(&s, &s));
    /* A spec states what it states: a text that leaves something out is no whole spec, and is not written. */
    if (s.rate.num && s.dtype && s.n_channels) {
        char *text;
        check(gw_spec_write(&s, &text) == GW_OK);
        check(gw_spec_read(text, strlen(text), &again) == GW_OK);
        check_same(&s, &again);
        free(text);
        gw_spec_free(&again);
    }
    gw_spec_free(&s);
    return 0;
}
