// Next.js as its template makes it (app router, Turbopack): nothing in it knows of the tunnel.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { tempDir } from '../e2e/lib/run.mjs';
import { startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, edit, lacks, openPage, project } from './lib/browser.mjs';
import { devServer } from './lib/servers.mjs';

const files = {
  'package.json': JSON.stringify({ name: 'shop', private: true, scripts: { dev: 'next dev' }, dependencies: { next: '*', react: '*', 'react-dom': '*' } }),
  'next.config.mjs': 'export default {};\n',
  'app/layout.js': "export const metadata = { title: 'shop', icons: 'data:,' };\nexport default function Layout({ children }) {\n  return <html lang=\"en\"><body>{children}</body></html>;\n}\n",
  'app/page.js': "import Link from 'next/link';\nimport Counter from './counter';\nexport default function Page() {\n  return <main><h1>before</h1><Counter /><Link href=\"/orders\">orders</Link></main>;\n}\n",
  'app/counter.js': "'use client';\nimport { useState } from 'react';\nexport default function Counter() {\n  const [count, setCount] = useState(0);\n  return <button onClick={() => setCount(count + 1)}>{count}</button>;\n}\n",
  'app/orders/page.js': "import { order } from './actions';\nexport default function Orders() {\n  return <form action={order}><h1>orders</h1><input name=\"what\" /><button>order</button></form>;\n}\n",
  'app/orders/actions.js': "'use server';\nimport { cookies } from 'next/headers';\nimport { redirect } from 'next/navigation';\nexport async function order(form) {\n  (await cookies()).set('what', form.get('what'));\n  redirect('/thanks');\n}\n",
  'app/thanks/page.js': "import { cookies } from 'next/headers';\nexport default async function Thanks() {\n  return <h1>one {(await cookies()).get('what')?.value}</h1>;\n}\n",
  // A redirect to an address the app made of what it believes to be its own.
  'proxy.js': "import { NextResponse } from 'next/server';\nexport function proxy(request) {\n  return NextResponse.redirect(new URL('/orders', request.url));\n}\nexport const config = { matcher: '/old' };\n",
  'app/where/route.js': "export function GET(request) {\n  return new Response(null, { status: 302, headers: { Location: new URL('/orders', request.url).href } });\n}\n",
};

for (const [protocol, socket] of [['h2', 200], ['h1', 101]])
  test(`Next.js over ${protocol}`, { skip: lacks }, async (t) => {
    const dir = tempDir(t);
    const app = project(t, files);
    const next = await devServer(t, dir, app, 'next/dist/bin/next', ['dev', '--port', '0'], { env: { NEXT_TELEMETRY_DISABLED: '1' } });
    const relay = await startRelay(t, dir);
    const agent = await startAgent(t, dir, relay, next.port);
    const { url } = visitor(relay, agent);
    const { page, problems, sockets } = await openPage(await browser(t, dir, relay, { protocol }), url);

    await t.test('the page is alive, and a change of a component arrives in it', async () => {
      // Until React has taken the page over, a click does nothing.
      await page.waitForFunction(() => Object.keys(document.querySelector('button')).some((key) => key.startsWith('__react')));
      await page.getByRole('button', { name: '0' }).click();
      await page.getByRole('button', { name: '1' }).waitFor();
      edit(path.join(app, 'app/page.js'), 'before', 'after');
      await page.getByRole('heading', { name: 'after' }).waitFor();
      assert.equal(await page.getByRole('button', { name: /\d/ }).textContent(), '1');
      assert.deepEqual(sockets.map((s) => [new URL(s.url).host, s.status]), [[new URL(url).host, socket]]);
    });

    await t.test('navigation, and a form with a server action: Origin is compared with X-Forwarded-Host', async () => {
      await page.getByRole('link', { name: 'orders' }).click();
      await page.getByRole('textbox').fill('lamp');
      await page.getByRole('button', { name: 'order' }).click();
      await page.getByRole('heading', { name: 'one lamp' }).waitFor();
      assert.equal(page.url(), `${url}/thanks`);
    });

    await t.test('redirects that the app made of its own address', async () => {
      for (const from of ['/old', '/where']) {
        await page.goto(url + from);
        assert.equal(page.url(), `${url}/orders`, from);
      }
    });

    assert.deepEqual(problems, []);
    assert.doesNotMatch(next.stdout + next.stderr, /Blocked|does not match|⚠/);
  });
