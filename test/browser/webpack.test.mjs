// webpack-dev-server as "webpack serve" starts it, but for one flag: its client is compiled with the server's own port in it and would open
// wss://NAME:8080/ws beside a page that is at another port; port 0 stands for the page's. Host and Origin are checked as always.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { tempDir } from '../e2e/lib/run.mjs';
import { startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, edit, lacks, openPage, project } from './lib/browser.mjs';
import { devServer } from './lib/servers.mjs';

const files = {
  'package.json': JSON.stringify({ name: 'shop', private: true, scripts: { start: 'webpack serve' } }),
  'webpack.config.js': "const Html = require('html-webpack-plugin');\nmodule.exports = { mode: 'development', entry: './src/index.js', plugins: [new Html({ title: 'shop' })] };\n",
  'src/index.js': "import text from './text.js';\nconst h1 = document.body.appendChild(document.createElement('h1'));\nh1.textContent = text;\nwindow.started = Date.now();\nif (module.hot) module.hot.accept('./text.js', () => { h1.textContent = text; });\n",
  'src/text.js': "export default 'before';\n",
};

for (const [protocol, socket] of [['h2', 200], ['h1', 101]])
  test(`webpack-dev-server over ${protocol}`, { skip: lacks }, async (t) => {
    const dir = tempDir(t);
    const app = project(t, files);
    const webpack = await devServer(t, dir, app, 'webpack-cli/bin/cli.js', ['serve', '--client-web-socket-url', 'auto://0.0.0.0:0/ws']);
    const relay = await startRelay(t, dir);
    const agent = await startAgent(t, dir, relay, webpack.port);
    const { url } = visitor(relay, agent);
    const { page, problems, sockets } = await openPage(await browser(t, dir, relay, { protocol }), url);
    await page.getByRole('heading', { name: 'before' }).waitFor();
    const started = await page.evaluate(() => window.started);

    edit(path.join(app, 'src/text.js'), 'before', 'after');
    await page.getByRole('heading', { name: 'after' }).waitFor();
    assert.equal(await page.evaluate(() => window.started), started, 'the module was replaced, the page was not loaded again');

    // What cannot be replaced loads the page again, by a message of the same socket.
    edit(path.join(app, 'src/index.js'), "'h1'", "'h2'");
    await page.waitForFunction((before) => window.started > before && document.querySelector('h2')?.textContent === 'after', started);
    assert.deepEqual(problems, []);
    assert.deepEqual([...new Set(sockets.map((s) => `${new URL(s.url).host} ${s.status}`))], [`${new URL(url).host} ${socket}`]);
  });
