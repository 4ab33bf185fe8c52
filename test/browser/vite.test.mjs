// Vite with React as its template makes it: nothing in it knows of the tunnel.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { tempDir } from '../e2e/lib/run.mjs';
import { startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, edit, lacks, openPage, project } from './lib/browser.mjs';
import { devServer } from './lib/servers.mjs';

const files = {
  'package.json': JSON.stringify({ name: 'shop', private: true, type: 'module', scripts: { dev: 'vite' } }),
  'vite.config.js': "import { defineConfig } from 'vite';\nimport react from '@vitejs/plugin-react';\nexport default defineConfig({ plugins: [react()] });\n",
  'index.html': '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><link rel="icon" href="data:,"><title>shop</title></head>\n<body><div id="root"></div><script type="module" src="/src/main.jsx"></script></body>\n</html>\n',
  'src/main.jsx': "import { StrictMode } from 'react';\nimport { createRoot } from 'react-dom/client';\nimport './index.css';\nimport App from './App.jsx';\ncreateRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);\n",
  'src/index.css': 'h1 { color: rgb(1, 2, 3); }\n',
  'src/App.jsx': "import { useState } from 'react';\nexport default function App() {\n  const [count, setCount] = useState(0);\n  return <><h1>before</h1><button onClick={() => setCount(count + 1)}>{count}</button></>;\n}\n",
};

for (const [protocol, socket] of [['h2', 200], ['h1', 101]])
  test(`Vite with React over ${protocol}`, { skip: lacks }, async (t) => {
    const dir = tempDir(t);
    const app = project(t, files);
    const vite = await devServer(t, dir, app, 'vite/bin/vite.js', ['--port', '0']);
    const relay = await startRelay(t, dir);
    const agent = await startAgent(t, dir, relay, vite.port);
    const { url } = visitor(relay, agent);
    const { page, problems, sockets, protocol: spoken } = await openPage(await browser(t, dir, relay, { protocol }), url);
    await page.getByRole('button').click();
    await page.getByRole('button', { name: '1' }).waitFor();
    assert.equal(await spoken(), protocol === 'h1' ? 'http/1.1' : protocol);

    // The component is replaced in the page that is open: its state stays, so nothing was loaded again.
    edit(path.join(app, 'src/App.jsx'), 'before', 'after');
    await page.getByRole('heading', { name: 'after' }).waitFor();
    assert.equal(await page.getByRole('button').textContent(), '1');
    edit(path.join(app, 'src/index.css'), 'rgb(1, 2, 3)', 'rgb(4, 5, 6)');
    await page.waitForFunction(() => getComputedStyle(document.querySelector('h1')).color === 'rgb(4, 5, 6)');

    assert.deepEqual(problems, []);
    assert.deepEqual(sockets.map((s) => [new URL(s.url).host, s.status]), [[new URL(url).host, socket]]);
  });
