/* SPDX-License-Identifier: GPL-3.0-or-later
 * page.h. */
#include "sinks/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gw_page {
    char *path, *part;
    FILE *to;
};

static const char style[] =
    "body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;color:#1a1f29;"
    "background:#f6f6f4;margin:0}\n"
    "main{max-width:980px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:27px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 10px;border-bottom:1px solid #d5d7dc;"
    "padding-bottom:4px}h3{font-size:16px;margin:28px 0 8px}\n"
    "p{margin:6px 0 12px;max-width:80ch}.soft{color:#5f6672;font-size:13.5px}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}\n"
    ".tile{background:#fff;border:1px solid #dddfe3;border-radius:6px;padding:10px 16px;min-width:150px}\n"
    ".tile b{display:block;font-size:22px;font-weight:600;white-space:nowrap}.tile "
    "span{color:#5f6672;font-size:13px}\n"
    "img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid #dddfe3;border-radius:6px;"
    "margin:10px 0}\n"
    ".pair{display:flex;flex-wrap:wrap;gap:10px}.pair img{margin:0;max-width:474px}\n"
    "table{border-collapse:collapse;background:#fff;font-variant-numeric:tabular-nums;font-size:14px;margin:"
    "10px "
    "0}\n"
    "th,td{border:1px solid #dddfe3;padding:5px "
    "11px;text-align:right}th{background:#eef0f2;font-weight:600}\n"
    "td:first-child,th:first-child,.text td{text-align:left}tr.out td{color:#5f6672}\n"
    "code{font-size:13px}footer{margin-top:44px;color:#5f6672;font-size:13px}\n"
    "@media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}"
    "img,table,.tile{break-inside:avoid}h2,h3{break-after:avoid}}\n";

void gw_page_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '<')
            fputs("&lt;", to);
        else if (c == '>')
            fputs("&gt;", to);
        else if (c == '&')
            fputs("&amp;", to);
        else if (c == '"')
            fputs("&quot;", to);
        else if (c < 0x20 || c == 0x7f)
            putc(' ', to);
        else
            putc(c, to);
    }
}

static void put_base64(FILE *to, const char *data, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const unsigned b0 = (unsigned char)data[i], b1 = i + 1 < n ? (unsigned char)data[i + 1] : 0,
                       b2 = i + 2 < n ? (unsigned char)data[i + 2] : 0;
        putc(digit[b0 >> 2], to);
        putc(digit[(b0 & 3) << 4 | b1 >> 4], to);
        putc(i + 1 < n ? digit[(b1 & 15) << 2 | b2 >> 6] : '=', to);
        putc(i + 2 < n ? digit[b2 & 63] : '=', to);
    }
}

/* As an image of its own, for the glyphs of two SVG pictures in one page would have the same names. */
int gw_page_figure(FILE *to, const gw_chart *c, const char *what)
{
    char *data;
    size_t n;
    GW_TRY(gw_chart_svg(c, &data, &n));
    fprintf(to, "<img width=\"%.0f\" height=\"%.0f\" alt=\"%s\" src=\"data:image/svg+xml;base64,", c->width,
            c->height, what);
    put_base64(to, data, n);
    fputs("\">\n", to);
    free(data);
    return GW_OK;
}

/* ---- the file ---- */

int gw_page_new(gw_page **out, const char *path, const char *title)
{
    *out = NULL;
    gw_page *p = calloc(1, sizeof *p);
    const size_t n = strlen(path) + 6;
    if (!p || !(p->path = strdup(path)) || !(p->part = malloc(n))) {
        gw_page_destroy(&p);
        return gw_fail(GW_ENOMEM, "%s", path);
    }
    snprintf(p->part, n, "%s.part", path);
    p->to = fopen(p->part, "w");
    if (!p->to) {
        const int why = errno;
        free(p->part);
        p->part = NULL; /* nothing to take away */
        gw_page_destroy(&p);
        return gw_fail(GW_EIO, "%s: cannot be written (%s); name a file in a folder that is there", path,
                       strerror(why));
    }
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"generator\" content=\"gwstream " GW_VERSION "\">\n<title>",
          p->to);
    gw_page_text(p->to, title);
    fprintf(p->to, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", style);
    *out = p;
    return GW_OK;
}

FILE *gw_page_file(gw_page *p)
{
    return p->to;
}

int gw_page_fail(const gw_page *p)
{
    return gw_fail(GW_EIO, "%s: cannot be written (%s)", p->path, strerror(errno));
}

int gw_page_finish(gw_page *p)
{
    fputs("</main>\n</body>\n</html>\n", p->to);
    const bool written = fflush(p->to) == 0 && !ferror(p->to) && fsync(fileno(p->to)) == 0;
    const int why = errno;
    const bool closed = fclose(p->to) == 0;
    p->to = NULL;
    errno = written ? errno : why;
    if (!written || !closed || rename(p->part, p->path) != 0)
        return gw_page_fail(p);
    free(p->part);
    p->part = NULL;
    return GW_OK;
}

void gw_page_destroy(gw_page **out)
{
    gw_page *p = *out;
    *out = NULL;
    if (!p)
        return;
    if (p->to)
        fclose(p->to);
    if (p->part)
        remove(p->part);
    free(p->part);
    free(p->path);
    free(p);
}
