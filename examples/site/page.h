/* page.h: the page of the example site, in two halves; the request's headers stand between them. */
#ifndef SITE_PAGE_H
#define SITE_PAGE_H

static const char page_top[] =
    "<!doctype html><html lang=en><head><meta charset=utf-8>"
    "<meta name=viewport content='width=device-width,initial-scale=1'><title>It works</title><style>"
    ":root{color-scheme:light "
    "dark;--ink:#16202e;--dim:#5b6b80;--paper:#f6f8fb;--card:#fff;--line:#dde4ee;--beam:#1267d6}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8eef7;--dim:#93a3b8;--paper:#0d131c;--card:#151d29;--"
    "line:#263347;--beam:#6cb0ff}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.55 "
    "system-ui,sans-serif}"
    "main{max-width:46rem;margin:0 auto;padding:4rem 1.25rem}h1{font-size:2.6rem;line-height:1.1;margin:0 0 "
    ".5rem}"
    "p{margin:.4rem 0;color:var(--dim)}a{color:var(--beam)}section{background:var(--card);border:1px solid "
    "var(--line);"
    "border-radius:14px;padding:1.25rem 1.4rem;margin-top:1.5rem}h2{font-size:1rem;margin:0 0 .6rem}"
    "#clock{font:600 2rem/1.2 "
    "ui-monospace,monospace;color:var(--beam)}table{width:100%;border-collapse:collapse;font-size:.9rem}"
    "td{border-top:1px solid var(--line);padding:.35rem .5rem .35rem "
    "0;vertical-align:top;word-break:break-word}"
    "td:first-child{color:var(--dim);white-space:nowrap}tr:first-child "
    "td{border:0}</style></head><body><main>"
    "<h1>It works.</h1><p>This page comes from a small program on port 3000 of this machine, through a Beam "
    "tunnel.</p>"
    "<p>Stop it, start your own program there, and reload: the address stays.</p>"
    "<section><h2>Server-sent events, one a second</h2><div id=clock>&hellip;</div></section>"
    "<section><h2>What the program was asked</h2><table>";

static const char page_end[] =
    "</table></section><p style='margin-top:1.5rem'><a href=/source>The program's "
    "source</a></p></main><script>"
    "new EventSource('/events').onmessage=e=>document.getElementById('clock').textContent=e.data"
    "</script></body></html>\n";

#endif
