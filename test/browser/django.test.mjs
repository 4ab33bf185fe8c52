// Django as "django-admin startproject" makes it: its login form is guarded by a cookie, a token in the form and a check of Origin against Host.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { cleanEnv, patience, run, tempDir, until } from '../e2e/lib/run.mjs';
import { startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, edit, lacks, openPage, packages } from './lib/browser.mjs';
import { djangoServer, python } from './lib/servers.mjs';

const noDjango = !fs.existsSync(path.join(packages, 'python/django')) && 'Django is not installed: make browser';

for (const protocol of ['h2', 'h1'])
  test(`Django over ${protocol}`, { skip: lacks || noDjango }, async (t) => {
    const dir = tempDir(t);
    const env = cleanEnv(dir, { PYTHONPATH: path.join(packages, 'python'), DJANGO_SUPERUSER_PASSWORD: 'a long one 7' });
    const manage = async (...args) => assert.equal((await run(t, python, args, { cwd: dir, env, ms: patience * 3 })).code, 0, args.join(' '));
    await manage('-m', 'django', 'startproject', 'shop', '.');
    await manage('manage.py', 'migrate');
    await manage('manage.py', 'createsuperuser', '--no-input', '--username', 'admin', '--email', 'admin@example.com');
    const django = await djangoServer(t, dir, env);
    const relay = await startRelay(t, dir);
    const agent = await startAgent(t, dir, relay, django.port);
    const { url, name, visit } = visitor(relay, agent);
    const { page, context, problems } = await openPage(await browser(t, dir, relay, { protocol }), `${url}/admin/`);

    await t.test('the login form is accepted, and redirects stay in the tunnel', async () => {
      assert.equal(page.url(), `${url}/admin/login/?next=/admin/`);
      await page.getByLabel('Username').fill('admin');
      await page.getByLabel('Password').fill('a long one 7');
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.getByRole('heading', { name: 'Site administration' }).waitFor();
      assert.equal(page.url(), `${url}/admin/`);
      const cookies = await context.cookies();
      assert.deepEqual(cookies.map((c) => `${c.name} ${c.domain}`).sort(), [`csrftoken ${name}`, `sessionid ${name}`]);
    });

    await t.test('a form that writes', async () => {
      await page.goto(`${url}/admin/auth/group/add/`);
      await page.getByLabel('Name').fill('friends');
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page.getByRole('link', { name: 'friends' }).first().waitFor();
    });
    assert.deepEqual(problems, []);

    await t.test('the same form from another site is refused', async () => {
      // With the browser's own cookies and token, so that the Origin is all that is wrong with it.
      const cookies = await context.cookies();
      const headers = { cookie: cookies.map((c) => `${c.name}=${c.value}`).join('; '), 'x-csrftoken': cookies.find((c) => c.name === 'csrftoken').value };
      assert.equal((await visit('/admin/logout/', { method: 'POST', headers: { ...headers, origin: 'https://evil.test' } })).status, 403);
      assert.equal((await visit('/admin/logout/', { method: 'POST', headers: { ...headers, host: new URL(url).host, origin: url } })).status, 200);
    });

    await t.test('runserver loads a changed file', async () => {
      edit(path.join(dir, 'shop/urls.py'), "path('admin/', admin.site.urls),", "path('admin/', admin.site.urls), path('new/', lambda r: __import__('django.http').http.HttpResponse('new')),");
      await until(async () => (await visit('/new/')).text === 'new', 'the new view', patience * 3);
    });
  });
