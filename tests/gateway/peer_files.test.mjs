// /v1/fs of the npm package: the same SDK calls against both servers, and what the package does badly.
import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Both, tar } from './both.mjs';

const text = (bytes) => Buffer.from(bytes).toString();
const byName = (entries) => entries.sort((a, b) => (a.name < b.name ? -1 : 1));

describe('files as the SDK knows them', () => {
  let b;
  before(async () => (b = await Both.start()));
  after(() => b.stop());

  test('are written, read, listed, moved and deleted as before', async () => {
    await b.same('write', (s) => s.writeFsFile({ path: 'w/a/b.txt' }, 'hello'));
    await b.same('write again', (s) => s.writeFsFile({ path: 'w/a/b.txt' }, 'hello!'));
    await b.same('write nothing', (s) => s.writeFsFile({ path: 'w/empty' }, ''));
    await b.same('read', async (s) => text(await s.readFsFile({ path: 'w/a/b.txt' })));
    await b.same('read nothing', async (s) => text(await s.readFsFile({ path: 'w/empty' })));
    await b.same('read by absolute path', async (s, { home }) => text(await s.readFsFile({ path: `${home}/w/a/b.txt` })));
    await b.same('stat a file', (s) => s.statFs({ path: 'w/a/b.txt' }));
    await b.same('stat a directory', (s) => s.statFs({ path: 'w/a' }));
    await b.same('list', async (s) => byName(await s.listFsEntries({ path: 'w' })));
    await b.same('mkdir', (s) => s.mkdirFs({ path: 'w/c/d' }));
    await b.same('mkdir again', (s) => s.mkdirFs({ path: 'w/c/d' }));
    await b.same('move', (s) => s.moveFs({ from: 'w/a/b.txt', to: 'w/new/name.txt' }));
    await b.same('move over a file', async (s) => {
      await s.writeFsFile({ path: 'w/other' }, 'x');
      return s.moveFs({ from: 'w/other', to: 'w/new/name.txt', overwrite: true });
    });
    await b.same('move a directory', (s) => s.moveFs({ from: 'w/c', to: 'w/e' }));
    await b.same('delete', (s) => s.deleteFsEntry({ path: 'w/new/name.txt' }));
    await b.same('delete a tree', (s) => s.deleteFsEntry({ path: 'w', recursive: true }));
  });

  test('are refused as before', async () => {
    await b.same('read what is not there', (s) => s.readFsFile({ path: 'none' }));
    await b.same('read a directory', async (s) => {
      await s.mkdirFs({ path: 'r/full' });
      await s.writeFsFile({ path: 'r/full/file' }, 'x');
      return s.readFsFile({ path: 'r' });
    });
    await b.same('read below home with ..', (s) => s.readFsFile({ path: '../x' }));
    await b.same('read nothing in particular', (s) => s.readFsFile({}));
    await b.same('list what is not there', (s) => s.listFsEntries({ path: 'none' }));
    await b.same('list a file', (s) => s.listFsEntries({ path: 'r/full/file' }));
    await b.same('stat what is not there', (s) => s.statFs({ path: 'none' }));
    await b.same('write over a directory', (s) => s.writeFsFile({ path: 'r' }, 'x'));
    await b.same('write below a file', (s) => s.writeFsFile({ path: 'r/full/file/x' }, 'x'));
    await b.same('mkdir over a file', (s) => s.mkdirFs({ path: 'r/full/file' }));
    await b.same('delete what is not there', (s) => s.deleteFsEntry({ path: 'none' }));
    await b.same('delete what is full', (s) => s.deleteFsEntry({ path: 'r' }));
    await b.same('delete, badly asked', (s) => s.deleteFsEntry({ path: 'r', recursive: 'yes' }));
    await b.same('move what is not there', (s) => s.moveFs({ from: 'none', to: 'x' }));
    await b.same('move onto something', async (s) => {
      await s.writeFsFile({ path: 'there' }, 'x');
      return s.moveFs({ from: 'r', to: 'there' });
    });
    await b.same('move out of home', (s) => s.moveFs({ from: 'r', to: '../r' }));
    await b.same('move, without a place', (s) => s.moveFs({ from: 'r' }));
  });

  test('come in archives', async () => {
    await b.same('unpack', (s) => s.uploadFsBatch(tar([['x/', ''], ['x/one', '1'], ['x/l', { link: 'one' }]]), { path: 'up' }));
    await b.same('read what was unpacked', async (s) => text(await s.readFsFile({ path: 'up/x/l' })));
    await b.same('unpack nothing', (s) => s.uploadFsBatch('', { path: 'up2' }));
    await b.same('unpack a way out', (s) => s.uploadFsBatch(tar([['../t/x', '1']]), { path: 'up' }));
    await b.better('unpack garbage', (s) => s.uploadFsBatch('garbage', { path: 'up' }), (ours, peer) => assert.equal(ours.status, peer.status));
  });

  // Move onto itself with overwrite deleted the file.
  test('moved onto themselves stay', async () => {
    await b.better('move onto itself', async (s) => {
      await s.writeFsFile({ path: 'self' }, 'kept');
      await s.moveFs({ from: 'self', to: 'self', overwrite: true }).catch(() => {});
      return text(await s.readFsFile({ path: 'self' }));
    }, (ours) => assert.equal(ours, 'kept'));
  });

  // A file moved over a directory with overwrite deleted all that was in the directory.
  test('do not replace directories', async () => {
    await b.better('move a file over a directory', async (s) => {
      await s.writeFsFile({ path: 'dir/precious' }, 'kept');
      await s.writeFsFile({ path: 'file' }, 'x');
      const answer = await s.moveFs({ from: 'file', to: 'dir', overwrite: true }).catch((e) => ({ status: e.status }));
      return { ...answer, precious: await s.readFsFile({ path: 'dir/precious' }).then(text, () => 'gone') };
    }, (ours) => assert.deepEqual(ours, { status: 409, precious: 'kept' }));
  });

  // Everything over 2 MiB was refused.
  test('are as large as they are', async () => {
    await b.better('write 20 MiB', async (s) => (await s.writeFsFile({ path: 'large' }, Buffer.alloc(20 << 20, 'x'))).bytesWritten,
      (ours) => assert.equal(ours, 20 << 20));
    assert.equal((await b.ours.sdk.readFsFile({ path: 'large' })).length, 20 << 20);
    await b.better('unpack 5 MiB', (s) => s.uploadFsBatch(tar([['big', 'x'.repeat(5 << 20)]]), { path: 'up' }),
      (ours) => assert.deepEqual(ours, { paths: ['~/up/big'], truncated: false }));
  });

  // A link in an archive led out of the directory for the entries after it, and hard links to any file were made.
  test('of an archive stay below its directory', async () => {
    await b.better('unpack through a link', async (s, { home }) => {
      mkdirSync(join(home, 'outside'));
      const answer = await s.uploadFsBatch(tar([['l', { link: `${home}/outside` }], ['l/pwn', 'x']]), { path: 'jail' }).catch((e) => ({ status: e.status }));
      return { ...answer, pwned: existsSync(join(home, 'outside/pwn')) };
    }, (ours) => assert.deepEqual(ours, { status: 400, pwned: false }));
  });

  // A link that points nowhere could not be deleted.
  test('that point nowhere can be deleted', async () => {
    await b.better('delete a dangling link', async (s, { home }) => {
      symlinkSync('nowhere', join(home, 'dangling'));
      return s.deleteFsEntry({ path: 'dangling' });
    }, (ours) => assert.deepEqual(ours, { path: '~/dangling' }));
    assert.throws(() => lstatSync(join(b.home, 'dangling')));
  });

  test('of a directory with links and many entries are all listed', async () => {
    for (const { home } of [b.ours, b.peer]) {
      mkdirSync(join(home, 'many/sub'), { recursive: true });
      for (let i = 0; i < 2500; i++) writeFileSync(join(home, `many/f${i}`), 'x');
      for (const [name, to] of [['dir', 'sub'], ['file', 'f1'], ['none', 'nowhere']]) symlinkSync(to, join(home, 'many', name));
    }
    const entries = await b.same('list 2504 entries', async (s) => byName(await s.listFsEntries({ path: 'many' })));
    assert.equal(entries.length, 2504);
    assert.equal(readFileSync(join(b.home, 'many/file'), 'utf8'), 'x');
  });
});
