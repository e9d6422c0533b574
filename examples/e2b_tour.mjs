// The tour of e2b_tour.py with the official JavaScript SDK. Node 20.18 or newer; once in this folder: `npm ci`.
//
// It imports nothing but the SDK and runs unchanged against E2B cloud, a self-hosted E2B or
// `python -m agent sandbox serve`: only E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY differ.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'

import { Sandbox } from '@e2b/code-interpreter'
import { CommandExitError } from 'e2b'

const MB = 1024 * 1024

async function code(sandbox) {
  await sandbox.runCode('x = 20')
  const lines = []
  const ran = await sandbox.runCode("for i in range(3): print('line', i)\nx + 1", {
    onStdout: (out) => lines.push(out.line),
  })
  assert.equal(ran.text, '21')
  assert.equal(lines.join(''), 'line 0\nline 1\nline 2\n')
  const failed = await sandbox.runCode('1 / 0')
  assert.equal(failed.error.name, 'ZeroDivisionError')
  assert.match(failed.error.traceback, /1 \/ 0/)
  console.log('code      ', ran.text, '|', failed.error.name)
}

async function chart(sandbox) {
  const ran = await sandbox.runCode(`
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [1, 4, 9], label="squares"); plt.title("growth"); plt.xlabel("n"); plt.legend(); plt.show()
`)
  const drawn = ran.results[0]
  assert.equal(drawn.chart.title, 'growth')
  assert.deepEqual([...Buffer.from(drawn.png, 'base64').subarray(1, 4)], [...Buffer.from('PNG')])
  console.log('chart     ', drawn.chart.type, drawn.chart.title, drawn.png.length, 'base64 characters of PNG')
}

async function frame(sandbox) {
  const ran = await sandbox.runCode("import pandas as pd; pd.DataFrame({'model': ['a', 'b'], 'loss': [0.5, 0.25]})")
  assert.equal(ran.error, undefined)
  const table = ran.results[0]
  assert.match(table.html, /<table/)
  assert.deepEqual(table.data, { model: ['a', 'b'], loss: [0.5, 0.25] })
  console.log('DataFrame ', JSON.stringify(table.data))
}

async function contexts(sandbox) {
  const bash = await sandbox.createCodeContext({ language: 'bash', cwd: '/tmp' })
  const ran = await sandbox.runCode('pwd', { context: bash })
  assert.equal(ran.logs.stdout.join(''), '/tmp\n')
  const listed = await sandbox.listCodeContexts()
  assert(listed.some((context) => context.id === bash.id))
  await sandbox.restartCodeContext(bash)
  await sandbox.removeCodeContext(bash)
  console.log('contexts  ', listed.length, 'with', bash.language, 'in', bash.cwd)
}

async function commands(sandbox) {
  const ran = await sandbox.commands.run('echo $GREETING from $(whoami); pwd', { envs: { GREETING: 'hello' } })
  assert.equal(ran.stdout, 'hello from user\n/home/user\n')
  await assert.rejects(sandbox.commands.run('echo oops >&2; exit 7'), (failed) => {
    assert(failed instanceof CommandExitError)
    return failed.exitCode === 7 && failed.stderr === 'oops\n'
  })
  let hear
  const heard = new Promise((resolve) => (hear = resolve))
  const loop = await sandbox.commands.run('while read line; do echo got $line; done', {
    background: true,
    stdin: true,
    onStdout: (text) => hear(text),
  })
  await sandbox.commands.sendStdin(loop.pid, 'one\n')
  assert((await sandbox.commands.list()).some((process) => process.pid === loop.pid))
  assert.equal(await heard, 'got one\n')
  assert(await loop.kill())
  await assert.rejects(loop.wait(), CommandExitError)
  console.log('commands  ', ran.stdout.split('\n')[0], '| background pid', loop.pid, 'said', (await heard).trim())
}

async function terminal(sandbox) {
  let seen = ''
  const pty = await sandbox.pty.create({ cols: 80, rows: 24, onData: (data) => (seen += Buffer.from(data)) })
  await sandbox.pty.resize(pty.pid, { cols: 100, rows: 40 })
  await sandbox.pty.sendInput(pty.pid, new TextEncoder().encode('stty size; exit\n'))
  await pty.wait()
  assert.match(seen, /40 100/)
  console.log('terminal   resized to 40 x 100')
}

async function watch(sandbox) {
  await sandbox.files.makeDir('watched')
  let see
  const seen = new Promise((resolve) => (see = resolve))
  const handle = await sandbox.files.watchDir('watched', (event) => event.name === 'new.txt' && see(event))
  await sandbox.files.write('watched/new.txt', 'x')
  const event = await seen
  await handle.stop()
  console.log('watch     ', event.type, event.name)
}

async function bigFile(sandbox) {
  const block = Buffer.alloc(MB, Uint8Array.from({ length: 256 }, (_, byte) => byte))
  const whole = new Blob(Array(100).fill(block))
  await sandbox.files.write('big.bin', whole)
  assert.equal((await sandbox.files.getInfo('big.bin')).size, 100 * MB)
  const back = createHash('sha256')
  let size = 0
  for await (const part of await sandbox.files.read('big.bin', { format: 'stream' })) {
    back.update(part)
    size += part.length
  }
  const inside = (await sandbox.commands.run('sha256sum < big.bin')).stdout.split(' ')[0]
  assert.equal(size, 100 * MB)
  assert.equal(back.digest('hex'), inside)
  console.log('big file  ', size / MB, 'MB there and back, sha256', inside.slice(0, 12))
}

async function urls(sandbox) {
  const up = await sandbox.uploadUrl('signed.txt', { useSignatureExpiration: 60_000 })
  const form = new FormData()
  form.append('file', new Blob(['sent by a signed URL']), 'signed.txt')
  assert.equal((await fetch(up, { method: 'POST', body: form })).status, 200)
  const down = await sandbox.downloadUrl('signed.txt', { useSignatureExpiration: 60_000 })
  assert.equal(await (await fetch(down)).text(), 'sent by a signed URL')
  console.log('urls       signed, up and down')
}

async function port(sandbox) {
  await sandbox.files.write('site/index.html', 'served from inside')
  await sandbox.commands.run('python -m http.server 8000 --directory site', { background: true })
  const listens = "grep -q ':1F40 .* 0A ' /proc/net/tcp && echo yes || true"
  while ((await sandbox.commands.run(listens)).stdout !== 'yes\n') await pause(20)
  console.log('port       http://' + sandbox.getHost(8000))
}

const sandbox = await Sandbox.create({ metadata: { tour: 'yes' }, envs: { WHO: 'you' } })
try {
  console.log('sandbox   ', sandbox.sandboxId)
  for (const stop of [code, chart, frame, contexts, commands, terminal, watch, bigFile, urls, port]) await stop(sandbox)
  assert.deepEqual((await sandbox.getInfo()).metadata, { tour: 'yes' })
} finally {
  await sandbox.kill()
}
assert.equal(await sandbox.isRunning(), false)
console.log('all held')
