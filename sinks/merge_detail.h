/* SPDX-License-Identifier: GPL-3.0-or-later
 * What an event made of several branches' words says beyond the best of them: detectors and detail. Pure
 * logic on text, called by merge.c. */
#ifndef GW_MERGE_DETAIL_H
#define GW_MERGE_DETAIL_H

#include "pipeline/event.h"

/* The names of all the words' detectors, each once, sorted: "H1,L1,V1". word[n_words]; NULL: none of this
 * branch. */
void gw_merge_detectors(const gw_event *const *word, int n_words,
                        char text[sizeof((gw_event *)0)->detectors]);

/* A JSON object: the members of `top`'s detail; "arrivals" of all detectors, top's before the others'; "trials";
 * and "branches", a list with each word's stream, detectors, phase, gps, statistic, noise_rate_hz, model,
 * sha256, and the members of its own detail. Where there is too little room, all come without "background", then
 * the last ones without any such members, and then not at all. What is no JSON object is left out. */
void gw_merge_detail(char text[sizeof((gw_event *)0)->detail], const gw_event *top,
                     const gw_event *const *word, int n_words, int trials);

#endif
