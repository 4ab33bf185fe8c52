// SvelteKit as its template makes it: hot replacement, and a form whose Origin it compares with the address it believes to have.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { tempDir } from '../e2e/lib/run.mjs';
import { startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, edit, lacks, openPage, project } from './lib/browser.mjs';
import { devServer } from './lib/servers.mjs';

const files = {
  'package.json': JSON.stringify({ name: 'shop', private: true, type: 'module', scripts: { dev: 'vite dev' } }),
  'vite.config.js': "import { sveltekit } from '@sveltejs/kit/vite';\nimport { defineConfig } from 'vite';\nexport default defineConfig({ plugins: [sveltekit()] });\n",
  'svelte.config.js': 'export default { kit: {} };\n',
  'src/app.html': '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><link rel="icon" href="data:,"><title>shop</title>%sveltekit.head%</head>\n<body><div style="display: contents">%sveltekit.body%</div></body>\n</html>\n',
  'src/routes/+page.svelte': '<script>\n  let { form } = $props();\n  let count = $state(0);\n</script>\n<h1>before</h1>\n<button type="button" onclick={() => count++}>{count}</button>\n<form method="POST"><input name="what" value="a lamp"><button>Buy</button></form>\n{#if form}<p>bought {form.what}</p>{/if}\n<style>h1 { color: rgb(1, 2, 3); }</style>\n',
  'src/routes/+page.server.js': "export const actions = { default: async ({ request }) => ({ what: (await request.formData()).get('what') }) };\n",
};

for (const [protocol, socket] of [['h2', 200], ['h1', 101]])
  test(`SvelteKit over ${protocol}`, { skip: lacks }, async (t) => {
    const dir = tempDir(t);
    const app = project(t, files);
    const vite = await devServer(t, dir, app, 'vite/bin/vite.js', ['dev', '--port', '0']);
    const relay = await startRelay(t, dir);
    const agent = await startAgent(t, dir, relay, vite.port);
    const { url } = visitor(relay, agent);
    const { page, problems, sockets } = await openPage(await browser(t, dir, relay, { protocol }), url);
    await page.getByRole('button', { name: 'Buy' }).click();
    await page.getByText('bought a lamp').waitFor();

    // Only a page that its script has taken over counts, and is one that changes are told to.
    await page.waitForFunction(() => {
      const button = document.querySelector('button');
      button.click();
      return button.textContent !== '0';
    });
    // The component is replaced in the page that is open.
    edit(path.join(app, 'src/routes/+page.svelte'), 'before', 'after');
    await page.getByRole('heading', { name: 'after' }).waitFor();
    edit(path.join(app, 'src/routes/+page.svelte'), 'rgb(1, 2, 3)', 'rgb(4, 5, 6)');
    await page.waitForFunction(() => getComputedStyle(document.querySelector('h1')).color === 'rgb(4, 5, 6)');
    assert.equal(await page.getByText('bought a lamp').count(), 1, 'it was loaded again');

    assert.deepEqual(problems, []);
    assert.deepEqual([...new Set(sockets.map((s) => `${new URL(s.url).host} ${s.status}`))], [`${new URL(url).host} ${socket}`]);
  });
