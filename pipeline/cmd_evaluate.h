/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of `gwstream evaluate` share. cmd_evaluate.c has the options and the order of things;
 * cmd_evaluate_graph.c writes a piece's graph; cmd_evaluate_pieces.c runs pieces in processes of their own;
 * cmd_evaluate_read.c reads what they left; cmd_evaluate_write.c writes the card and evaluate.json,
 * cmd_evaluate_print.c the tables. The figures are sinks/evaluation.h's. */
#ifndef GW_CMD_EVALUATE_H
#define GW_CMD_EVALUATE_H

#include "pipeline/cmd_text.h"
#include "pipeline/config.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/model.h"
#include "sinks/evaluation.h"

#include <stdio.h>

enum { GW_PIECE_INJECTIONS = 25, GW_EVALUATE_PATH = 1024 };

typedef struct gw_evaluate {
    /* as asked for */
    const char *config, *out, *card; /* config, card NULL: none */
    double days, hours;
    int64_t injections, seed, slides, jobs; /* slides 0: as many as the days want */
    int n_snrs;
    double snr[GW_EVAL_SNRS];
    bool json, quiet;
    /* settled */
    char model[GW_EVALUATE_PATH], folder[GW_EVALUATE_PATH]; /* absolute; folder: of the pieces */
    char provisional[GW_EVALUATE_PATH + 16]; /* the card that the injections are searched with */
    char sha256[GW_SHA256_TEXT];
    gw_model about;
    gw_conf_file *graph; /* of `config`; NULL: the program's own */
} gw_evaluate;

/* A run of its own: so much of the background, or so many injections of one SNR. */
typedef struct gw_piece {
    char name[48];  /* of its files in the folder */
    double snr;     /* 0: background */
    int number;     /* among those of its kind: its noise */
    int injections; /* 0: background */
    double seconds; /* of data */
    char *yaml;
} gw_piece;

/* -- cmd_evaluate_graph.c -- */

/* Seconds of data that hold n injections, and nothing else. */
double gw_piece_seconds(int injections);
/* Sets p->yaml from the rest of it; the caller frees it. GW_ECONFIG for a --config that cannot be evaluated. */
int gw_piece_graph(const gw_evaluate *e, gw_piece *p);
/* The model that the one detect stage of --config names. */
int gw_evaluate_config_model(gw_evaluate *e, const char **model);
/* Where a piece leaves its journal or its archive. */
void gw_piece_journal(const gw_evaluate *e, const gw_piece *p, char path[GW_EVALUATE_PATH + 64]);
void gw_piece_archive(const gw_evaluate *e, const gw_piece *p, char path[GW_EVALUATE_PATH + 64]);

/* -- cmd_evaluate_pieces.c -- */

/* Runs those of the pieces that are not there yet, e->jobs at a time, with progress on stderr. A piece that is
 * there was made by the very same graph. GW_ECANCELED after Ctrl-C: what is finished stays. */
int gw_pieces_run(const gw_evaluate *e, const gw_piece *p, int n, const char *what);

/* -- cmd_evaluate_read.c -- */

/* Adds an archive to the background; it must be of the model. */
int gw_evaluate_archive(const gw_evaluate *e, const char *path, gw_eval_background *b);

typedef struct gw_signals {
    gw_eval_signal *s; /* [n] */
    size_t n, room;
    uint32_t chance; /* events that no injection explains */
} gw_signals;

/* Adds a piece's injections and what was found of them. GW_EFORMAT: there are not as many as there should be. */
int gw_piece_read(const gw_evaluate *e, const gw_piece *p, gw_signals *all);

/* -- cmd_evaluate_write.c -- */

/* Whether gw_evaluate_card may write there; to be asked before the work is done. */
int gw_evaluate_card_writable(const char *path);
/* A card that `detect` takes, replaced whole or not at all. m NULL: thresholds and background alone. Sections
 * of a card that is there already, of this model, and that are not evaluate's own are kept as they are. */
int gw_evaluate_card(const gw_evaluate *e, const char *path, const gw_eval_background *b, const gw_eval *m,
                     const gw_eval_about *about);
int gw_evaluate_json(const gw_evaluate *e, FILE *to, const gw_eval_background *b, const gw_eval *m,
                     const gw_eval_about *about);
/* evaluate.json in the folder. */
int gw_evaluate_write_json(const gw_evaluate *e, const gw_eval_background *b, const gw_eval *m,
                           const gw_eval_about *about);

/* -- cmd_evaluate_print.c -- */

void gw_evaluate_print(const gw_evaluate *e, const gw_eval_background *b, const gw_eval *m,
                       const gw_eval_about *about);

#endif
