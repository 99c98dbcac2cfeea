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

/* A detect stage that is judged: the program's own one, or one of --config's. What it does to noise and what is
 * told of it stands at the same place of a list of gw_eval_search. */
typedef struct gw_search {
    const char *name;             /* of its stage */
    char noise[24];               /* of the background stage in its place */
    const char *asked;            /* the model as the graph has it; NULL: the graph is the program's own */
    char model[GW_EVALUATE_PATH]; /* absolute */
    char card[GW_EVALUATE_PATH + 32]; /* that injections are searched with */
    char sha256[GW_SHA256_TEXT];
    gw_model about;
} gw_search;

typedef struct gw_evaluate {
    /* as asked for */
    const char *config, *out, *card; /* config, card NULL: none */
    double days, hours;
    int64_t injections, seed, slides, jobs; /* slides 0: as many as the days want */
    int n_snrs;
    double snr[GW_EVAL_SNRS], mass[2]; /* of either body, least and most, solar masses */
    bool json, quiet;
    /* settled */
    char folder[GW_EVALUATE_PATH]; /* absolute; of the pieces */
    int n_searches;
    gw_search search[GW_EVAL_SEARCHES];
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
/* The searches: the detect stages of --config, or the program's own. */
int gw_evaluate_searches(gw_evaluate *e);
/* Where a piece leaves its journal, or the archive of search i. */
void gw_piece_journal(const gw_evaluate *e, const gw_piece *p, char path[GW_EVALUATE_PATH + 80]);
void gw_piece_archive(const gw_evaluate *e, const gw_piece *p, int i, char path[GW_EVALUATE_PATH + 80]);

/* -- cmd_evaluate_pieces.c -- */

/* Runs those of the pieces that are not there yet, e->jobs at a time, with progress on stderr. A piece that is
 * there was made by the very same graph. GW_ECANCELED after Ctrl-C: what is finished stays. */
int gw_pieces_run(const gw_evaluate *e, const gw_piece *p, int n, const char *what);

/* -- cmd_evaluate_read.c -- */

/* Adds an archive to the background of search i, whose model it must be of; or, i < 0, of the search that it is of: whose
 * `background` stage in --config has its name, or else the only one with its model. GW_EMISMATCH. */
int gw_evaluate_archive(const gw_evaluate *e, int i, const char *path, gw_eval_search *list);

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
/* A card that `detect` takes for the i-th search, replaced whole or not at all. m NULL: thresholds and background
 * alone. Sections of a card that is there already, of this model, and that are not evaluate's own are kept. */
int gw_evaluate_card(const gw_evaluate *e, const char *path, int i, const gw_eval *m,
                     const gw_eval_about *about);
int gw_evaluate_json(const gw_evaluate *e, FILE *to, const gw_eval *m, const gw_eval_about *about);
/* evaluate.json in the folder. */
int gw_evaluate_write_json(const gw_evaluate *e, const gw_eval *m, const gw_eval_about *about);

/* -- cmd_evaluate_print.c -- */

void gw_evaluate_print(const gw_evaluate *e, const gw_eval *m, const gw_eval_about *about);

#endif
